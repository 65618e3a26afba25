// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "command.hpp"
#include "diagnostics.hpp"
#include "table.hpp"
#include "trireme/control/explain.hpp"
#include "trireme/control/methods.hpp"
#include "trireme/control/world.hpp"
#include "trireme/policy/expiry.hpp"
#include "values.hpp"

namespace trireme::cli {
namespace {

struct Question {
  std::string from;
  std::string to;
  std::string port;
};

bool is_failed_test(const config::Diagnostic& diagnostic, const policy::Policy& policy) {
  return std::ranges::any_of(policy.tests, [&](const policy::PolicyTest& test) {
    return test.where.text() == diagnostic.where.text();
  });
}

/// What the running daemon knows about this host. Where none answers, or the caller must not ask
/// it, as in a repository of policy: only the addresses of this host.
policy::World known_world(const Globals& globals) {
  control::WorldReader reader;
  const auto answer = ask(globals, control::method::world, nlohmann::json::object(),
                          std::chrono::seconds(30), [&reader](const nlohmann::json& event) {
                            reader.add(event);
                            return true;
                          });
  auto world = answer ? reader.read(*answer) : tl::unexpected(answer.error());
  return world ? std::move(*world) : control::world_without_daemon();
}

/// Evaluates the files of a directory. A policy that fails its own tests is evaluated too, so that
/// one can find out why.
Result<nlohmann::json> explain_files(const Globals& globals, const Question& question) {
  const std::string& directory = globals.config_dir;
  const auto configuration = config::load(directory, config::KeyFiles::optional);
  std::size_t failed = 0;
  for (const auto& diagnostic : configuration.diagnostics) {
    if (is_error(diagnostic) && !is_failed_test(diagnostic, configuration.policy)) {
      return fail("the policy in " + directory + " is invalid: " + diagnostic.text(),
                  "'trirectl policy check' shows every error");
    }
    failed += is_error(diagnostic) ? 1U : 0U;
  }
  auto answer = control::explain(policy::in_force(configuration.policy, policy::now()),
                                 known_world(globals), question.from, question.to, question.port);
  if (answer && failed > 0) {
    const std::string note =
        fmt::format("{} of the policy's own tests {}: the daemon would not load it", failed,
                    failed == 1 ? "fails" : "fail");
    (*answer)["notes"].push_back(note);
    (*answer)["text"] = answer->value("text", "") + "  note:         " + note + "\n";
  }
  return answer;
}

int explain(const Globals& globals, const Question& question) {
  const auto answer =
      globals.config_dir.empty()
          ? ask(globals, control::method::explain,
                {{"from", question.from}, {"to", question.to}, {"port", question.port}})
          : explain_files(globals, question);
  if (!answer) {
    return report(globals, answer.error());
  }
  if (globals.json) {
    print_json(*answer);
  } else {
    fmt::print("{}", fit(printable_lines(answer->value("text", "")), 16));
    if (const std::string toml = answer->value("toml", ""); !toml.empty()) {
      fmt::print("\n# To allow it, save this in a file in policy.d:\n{}", printable_lines(toml));
    }
  }
  return answer->value("passes", false) ? kYes : kNo;
}

}  // namespace

void add_policy_explain(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "explain",
                                  "Show whether a flow is allowed, and which rule decides");
  const auto question = std::make_shared<Question>();
  command->add_option("--from", question->from, "source endpoint")->required()->type_name("END");
  command->add_option("--to", question->to, "destination endpoint")->required()->type_name("END");
  command->add_option("--port", question->port, "port: tcp/5432, https, udp/53, icmp, icmpv6")
      ->required()
      ->type_name("PORT")
      ->transform(one_port());
  command->footer(
      "An endpoint is the name of a current workload, labels like app=web,env=prod,\n"
      "@host, @world, @NAME of a [[network]], a DNS name, or an address.\n"
      "The running daemon answers; with --config-dir, the files there are evaluated\n"
      "with the workloads of the daemon, if one runs.\n"
      "Exit code 0: the flow is allowed; 1: it is denied, or there is no answer.");
  command->callback([&globals, &action, question] {
    action = [&globals, question] { return explain(globals, *question); };
  });
}

}  // namespace trireme::cli
