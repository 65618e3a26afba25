// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdio>

#include "command.hpp"
#include "table.hpp"
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
  const int threads = tokens.value("threads", 0);
  const int points = tokens.value("enforcement_points", 0);
  print_field("handshakes",
              fmt::format("{}, {} {}, {} {}", queues_text(tokens.value("queues", "?")), threads,
                          threads == 1 ? "thread" : "threads", points,
                          points == 1 ? "namespace" : "namespaces"));
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
  print_field(
      "policy",
      fmt::format("generation {}, {} {}, loaded {}", generation, policy.value("rules", 0),
                  policy.value("rules", 0) == 1 ? "rule" : "rules", policy.value("loaded", "?")));
  print_field("", fmt::format("{}, digest {}", policy.value("directory", "?"),
                              policy.value("digest", "?").substr(0, 16)));
  if (const json errors = policy.value("errors", json::array()); !errors.empty()) {
    print_field("", fmt::format("the files on disk are invalid; generation {} stays in force:",
                                generation));
    print_list(errors, "errors");
  }
  print_list(policy.value("warnings", json::array()), "warnings");
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

void print_status(const json& status) {
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
  const json sources = status.value("sources", json::object());
  for (const auto& [name, state] : sources.items()) {
    print_field(name, state.get<std::string>());
  }
  print_field("cgroups", status.value("cgroup_driver", "?"));
  print_tokens(status.value("tokens", json()));
  print_births(status.value("gate", json::object()).value("births", json::object()));
  print_list(status.value("problems", json::array()), "problems");
}

}  // namespace

void add_status(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "status",
                                  "Show the state of the daemon and the policy in force");
  command->callback([&] {
    action = [&] {
      const auto status = ask(globals, control::method::status, json::object());
      if (!status) {
        return report(globals, status.error());
      }
      globals.json ? print_json(*status) : print_status(*status);
      return kYes;
    };
  });
}

}  // namespace trireme::cli
