// SPDX-License-Identifier: Apache-2.0
#include "test_runner.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <vector>

#include "peer_reader.hpp"
#include "trireme/config/peer.hpp"

namespace trireme::config {
namespace {

using policy::Decision;
using policy::Endpoint;
using policy::Policy;
using policy::PortRange;
using policy::Reason;

// Every protocol that a rule can match, and SCTP as an example of all others.
constexpr std::uint8_t kProbed[] = {6, 17, 1, 58, 132};

bool has_ports(std::uint8_t protocol) {
  return protocol == 6 || protocol == 17;
}

// A test covers every port of its range. The verdict can only change at the first port of a rule's
// range and at the one after its last, so only these are evaluated.
std::set<std::uint16_t> turning_points(const PortRange& asked, const Policy& policy) {
  if (!has_ports(asked.protocol)) {
    return {0};
  }
  const std::uint32_t first = std::max<std::uint32_t>(asked.first, 1);
  std::set<std::uint16_t> points = {static_cast<std::uint16_t>(first)};
  const auto add = [&](std::uint32_t port) {
    if (port >= first && port <= asked.last) {
      points.insert(static_cast<std::uint16_t>(port));
    }
  };
  for (const auto& rule : policy.rules) {
    for (const auto& range : rule.ports) {
      if (range.protocol == asked.protocol) {
        add(range.first);
        add(range.last + 1U);
      }
    }
  }
  return points;
}

std::vector<PortRange> questions(const policy::PolicyTest& test, const Policy& policy) {
  std::vector<PortRange> asked;
  if (test.port) {
    asked.push_back(*test.port);
  } else {
    for (const std::uint8_t protocol : kProbed) {
      asked.push_back({protocol, 0, 65535});
    }
  }
  std::vector<PortRange> questions;
  for (const PortRange& range : asked) {
    for (const std::uint16_t port : turning_points(range, policy)) {
      questions.push_back({range.protocol, port, port});
    }
  }
  return questions;
}

// Reduces `narrow`, a copy of the policy, to the rules that match this pair of endpoints, so that
// the cost of a test does not grow with the number of unrelated rules.
void narrow_to(Policy& narrow, const Policy& policy, const Endpoint& from, const Endpoint& to) {
  const auto any = [&policy](const std::vector<policy::Peer>& peers, const Endpoint& end) {
    return std::any_of(peers.begin(), peers.end(),
                       [&](const policy::Peer& peer) { return covers(policy, peer, end); });
  };
  narrow.rules.clear();
  std::copy_if(policy.rules.begin(), policy.rules.end(), std::back_inserter(narrow.rules),
               [&](const policy::Rule& rule) { return any(rule.from, from) && any(rule.to, to); });
}

std::string why(const Decision& decision) {
  switch (decision.reason) {
    case Reason::deny_rule:
      return "denied by " + decision.rule->text();
    case Reason::allow_rule:
      return "allowed by " + decision.rule->text();
    case Reason::audited_deny:
      return "allowed, because " + decision.rule->text() + " is only audited";
    case Reason::audited_allow:
      return "denied, because " + decision.rule->text() + " is only audited";
    case Reason::baseline:
      return "allowed by the baseline";
    default:
      return "denied: no rule allows it";
  }
}

std::string end_text(const Policy& policy, const policy::TestPeer& peer, const Endpoint& end) {
  const std::string name = config::text(policy, peer);
  return end.address && !peer.address ? fmt::format("{} ({})", name, end.address->text()) : name;
}

// The failure message of the test for this pair of endpoints; nullopt if the test passes.
std::optional<std::string> find_failure(Policy& narrow, const Policy& policy,
                                        const policy::PolicyTest& test, const Endpoint& from,
                                        const Endpoint& to) {
  narrow_to(narrow, policy, from, to);
  for (const PortRange& question : questions(test, narrow)) {
    const Decision decision = evaluate(narrow, from, to, question.protocol, question.first);
    const bool passes = decision.verdict != policy::Verdict::deny;
    if (passes != test.expect_allow) {
      return fmt::format("test failed: expected {}, but {} from {} to {} is {}",
                         test.expect_allow ? "allow" : "deny", ports_text(question),
                         end_text(policy, test.from, from), end_text(policy, test.to, to),
                         why(decision));
    }
  }
  return std::nullopt;
}

void run_test(Policy& narrow, const Policy& policy, const policy::NameIndex& names,
              const policy::PolicyTest& test, Reporter& reporter) {
  const Ends sources = endpoints(policy, names, test.from, 1);
  const Ends destinations = endpoints(policy, names, test.to, 2);
  for (const Endpoint& from : sources.list) {
    for (const Endpoint& to : destinations.list) {
      if (auto failure = find_failure(narrow, policy, test, from, to)) {
        reporter.error(test.where, std::move(*failure),
                       test.port ? "" : "a test without 'port' covers every protocol and port");
        return;
      }
    }
  }
}

}  // namespace

void run_tests(const Policy& policy, Reporter& reporter) {
  Policy narrow;
  narrow.baseline = policy.baseline;
  narrow.networks = policy.networks;
  const policy::NameIndex names(policy);
  for (const auto& test : policy.tests) {
    run_test(narrow, policy, names, test, reporter);
  }
}

}  // namespace trireme::config
