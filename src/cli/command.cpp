// SPDX-License-Identifier: Apache-2.0
#include "command.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "trireme/base/printable.hpp"
#include "trireme/control/instance.hpp"
#include "trireme/control/methods.hpp"
#include "usage.hpp"

namespace trireme::cli {

void add_globals(CLI::App& command, Globals& globals) {
  add_output(command, globals);
  const auto add = [&command](const char* name, std::string& directory, const char* description) {
    command.add_option(name, directory, description)->type_name("DIR")->take_last();
  };
  add("--runtime-dir", globals.runtime_dir, "runtime directory of triremed (/run/trireme)");
  add("--config-dir", globals.config_dir, "directory of policy.toml (default: the daemon's)");
}

CLI::App* add_command(CLI::App& parent, Globals& globals, const std::string& name,
                      const std::string& description) {
  CLI::App* command = parent.add_subcommand(name, description);
  add_globals(*command, globals);
  return command;
}

Result<nlohmann::json> ask(const Globals& globals, const char* method, const nlohmann::json& params,
                           std::chrono::milliseconds timeout,
                           const std::function<bool(const nlohmann::json&)>& on_event) {
  auto client = control::Client::connect(control::socket_path(globals.runtime_dir));
  if (!client) {
    return tl::unexpected(client.error());
  }
  if (globals.end_pipe >= 0) {
    client->end_with_reader(globals.end_pipe);
  }
  auto answer = client->call(method, params, timeout, on_event);
  if (globals.end_pipe >= 0 && answer && answer->is_null()) {
    return fail("the call was ended");
  }
  return answer;
}

int print_answer(const Globals& globals, const char* method, const nlohmann::json& params,
                 const std::function<void(const nlohmann::json&)>& print,
                 std::chrono::milliseconds timeout) {
  const auto answer = ask(globals, method, params, timeout);
  if (!answer) {
    return report(globals, answer.error());
  }
  globals.json ? print_json(*answer) : print(*answer);
  return kYes;
}

namespace {

/// The configuration directory of the running daemon; /etc/trireme if no daemon answers.
std::string daemon_dir(const Globals& globals) {
  const auto status =
      ask(globals, control::method::status, nlohmann::json::object(), std::chrono::seconds(5));
  const auto policy =
      status ? status->value("policy", nlohmann::json::object()) : nlohmann::json::object();
  return policy.value("directory", TRIREME_SYSCONFDIR);
}

}  // namespace

std::string configuration_dir(const Globals& globals) {
  return globals.config_dir.empty() ? daemon_dir(globals) : globals.config_dir;
}

bool is_same_directory(const std::string& one, const std::string& other) {
  std::error_code error;
  return std::filesystem::equivalent(one, other, error) && !error;
}

bool is_configuration_dir(const Globals& globals, const std::string& directory) {
  return is_same_directory(directory, TRIREME_SYSCONFDIR) ||
         is_same_directory(directory, daemon_dir(globals));
}

int report(const Globals& globals, const Error& error) {
  if (globals.json) {
    nlohmann::json object = {{"message", error.message}, {"hint", error.hint}};
    if (error.usage) {
      object["kind"] = "usage";
    }
    print_json({{"error", std::move(object)}});
  }
  std::fputs(error_lines("trirectl", error).c_str(), stderr);
  return error.usage ? kUsage : kNo;
}

std::string json_text(const nlohmann::json& value) {
  const std::string dumped = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  // dump() escapes only control characters below U+0020. Others are bytes of strings, too.
  std::string text;
  text.reserve(dumped.size());
  for (std::size_t at = 0; at < dumped.size();) {
    const ControlCharacter control = control_at(dumped, at);
    text += control.size > 0 ? fmt::format("\\u{:04x}", control.code) : dumped.substr(at, 1);
    at += control.size > 0 ? control.size : 1;
  }
  return text;
}

void print_json(const nlohmann::json& value) {
  std::puts(json_text(value).c_str());
  // A pipe makes stdout fully buffered, but a reader of `flows --follow` needs each line at once.
  std::fflush(stdout);
}

}  // namespace trireme::cli
