// SPDX-License-Identifier: Apache-2.0
// The one evaluator: the compiler, trirectl policy explain, [[test]] and the flow log all ask here.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "trireme/policy/policy.hpp"

namespace trireme::policy {

/// One end of a flow as policy sees it.
struct Endpoint {
  enum class Kind : std::uint8_t { workload, host, world };
  Kind kind = Kind::host;
  const LabelSet* labels = nullptr;  // workload only; not owned
  std::uint64_t workload =
      0;  // workload only: equal and non-zero at both ends means the very same workload
  std::optional<Address> address;  // host and world: decides [[network]] membership by CIDR
  /// host and world: networks (indices into Policy::networks) that the end is in by a DNS name; not
  /// owned.
  std::span<const std::size_t> named = {};
};

enum class Verdict : std::uint8_t { allow, deny, audit };  // audit: would be refused, passes

enum class Reason : std::uint8_t {
  unprotected,    // neither end is a workload: not ours to judge
  self,           // a workload reaches itself
  deny_rule,      // `rule` denies
  audited_deny,   // only audited [[deny]] rules stand against it: passes as audit
  allow_rule,     // `rule` allows
  baseline,       // [defaults] baseline allows
  audited_allow,  // refused; only `rule`, an audited [[allow]], would have allowed it
  no_rule,        // refused; nothing allows it
};

/// "allow", "deny", "audit": as logs and JSON have it.
[[nodiscard]] const char* text(Verdict verdict);
/// "deny_rule", "no_rule" …: as logs and JSON have it.
[[nodiscard]] const char* text(Reason reason);

struct Decision {
  Verdict verdict = Verdict::deny;
  Reason reason = Reason::no_rule;
  const Rule* rule = nullptr;  // of deny_rule, audited_deny, allow_rule, audited_allow; first in
                               // file order among equals
  bool log = false;            // a matching rule in force asks for the flow to be logged
};

/// Order-free: deny beats allow beats baseline; audited rules change nothing but the log. A refusal
/// under `[defaults] mode = "audit"` becomes Verdict::audit with its reason kept. ICMP has port 0.
[[nodiscard]] Decision evaluate(const Policy& policy, const Endpoint& from, const Endpoint& to,
                                std::uint8_t protocol, std::uint16_t port);

/// Whether `peer` (one alternative of a rule) covers `end`. @world and @host contain the addresses
/// of networks; a network contains unlabelled peers of either kind at its addresses, those of its
/// names included; selectors match workloads only.
[[nodiscard]] bool covers(const Policy& policy, const Peer& peer, const Endpoint& end);

}  // namespace trireme::policy
