// SPDX-License-Identifier: Apache-2.0
// Explains to people why a flow is allowed or denied: the rule that decides, or the closest rules
// and what they require.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/policy/world.hpp"

namespace trireme::policy {

/// One endpoint of the flow in question, or a part of it that rules may tell apart from the others.
struct ExplainEnd {
  WorldEnd end;
  std::string text;          // what was asked for, or this part of it
  std::string note = {};     // more about it, for people
  std::size_t left_out = 0;  // of the first part: how many there are beyond kMostParts, if counted
};

/// Parses the name of a live workload, a label list "app=web,env=prod", `@host`, `@world`, `@NAME`
/// of a [[network]], a DNS name that is in a network or was seen, or an address. The result is
/// never empty. It has several parts, at most kMostParts:
///   - labels: one for each network of this host with workloads that have them. If there is none,
///     one beside the other end, and one on another host if there are [host] peers
///   - an address of a container: one for each workload in its network
///   - an address of [host] peers: a process that may have labels, then one without
///   - a network, or a DNS name with several addresses: one for each combination of networks that
///     rules can distinguish; the first part is at the first address or name
[[nodiscard]] Result<std::vector<ExplainEnd>> parse_ends(std::string_view text,
                                                         const Policy& policy, const World& world);
inline constexpr std::size_t kMostParts = 256;

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

/// A different decision for other parts of the endpoints than the explained ones.
struct OtherParts {
  Decision decision;
  std::string reason;
  std::vector<std::string> ends;  // at most 3 parts, as in Explanation::from
  std::size_t count = 0;          // of all parts with this decision
};

struct Explanation {
  Decision decision;
  bool is_known = true;  // false: it depends on labels that are not known here
  std::string from;      // "x.scope (app=web)", "@host", "10.0.0.53 (@world, @corp-dns)"
  std::string to;
  std::string port;
  EndDecision source;
  EndDecision destination;
  std::string reason;                // one sentence
  std::vector<NearMiss> closest;     // if no rule allows it: the allow rules that differ least, at
                                     // most 3, closest first. One endpoint fits each of them, and
                                     // at most 2 requirements do not
  std::string toml;                  // entries for policy.d that would allow the flow; empty if an
                                     // endpoint is a workload, or a rule denies the flow
  std::vector<const Rule*> audited;  // matching rules in audit mode; they decide nothing
  std::vector<std::string> notes;    // more about the endpoints
  std::vector<OtherParts> others;    // one for each other decision
  /// Whether the flow passes.
  [[nodiscard]] bool passes() const { return is_known && decision.verdict != Verdict::deny; }
  /// Several lines for a terminal, without `toml`.
  [[nodiscard]] std::string render() const;
};

/// The result points into `policy`. If the decision differs between parts of the endpoints, it
/// explains a part whose decision is not known, or else one that is denied, if any, and `others`
/// lists the other decisions.
[[nodiscard]] Explanation explain(const Policy& policy, const World& world,
                                  const std::vector<ExplainEnd>& from,
                                  const std::vector<ExplainEnd>& to, std::uint8_t protocol,
                                  std::uint16_t port);

/// Entries for policy.d that would allow a flow between a workload and an endpoint without labels,
/// as TOML to paste; empty between other endpoints, and if no selector can name the workload.
/// `name` is the DNS name that was asked for, or empty.
[[nodiscard]] std::string allowing_toml(const Policy& policy, const View& from, const View& to,
                                        const std::string& name, std::uint8_t protocol,
                                        std::uint16_t port);

/// "same-labels", "any-common-label", "none": as in policy.toml.
[[nodiscard]] const char* text(Baseline baseline);

/// The reason for people, in flows and in explanations: "no rule allows it".
[[nodiscard]] const char* sentence(Reason reason);

}  // namespace trireme::policy
