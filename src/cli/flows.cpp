#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "command.hpp"
#include "table.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

std::string end_text(const json& end) {
  std::string text;
  if (const auto labels = end.find("labels"); labels != end.end() && labels->is_object()) {
    for (const auto& [key, value] : labels->items()) {
      text += (text.empty() ? "" : ",") + key + "=" + value.get<std::string>();
    }
  } else {
    text = end.value("quarantined", false) ? "(quarantined)" : end.value("entity", "");
    for (const json& network : end.value("networks", json::array())) {
      text += ",@" + network.get<std::string>();
    }
  }
  std::string address = end.value("address", "");
  if (const json names = end.value("names", json::array()); !names.empty()) {
    address += " " + names.front().get<std::string>();
  }
  return text.empty() ? address : address.empty() ? text : fmt::format("{} [{}]", text, address);
}

/// Two lines a flow: what, then why. Labels are too long for one line of 80.
void print_flow(const json& flow) {
  const std::string protocol = flow.value("protocol", "?");
  const int port = flow.value("port", 0);
  const std::string rule = flow.value("rule", "");
  const std::string reason = flow.value("reason", "");
  const std::string service = port == 0 ? protocol : fmt::format("{}/{}", protocol, port);
  const std::string line = fmt::format("{:<5} {} -> {} {}", flow.value("verdict", "?"), end_text(flow.value("source", json::object())),
                                       end_text(flow.value("destination", json::object())), service);
  const std::string why = rule.empty() ? reason : rule;
  fmt::print("{} {}\n", flow.value("time", "?"), printable(line));
  fmt::print("      {}\n", printable(why));
  std::fflush(stdout);
}

struct FlowOptions {
  bool follow = false;
  unsigned limit = 100;
};

int run_flows(const Globals& globals, const FlowOptions& options) {
  const auto show = [&](const json& flow) {
    globals.json ? print_json(flow) : print_flow(flow);
    return std::ferror(stdout) == 0;
  };
  const std::chrono::milliseconds timeout = options.follow ? std::chrono::milliseconds(0) : std::chrono::seconds(30);
  const auto answer = ask(globals, control::method::flows, {{"follow", options.follow}, {"limit", options.limit}}, timeout, show);
  return answer ? kYes : report(globals, answer.error());
}

}  // namespace

void add_flows(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "flows", "Show flows that were refused, audited or logged");
  const auto options = std::make_shared<FlowOptions>();
  command->add_flag("-f,--follow", options->follow, "go on as they happen");
  command->add_option("-n,--limit", options->limit, "at most this many past flows")->capture_default_str();
  command->callback([&globals, &action, options] { action = [&globals, options] { return run_flows(globals, *options); }; });
}

}  // namespace trireme::cli
