// SPDX-License-Identifier: Apache-2.0
// An index over the rules of a policy for the compiler: which rules cover an endpoint, and what
// each rule does on which port classes.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "trireme/policy/compile.hpp"

namespace trireme::policy {

using RuleNumber = std::uint32_t;  // index into RuleIndex::rules()

/// What a rule does where it applies. The index leaves out allow rules in audit mode, which change
/// nothing in the kernel, and rules that can never apply.
enum Effect : std::uint8_t { kAllows = 1, kDenies = 2, kAudits = 4, kLogs = 8 };
/// Effects that deny a flow, or allow it only with a log line.
inline constexpr std::uint8_t kRestricts = kDenies | kAudits | kLogs;

struct CompiledRule {
  std::uint8_t effect = 0;
  bool every_port = false;
  std::vector<std::uint32_t> port_classes;  // sorted; empty if every_port
};

/// The rules that cover an endpoint as a source and as a destination, sorted. No rule distinguishes
/// endpoints with equal signatures.
struct Signature {
  std::vector<RuleNumber> from;
  std::vector<RuleNumber> to;
  auto operator<=>(const Signature&) const = default;
};

/// Rules that cover both `from` as a source and `to` as a destination.
[[nodiscard]] std::vector<RuleNumber> between(const Signature& from, const Signature& to);

class RuleIndex {
 public:
  /// Keeps pointers into `policy`.
  explicit RuleIndex(const Policy& policy);

  [[nodiscard]] const std::vector<CompiledRule>& rules() const { return rules_; }
  [[nodiscard]] const std::vector<PortInterval>& ports() const { return ports_; }
  /// Port classes are 0..port_classes() - 1.
  [[nodiscard]] std::uint32_t port_classes() const { return port_classes_; }
  /// Networks (indices into Policy::networks) that rules name.
  [[nodiscard]] std::vector<std::size_t> networks() const;

  /// Signature of a workload. Evaluates only the selectors that can match one of these labels, and
  /// those that require no label (`*`, `!k`, `k!=v`).
  [[nodiscard]] Signature match(const LabelSet& labels) const;
  /// Signature of an endpoint without labels. `kind` is host or world; `networks` contain its
  /// address.
  [[nodiscard]] Signature match(Entity::Kind kind, const std::vector<std::size_t>& networks) const;

 private:
  struct Selection {
    const Selector* selector = nullptr;
    Signature covered;
  };
  struct KeyBucket {
    std::unordered_map<std::string, std::vector<std::size_t>>
        by_value;                      // selectors that require this value
    std::vector<std::size_t> present;  // selectors that require the key
  };

  void add_side(const Policy& policy, RuleNumber rule, const std::vector<Peer>& peers,
                std::vector<RuleNumber> Signature::*side);
  void index(std::size_t selection);
  void collect(const std::vector<std::size_t>& candidates, const LabelSet& labels,
               Signature& into) const;

  std::vector<CompiledRule> rules_;
  std::vector<PortInterval> ports_;
  std::uint32_t port_classes_ = 1;
  std::map<Selector, std::size_t> numbers_;  // into selections_
  std::vector<Selection> selections_;
  std::map<std::string, KeyBucket, std::less<>> by_key_;
  std::vector<std::size_t> always_;
  std::map<Entity, Signature> entities_;
};

}  // namespace trireme::policy
