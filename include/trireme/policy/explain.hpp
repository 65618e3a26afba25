// SPDX-License-Identifier: Apache-2.0
// Why a flow is allowed or refused, for people: the deciding rule, or the closest ones and what
// differs.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/policy/evaluate.hpp"

namespace trireme::policy {

/// One end of the flow in question; owns what Endpoint only points to.
struct ExplainPeer {
  std::string text;  // as asked for
  std::string name;  // of the live workload; empty otherwise
  Endpoint::Kind kind = Endpoint::Kind::world;
  LabelSet labels;
  std::uint64_t workload = 0;  // see Endpoint::workload
  std::optional<Address> address;
  std::vector<std::size_t> named = {};  // see Endpoint::named
  std::string note = {};                // what else there is to say of it
  std::string quarantine = {};          // why nothing passes, whatever policy says; empty: it can

  [[nodiscard]] Endpoint endpoint() const;
  /// "x.scope (app=web)", "@host", "10.0.0.53 (@world, @corp-dns)"
  [[nodiscard]] std::string describe(const Policy& policy) const;
};

/// What parse_peer() cannot know by itself; either may be empty.
struct PeerLookup {
  std::function<std::optional<ExplainPeer>(std::string_view name)> workload;  // a live workload
  std::function<bool(const Address&)> is_local;  // an address of this enforcement point
  std::function<std::vector<Address>(const std::string&)>
      addresses;  // that a DNS name was seen to have
  std::function<std::vector<std::size_t>(const Address&)>
      named;  // networks that an address is in by a name
};

/// The name of a live workload, a label list "app=web,env=prod", `@host`, `@world`, `@NAME` of a
/// [[network]], a DNS name that networks have, or an address (@host where is_local or loopback,
/// @world otherwise). Never empty. A network, and a DNS name that was seen to have several
/// addresses, give one peer for each combination of networks that rules can distinguish, kMostParts
/// at most; the first one is at the first address or name.
[[nodiscard]] Result<std::vector<ExplainPeer>> parse_peers(std::string_view text,
                                                           const Policy& policy,
                                                           const PeerLookup& lookup);
inline constexpr std::size_t kMostParts = 256;
/// The first one of them.
[[nodiscard]] Result<ExplainPeer> parse_peer(std::string_view text, const Policy& policy,
                                             const PeerLookup& lookup);

/// "tcp/5432", "udp/53", "icmp", "icmpv6", or "5432" for TCP. One port: first == last; ICMP has
/// port 0.
[[nodiscard]] Result<PortRange> parse_port(std::string_view text);
/// "tcp/5432", "icmp": what parse_port() reads.
[[nodiscard]] std::string port_text(std::uint8_t protocol, std::uint16_t port);
/// "tcp/8000-8010", "tcp/80", "icmp": as rules write it.
[[nodiscard]] std::string range_text(const PortRange& range);
/// One alternative of a rule's end, as rules write it: "app=web", "@host", "@corp-dns".
[[nodiscard]] std::string peer_text(const Policy& policy, const Peer& peer);

/// A rule that would have decided otherwise, and each thing that keeps it from applying.
struct NearMiss {
  const Rule* rule = nullptr;
  std::vector<std::string> differences;  // "source lacks env in (prod, staging): it has no env",
                                         // "port tcp/80 is not among tcp/5432"
};

/// What one end's enforcement point does; both ends judge by the same rules.
struct EndDecision {
  bool judged = false;  // false: no workload at this end, and trireme does not look there
  std::string text;     // "allow 'web to db' (policy.toml:12:1)" or why it is not judged
};

/// What the policy decides about other parts of a network than the one explained.
struct OtherParts {
  Decision decision;
  std::string reason;
  std::vector<std::string> ends;  // ExplainPeer::describe, a few of them
  std::size_t count = 0;          // of all of them
};

struct Explanation {
  Decision decision;
  std::string from;  // ExplainPeer::describe
  std::string to;
  std::string port;
  EndDecision source;
  EndDecision destination;
  std::string reason;             // one sentence
  std::vector<NearMiss> closest;  // refused without a deny rule: the allow rules that differ least,
                                  // at most 3, closest first
  std::vector<const Rule*> audited;  // matching rules in audit mode, which decide nothing
  std::vector<std::string> notes;    // of the ends
  std::vector<OtherParts> others;    // one for each other decision
  /// Whether the flow passes.
  [[nodiscard]] bool passes() const { return decision.verdict != Verdict::deny; }
  /// Several lines for a terminal.
  [[nodiscard]] std::string render() const;
};

/// The result points into `policy`.
[[nodiscard]] Explanation explain(const Policy& policy, const ExplainPeer& from,
                                  const ExplainPeer& to, std::uint8_t protocol, std::uint16_t port);

/// As above for ends as parse_peers() returns them. Where their parts are decided differently, a
/// part that is refused is explained, and `others` has the rest.
[[nodiscard]] Explanation explain(const Policy& policy, const std::vector<ExplainPeer>& from,
                                  const std::vector<ExplainPeer>& to, std::uint8_t protocol,
                                  std::uint16_t port);

/// "same-labels", "any-common-label", "none": as files write it.
[[nodiscard]] const char* text(Baseline baseline);

/// "no rule allows it": the reason for people, for flows and explanations alike.
[[nodiscard]] const char* sentence(Reason reason);

}  // namespace trireme::policy
