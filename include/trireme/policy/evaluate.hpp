// SPDX-License-Identifier: Apache-2.0
// Defines what policy means. The verifier, trirectl policy explain, [[test]] entries and the flow
// log use it. The compiler's sets say the same (compile.hpp), and are tested against it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "trireme/policy/policy.hpp"

namespace trireme::policy {

/// One endpoint of a flow, with what policy depends on.
struct Endpoint {
  enum class Kind : std::uint8_t { workload, host, world };
  Kind kind = Kind::host;
  const LabelSet* labels = nullptr;  // workload only; not owned
  std::uint64_t workload =
      0;  // workload only: if equal and not 0 at both ends, both are the same workload
  std::optional<Address> address;  // host and world: decides [[network]] membership by CIDR
  /// host and world: networks (indices into Policy::networks) that contain the endpoint by a DNS
  /// name. Not owned.
  std::span<const std::size_t> named = {};
};

enum class Verdict : std::uint8_t { allow, deny, audit };  // audit: would be denied, but passes

enum class Reason : std::uint8_t {
  unprotected,    // neither endpoint is a workload: policy does not apply
  self,           // a workload reaches itself
  deny_rule,      // `rule` denies
  audited_deny,   // allowed but for an audited [[deny]] rule: passes as audit
  allow_rule,     // `rule` allows
  baseline,       // [defaults] baseline allows
  audited_allow,  // denied; only `rule`, an audited [[allow]], would allow it
  no_rule,        // denied; nothing allows it
};

/// "allow", "deny", "audit": as in logs and JSON.
[[nodiscard]] const char* text(Verdict verdict);
/// "deny_rule", "no_rule", …: as in logs and JSON.
[[nodiscard]] const char* text(Reason reason);

struct Decision {
  Verdict verdict = Verdict::deny;
  Reason reason = Reason::no_rule;
  const Rule* rule = nullptr;  // for deny_rule, audited_deny, allow_rule, audited_allow: the
                               // first in file order that applies
  bool log = false;            // a matching rule that is not in audit mode has log = true
};

/// The order of rules does not matter: a deny rule overrides allow rules, and the baseline decides
/// only if no rule does. Rules in audit mode change only the log. With `[defaults] mode = "audit"`
/// a denial becomes Verdict::audit and keeps its reason. `port` is the destination's, 0 for ICMP.
[[nodiscard]] Decision evaluate(const Policy& policy, const Endpoint& from, const Endpoint& to,
                                std::uint8_t protocol, std::uint16_t port);

/// Whether `peer` (one alternative of a rule's `from` or `to`) covers `end`. A selector covers only
/// workloads. @host and @world cover endpoints without labels, also at addresses of networks. A
/// network covers endpoints of both kinds at its CIDRs and at the addresses of its DNS names.
[[nodiscard]] bool covers(const Policy& policy, const Peer& peer, const Endpoint& end);

}  // namespace trireme::policy
