// SPDX-License-Identifier: Apache-2.0
// Explains to people why a flow is allowed or denied: the rule that decides, or the closest rules
// and what they require.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/policy/evaluate.hpp"

namespace trireme::policy {

/// One endpoint of the flow in question. Owns what Endpoint only points to.
struct ExplainPeer {
  std::string text;  // as the user wrote it
  std::string name;  // of the live workload; empty if it is none
  Endpoint::Kind kind = Endpoint::Kind::world;
  LabelSet labels;
  std::uint64_t workload = 0;  // see Endpoint::workload
  std::optional<Address> address;
  std::vector<std::size_t> named = {};  // see Endpoint::named
  std::string note = {};                // more about the endpoint, for people
  std::string quarantine = {};          // why the workload is in quarantine; empty: it is not

  [[nodiscard]] Endpoint endpoint() const;
  /// "x.scope (app=web)", "@host", "10.0.0.53 (@world, @corp-dns)"
  [[nodiscard]] std::string describe(const Policy& policy) const;
};

/// Lookups that parse_peers() needs from the daemon. Each may be empty.
struct PeerLookup {
  std::function<std::optional<ExplainPeer>(std::string_view name)> workload;  // by name, if live
  std::function<bool(const Address&)> is_local;  // an address of this enforcement point
  std::function<std::vector<Address>(const std::string&)>
      addresses;  // that DNS answers gave for a name
  std::function<std::vector<std::size_t>(const Address&)>
      named;  // networks that contain the address by a DNS name
};

/// Parses the name of a live workload, a label list "app=web,env=prod", `@host`, `@world`, `@NAME`
/// of a [[network]], a DNS name of a network, or an address (@host if is_local or loopback, else
/// @world). The result is never empty. A network, or a DNS name with several known addresses, gives
/// one peer for each combination of networks that rules can distinguish, at most kMostParts; the
/// first peer is at the first address or name.
[[nodiscard]] Result<std::vector<ExplainPeer>> parse_peers(std::string_view text,
                                                           const Policy& policy,
                                                           const PeerLookup& lookup);
inline constexpr std::size_t kMostParts = 256;
/// The first of parse_peers().
[[nodiscard]] Result<ExplainPeer> parse_peer(std::string_view text, const Policy& policy,
                                             const PeerLookup& lookup);

/// "tcp/5432", "icmp".
[[nodiscard]] std::string port_text(std::uint8_t protocol, std::uint16_t port);
/// "tcp/8000-8010", "tcp/80", "icmp": as rules write it.
[[nodiscard]] std::string range_text(const PortRange& range);
/// One alternative of a rule's `from` or `to`, as rules write it: "app=web", "@host", "@corp-dns".
[[nodiscard]] std::string peer_text(const Policy& policy, const Peer& peer);

/// An allow rule that does not apply to the flow, and what it requires.
struct NearMiss {
  const Rule* rule = nullptr;
  // "requires source app=web, but the source has app=db", "covers only tcp/5432, not tcp/80"
  std::vector<std::string> differences;
};

/// What the enforcement point of one endpoint does. Both endpoints apply the same rules.
struct EndDecision {
  bool judged = false;  // false: not a workload, so policy is not enforced at this endpoint
  std::string text;     // "allows: allow 'web to db' (policy.toml:12:1)", or why it is not judged
};

/// A different decision for other parts of the network than the explained part.
struct OtherParts {
  Decision decision;
  std::string reason;
  std::vector<std::string> ends;  // ExplainPeer::describe of at most 3 parts
  std::size_t count = 0;          // of all parts with this decision
};

struct Explanation {
  Decision decision;
  std::string from;  // ExplainPeer::describe
  std::string to;
  std::string port;
  EndDecision source;
  EndDecision destination;
  std::string reason;                // one sentence
  std::vector<NearMiss> closest;     // if denied without a deny rule: the allow rules that differ
                                     // least, at most 3, closest first
  std::vector<const Rule*> audited;  // matching rules in audit mode; they decide nothing
  std::vector<std::string> notes;    // ExplainPeer::note of both endpoints
  std::vector<OtherParts> others;    // one for each other decision
  /// Whether the flow passes.
  [[nodiscard]] bool passes() const { return decision.verdict != Verdict::deny; }
  /// Several lines for a terminal.
  [[nodiscard]] std::string render() const;
};

/// The result points into `policy`.
[[nodiscard]] Explanation explain(const Policy& policy, const ExplainPeer& from,
                                  const ExplainPeer& to, std::uint8_t protocol, std::uint16_t port);

/// The same for endpoints as parse_peers() returns them. If the decision differs between parts, the
/// result explains a part that is denied, if any, and `others` lists the other decisions.
[[nodiscard]] Explanation explain(const Policy& policy, const std::vector<ExplainPeer>& from,
                                  const std::vector<ExplainPeer>& to, std::uint8_t protocol,
                                  std::uint16_t port);

/// "same-labels", "any-common-label", "none": as in policy.toml.
[[nodiscard]] const char* text(Baseline baseline);

/// The reason for people, in flows and in explanations: "no rule allows it".
[[nodiscard]] const char* sentence(Reason reason);

}  // namespace trireme::policy
