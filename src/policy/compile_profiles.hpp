// SPDX-License-Identifier: Apache-2.0
// Profiles: what a pair of classes may do on each port class, counted and shared; and the account
// of what changed.
#pragma once

#include <map>
#include <optional>
#include <unordered_set>
#include <vector>

#include "compile_rules.hpp"

namespace trireme::policy {

/// Identifiers from `first` on, 2^31 - 1 of them. One that came back rests until all others have
/// had their turn, so that a packet between two look-ups does not meet its next bearer.
class IdPool {
 public:
  explicit IdPool(std::uint32_t first) : first_(first), next_(first) {}
  std::uint32_t take();
  void give_back(std::uint32_t id) { used_.erase(id); }

 private:
  std::uint32_t first_;
  std::uint32_t next_;
  std::unordered_set<std::uint32_t> used_;
};

/// Elements, and the delta since the last take().
class Ledger {
 public:
  template <typename Map, typename Key, typename Value>
  void put(Map Elements::*map, const Key& key, const Value& value) {
    (elements_.*map).emplace(key, value);
    (delta_.add.*map).emplace(key, value);
  }
  template <typename Map, typename Key>
  void erase(Map Elements::*map, const Key& key) {
    if (auto node = (elements_.*map).extract(key)) {
      (delta_.remove.*map).insert(std::move(node));
    }
  }
  void put_same(std::uint32_t group) {
    elements_.same.insert(group);
    delta_.add.same.insert(group);
  }
  void erase_same(std::uint32_t group) {
    elements_.same.erase(group);
    delta_.remove.same.insert(group);
  }
  [[nodiscard]] const Elements& elements() const { return elements_; }
  Delta take() { return std::exchange(delta_, {}); }

 private:
  Elements elements_;
  Delta delta_;
};

class Profiles {
 public:
  /// The outcome by port class; nothing means refused.
  using Content = std::vector<std::optional<Outcome>>;
  struct Profile {
    std::uint32_t id = 0;
    std::size_t users = 0;  // decisions
  };
  /// The rules between two ends, and whether the baseline allows them.
  struct Question {
    std::vector<RuleNumber> rules;
    bool baseline = false;
    auto operator<=>(const Question&) const = default;
  };
  struct Decision {
    std::map<Content, Profile>::iterator profile;
    std::size_t users = 0;  // pairs
  };
  using Handle = std::map<Question, Decision>::iterator;

  Profiles(const RuleIndex& rules, Ledger& ledger, std::uint32_t first_id)
      : rules_(rules), ledger_(ledger), ids_(first_id) {}

  [[nodiscard]] Content content(const Question& question) const;
  /// Nothing where every port is refused. Every handle is released once.
  std::optional<Handle> acquire(Question question);
  void release(Handle handle);

 private:
  const RuleIndex& rules_;
  Ledger& ledger_;
  IdPool ids_;
  std::map<Content, Profile> profiles_;
  std::map<Question, Decision> decisions_;
};

}  // namespace trireme::policy
