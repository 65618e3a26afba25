// SPDX-License-Identifier: Apache-2.0
// What a policy allows between groups of endpoints: the ports that are open from one party to
// another. The policy diff and the policy graph are built on it.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "trireme/policy/evaluate.hpp"
#include "trireme/policy/names.hpp"
#include "trireme/policy/published.hpp"

namespace trireme::policy {

/// One side of possible flows: all workloads with one label set, or an endpoint without labels
/// (@host, @world, a network).
struct Party {
  Endpoint::Kind kind = Endpoint::Kind::workload;
  LabelSet labels;                         // workloads only
  std::optional<Address> address;          // host and world; absent if in no network
  std::string text;                        // "app=web", "@host", "@corp-dns", "10.0.0.0/8"
  std::vector<std::string> members;        // names of the workloads that exist now
  std::set<PublishedPort> published = {};  // of these workloads
  std::string name = {};  // world: the DNS name of its address, as a policy writes it; may be empty

  /// `named`: indices of the policy's networks that contain `name`. Not owned: must outlive the
  /// result.
  [[nodiscard]] Endpoint endpoint(std::span<const std::size_t> named = {}) const;
};

[[nodiscard]] Party party_of(LabelSet labels);
/// @host, @world, and each network of the policy ("@NAME"). A network is represented by its first
/// address, or by its first DNS name if it has no addresses.
[[nodiscard]] std::vector<Party> entities_of(const Policy& policy);

/// Ports that are allowed from one party to another, and why.
struct Opening {
  PortRange ports;
  Reason reason = Reason::no_rule;
  const Rule* rule = nullptr;  // of the policy; null if no rule decides
};

/// The port ranges as short text: "tcp/80, udp/53", "all ports", "none".
[[nodiscard]] std::string ports_text(const std::vector<PortRange>& ranges);

/// Ports that a policy opens between parties. The constructor matches every rule against every
/// party once; each pair then costs only the rules that cover both. `mode` in [defaults] is ignored
/// (as if "enforce"), and rules in audit mode open nothing.
class AccessMap {
 public:
  /// `policy` and `parties` must outlive the map.
  AccessMap(const Policy& policy, const std::vector<Party>& parties);

  /// `from` and `to` are indices into `parties`. The result is sorted and disjoint. If they are
  /// equal, the result is for two different workloads with that label set.
  [[nodiscard]] const std::vector<Opening>& between(std::size_t from, std::size_t to);
  /// The party, with the networks of this policy that its name is in.
  [[nodiscard]] Endpoint endpoint(std::size_t party) const {
    return parties_[party].endpoint(named_[party]);
  }
  /// No rule distinguishes parties of one class; only the baseline can.
  [[nodiscard]] std::size_t class_of(std::size_t party) const { return classes_[party]; }
  [[nodiscard]] std::size_t classes() const { return from_rules_.size(); }
  /// Rules (indices into Policy::rules) that cover the class as a source, as a destination.
  [[nodiscard]] const std::vector<std::size_t>& from_rules(std::size_t of_class) const {
    return from_rules_[of_class];
  }
  [[nodiscard]] const std::vector<std::size_t>& to_rules(std::size_t of_class) const {
    return to_rules_[of_class];
  }

  /// How the label sets of a pair relate, as far as any baseline depends on it.
  enum class Relation : std::uint8_t {
    none,
    share,  // one of their own labels is the same
    equal,  // all labels are the same, and at least one is an own label of both
    alike,  // all labels are the same, but none is an own label of both
  };
  [[nodiscard]] static Relation relation(const Party& from, const Party& to);
  /// The relation reduced to what this baseline distinguishes; `none` if it allows nothing.
  [[nodiscard]] static Relation seen_by(Baseline baseline, Relation relation);

 private:
  [[nodiscard]] std::vector<Opening> open(std::size_t from, std::size_t to);

  const Policy& policy_;
  const std::vector<Party>& parties_;
  Policy scratch_;  // networks and baseline of the policy, and the rules of the current pair only
  std::vector<std::vector<std::size_t>> named_;  // by party: networks that contain its DNS name
  std::vector<std::size_t> classes_;
  std::vector<std::vector<std::size_t>> from_rules_;
  std::vector<std::vector<std::size_t>> to_rules_;
  std::map<std::tuple<std::size_t, std::size_t, Relation>, std::vector<Opening>> known_;
};

}  // namespace trireme::policy
