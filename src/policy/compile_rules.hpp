// SPDX-License-Identifier: Apache-2.0
// The rules of a policy as the compiler asks them: which of them cover an end, and what each does
// to which port classes.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "trireme/policy/compile.hpp"

namespace trireme::policy {

using RuleNumber = std::uint32_t;  // index into RuleIndex::rules()

/// What a rule does where it applies. An audited allow does nothing and is left out; so is a rule
/// that can never apply.
enum Effect : std::uint8_t { kAllows = 1, kDenies = 2, kAudits = 4, kLogs = 8 };
/// Effects that keep a flow from passing without a line.
inline constexpr std::uint8_t kRestricts = kDenies | kAudits | kLogs;

struct CompiledRule {
  std::uint8_t effect = 0;
  bool every_port = false;
  std::vector<std::uint32_t> port_classes;  // sorted; empty where every_port
};

/// The rules that cover an end as a source and as a destination; sorted. Ends with equal signatures
/// are alike to every rule.
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

  /// Costs what the selectors cost that can match one of these labels, plus those that name no
  /// label that must be there (`*`, `!k`, `k!=v`).
  [[nodiscard]] Signature match(const LabelSet& labels) const;
  /// A peer without labels: `kind` is host or world, at an address that lies in `networks`.
  [[nodiscard]] Signature match(Entity::Kind kind, const std::vector<std::size_t>& networks) const;

 private:
  struct Selection {
    const Selector* selector = nullptr;
    Signature covered;
  };
  struct KeyBucket {
    std::unordered_map<std::string, std::vector<std::size_t>>
        by_value;                      // selections that need this value
    std::vector<std::size_t> present;  // selections that need the key
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
