// SPDX-License-Identifier: Apache-2.0
// What a policy lets whole groups do: which ports are open from one party to another. Under diff,
// graph and suggestions.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "trireme/policy/evaluate.hpp"
#include "trireme/policy/names.hpp"

namespace trireme::policy {

/// Whoever can be an end of a flow: the workloads that bear one label set, or a peer without
/// labels.
struct Party {
  Endpoint::Kind kind = Endpoint::Kind::workload;
  LabelSet labels;                   // workloads only
  std::optional<Address> address;    // host and world: absent where it is in no network
  std::string text;                  // "app=web", "@host", "@corp-dns", "10.0.0.0/8"
  std::vector<std::string> members;  // names of the workloads that are present
  std::string name =
      {};  // world: the DNS name that its address has, as a policy writes it; may be empty

  /// `named` are the networks of a policy that the name is in; not owned.
  [[nodiscard]] Endpoint endpoint(std::span<const std::size_t> named = {}) const;
};

[[nodiscard]] Party party_of(LabelSet labels);
/// @host and @world, and each network of the policy ("@NAME") at its first address, or by its first
/// name where it has no address.
[[nodiscard]] std::vector<Party> entities_of(const Policy& policy);

/// Ports that pass from one party to another, and why.
struct Opening {
  PortRange ports;
  Reason reason = Reason::no_rule;
  const Rule* rule = nullptr;  // of the policy; null where none decides
};

/// The port ranges as rules write them, in few words: "tcp/80, udp/53", "all ports", "none".
[[nodiscard]] std::string ports_text(const std::vector<PortRange>& ranges);

/// A policy laid against parties once; each pair then costs only the rules that touch both. As
/// enforced: `mode` of [defaults] is not looked at, audited rules open nothing.
class AccessMap {
 public:
  /// Both outlive the map.
  AccessMap(const Policy& policy, const std::vector<Party>& parties);

  /// Sorted, disjoint. Two different workloads where `from` is `to`.
  [[nodiscard]] const std::vector<Opening>& between(std::size_t from, std::size_t to);
  /// The party as this policy sees it.
  [[nodiscard]] Endpoint endpoint(std::size_t party) const {
    return parties_[party].endpoint(named_[party]);
  }
  /// Parties of one class are told apart by no rule, only by the baseline.
  [[nodiscard]] std::size_t class_of(std::size_t party) const { return classes_[party]; }
  [[nodiscard]] std::size_t classes() const { return from_rules_.size(); }
  /// Rules by index that cover the class as source, as destination.
  [[nodiscard]] const std::vector<std::size_t>& from_rules(std::size_t of_class) const {
    return from_rules_[of_class];
  }
  [[nodiscard]] const std::vector<std::size_t>& to_rules(std::size_t of_class) const {
    return to_rules_[of_class];
  }

  /// All that the baseline can see in a pair.
  enum class Relation : std::uint8_t {
    none,
    share,  // an own label
    equal,  // all labels, and an own one
    alike,  // all labels, but none that both have as an own one
  };
  [[nodiscard]] static Relation relation(const Party& from, const Party& to);
  /// What is left of it under one baseline: `none` or another.
  [[nodiscard]] static Relation seen_by(Baseline baseline, Relation relation);

 private:
  [[nodiscard]] std::vector<Opening> open(std::size_t from, std::size_t to);

  const Policy& policy_;
  const std::vector<Party>& parties_;
  Policy
      scratch_;  // networks and baseline of the policy, and the few rules of the pair in question
  std::vector<std::vector<std::size_t>> named_;  // networks that each party is in by its name
  std::vector<std::size_t> classes_;
  std::vector<std::vector<std::size_t>> from_rules_;
  std::vector<std::vector<std::size_t>> to_rules_;
  std::map<std::tuple<std::size_t, std::size_t, Relation>, std::vector<Opening>> known_;
};

}  // namespace trireme::policy
