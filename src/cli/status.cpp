// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>

#include "capability_line.hpp"
#include "command.hpp"
#include "diagnostics.hpp"
#include "table.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/config/file_set.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

constexpr std::size_t kHead = 13;  // width of the field names on the left, with a space

void print_field(const std::string& head, const std::string& text) {
  fmt::print("{}\n", fit(fmt::format("{:<12} {}", head, printable(text)), kHead));
}

void print_list(const json& list, const char* head) {
  for (const auto& item : list) {
    print_field(head, item.get<std::string>());
    head = "";
  }
}

/// The daemon's word for how packets get to the handshake queues, in the form that status shows.
std::string queues_text(const std::string& queues) {
  return queues == "xtables NFQUEUE target" ? "NFQUEUE (xtables target)"
         : queues == "nf_tables queue"      ? "NFQUEUE (nf_tables)"
                                            : queues;
}

std::string peers_text(const json& peers) {
  std::string text;
  for (const auto& peer : peers) {
    text += (text.empty() ? "" : ", ") + peer.get<std::string>();
  }
  return text.empty() ? "none configured" : text;
}

/// How this host proves labels to remote hosts, to which of them, and who serves the handshakes.
void print_tokens(const json& tokens) {
  if (!tokens.is_object()) {
    return;
  }
  print_field("credential", tokens.value("credential", "?"));
  const int cached = tokens.value("peer_identities", 0);
  print_field("peers", fmt::format("{}; {} remote {} cached",
                                   peers_text(tokens.value("peers", json::array())), cached,
                                   cached == 1 ? "identity" : "identities"));
  print_field(
      "handshakes",
      fmt::format("{}, {}, {}", queues_text(tokens.value("queues", "?")),
                  counted(tokens.value("threads", std::uint64_t{0}), "thread"),
                  counted(tokens.value("enforcement_points", std::uint64_t{0}), "namespace")));
}

/// Whether the kernel quarantines a new container until the daemon knows it.
void print_births(const json& births) {
  const std::string state = births.value("quarantined", "off");
  const std::string reason = births.value("reason", "");
  if (state == "always") {
    print_field("births", "the kernel quarantines new containers, also while triremed is down");
  } else if (state == "while_running") {
    print_field("births", "the kernel quarantines new containers while triremed runs: " + reason);
  } else if (state == "absent") {
    print_field("births", "the kernel does not quarantine new containers: " + reason);
  }
}

void print_policy(const json& policy) {
  const auto generation = policy.value("generation", 0);
  print_field("policy", fmt::format("generation {}, {}, loaded {}", generation,
                                    counted(policy.value("rules", std::uint64_t{0}), "rule"),
                                    policy.value("loaded", "?")));
  print_field("", fmt::format("{}, digest {}", policy.value("directory", "?"),
                              policy.value("digest", "?").substr(0, 16)));
  if (const json errors = policy.value("errors", json::array()); !errors.empty()) {
    print_field("", fmt::format("the files on disk are invalid; generation {} stays in force:",
                                generation));
    print_list(errors, "errors");
  }
  print_list(policy.value("warnings", json::array()), "warnings");
}

void print_capabilities(const json& workloads) {
  for (const json& workload : workloads) {
    for (const auto& warning : workload.value("warnings", json::array())) {
      if (const auto text = warning.get<std::string>(); is_about_capability(workload, text)) {
        print_field("", fmt::format("{}: {}", workload.value("name", "?"), text));
      }
    }
  }
}

/// The quarantines that operators ordered.
void print_holds(const json& holds) {
  const char* head = "held";
  for (const auto& hold : holds) {
    const std::string reason = hold.value("reason", "");
    print_field(head, fmt::format("{}: ordered by {} at {}{}{}{}", hold.value("name", "?"),
                                  hold.value("by", "?"), hold.value("since", "?"),
                                  reason.empty() ? "" : ": ", reason,
                                  hold.value("live", true) ? "" : " (not running)"));
    head = "";
  }
}

/// A change that waits for `policy confirm`.
void print_pending(const json& pending) {
  if (!pending.is_object()) {
    return;
  }
  const auto left = pending.value("seconds_left", 0);
  print_field(
      "pending",
      fmt::format("applied by {}; rolled back to digest {} at {} ({} {}) unless confirmed: "
                  "trirectl policy confirm",
                  pending.value("user", "?"), pending.value("rollback_digest", "?").substr(0, 16),
                  pending.value("confirm_until", "?"), left, left == 1 ? "second" : "seconds"));
}

/// `workloads`: those whose capabilities are listed, with `verbose`.
void print_status(const json& status, bool verbose, const json& workloads) {
  print_field("trireme", status.value("version", "?"));
  const std::string mode = status.value("mode", "?");
  fmt::print("{:<12} {}{}\n", "mode", paint_verdict(mode, mode),
             mode == "audit" ? ": nothing is blocked; would-be refusals are logged" : "");
  print_policy(status.value("policy", json::object()));
  print_pending(status.value("pending", json()));
  if (const json counts = status.value("workloads", json()); counts.is_object()) {
    print_field(
        "workloads",
        fmt::format("{} enforced, {} quarantined, {} unenforced", counts.value("enforced", 0),
                    counts.value("quarantined", 0), counts.value("unenforced", 0)));
  }
  if (const auto line = capability_line(status.value("capabilities", json::object()));
      !line.empty()) {
    print_field("", verbose ? line : line + "; -v lists them");
  }
  print_capabilities(workloads);
  print_holds(status.value("holds", json::array()));
  const json sources = status.value("sources", json::object());
  for (const auto& [name, state] : sources.items()) {
    print_field(name, state.get<std::string>());
  }
  print_field("cgroups", status.value("cgroup_driver", "?"));
  print_tokens(status.value("tokens", json()));
  print_births(status.value("gate", json::object()).value("births", json::object()));
  print_list(status.value("problems", json::array()), "problems");
}

/// Why the files in the daemon's directory are not in force; empty if they are.
std::vector<std::string> not_in_force(const json& policy) {
  std::vector<std::string> problems;
  for (const json& error : policy.value("errors", json::array())) {
    problems.push_back("not in force: " + error.get<std::string>());
  }
  if (!problems.empty()) {
    return problems;
  }
  const std::string directory = policy.value("directory", "");
  const auto configuration = config::load(directory, config::KeyFiles::optional);
  for (const auto& diagnostic : configuration.diagnostics) {
    if (is_error(diagnostic)) {
      problems.push_back("not in force: " + diagnostic.text());
    }
  }
  if (!problems.empty()) {
    return problems;
  }
  const config::Digests on_disk = config::digests_of(config::files_of(configuration));
  const auto check_digest = [&](const char* what, const std::string& digest, const char* key) {
    if (digest != policy.value(key, "")) {
      problems.push_back(
          fmt::format("not in force: the {} in {} differs from the one that was loaded {}", what,
                      directory, policy.value("loaded", "?")));
    }
  };
  check_digest("policy", on_disk.policy, "digest");
  check_digest("identity", on_disk.identity, "identity_digest");
  return problems;
}

int check_status(const Globals& globals) {
  const auto status = ask(globals, control::method::status, json::object());
  if (!status) {
    return report(globals, status.error());
  }
  auto problems = not_in_force(status->value("policy", json::object()));
  for (const json& problem : status->value("problems", json::array())) {
    problems.push_back(problem.get<std::string>());
  }
  if (globals.json) {
    print_json({{"ok", problems.empty()}, {"problems", problems}});
  } else {
    for (const std::string& problem : problems) {
      fmt::print("{}\n", printable(problem));
    }
  }
  return problems.empty() ? kYes : kNo;
}

}  // namespace

void add_status(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "status",
                                  "Show the state of the daemon and the policy in force");
  const auto verbose = std::make_shared<bool>(false);
  command->add_flag("-v,--verbose", *verbose, "list the capabilities of each workload");
  const auto check = std::make_shared<bool>(false);
  command->add_flag("--check", *check, "print only problems, one a line; exit with 1 if any");
  command->footer(
      "--check is for monitoring. Exit code 0: the daemon answers, the files on disk are\n"
      "in force and there is no problem; 1: else. Warnings do not count.");
  command->callback([&globals, &action, check, verbose] {
    action = [&globals, check, verbose] {
      if (*check) {
        return check_status(globals);
      }
      const auto status = ask(globals, control::method::status, json::object());
      if (!status) {
        return report(globals, status.error());
      }
      if (globals.json) {
        print_json(*status);
        return kYes;
      }
      const auto workloads = *verbose
                                 ? ask(globals, control::method::workloads, {{"examine", false}})
                                 : Result<json>(json::array());
      if (!workloads) {
        return report(globals, workloads.error());
      }
      print_status(*status, *verbose, *workloads);
      return kYes;
    };
  });
}

}  // namespace trireme::cli
