// SPDX-License-Identifier: Apache-2.0
// Profiles: the outcome for a pair of classes on each port class. Equal profiles are shared and
// reference-counted. Also the ledger of changes to the sets, and the allocator of their ids.
#pragma once

#include <map>
#include <optional>
#include <unordered_set>
#include <vector>

#include "compile_rules.hpp"

namespace trireme::policy {

/// Allocates ids from `first` on, 2^31 - 1 of them. An id that was given back is not reused until
/// all others were, so that a packet between two lookups does not find its next owner.
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

/// The current elements, and what has changed since the last take().
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
  /// The outcome by port class; nullopt means denied.
  using Content = std::vector<std::optional<Outcome>>;
  struct Profile {
    std::uint32_t id = 0;
    std::size_t users = 0;  // references by decisions
  };
  /// What decides a pair of classes: the rules that cover it, and whether the baseline allows it.
  struct Question {
    std::vector<RuleNumber> rules;
    bool baseline = false;
    auto operator<=>(const Question&) const = default;
  };
  struct Decision {
    std::map<Content, Profile>::iterator profile;
    std::size_t users = 0;  // references by pairs
  };
  using Handle = std::map<Question, Decision>::iterator;

  Profiles(const RuleIndex& rules, Ledger& ledger, std::uint32_t first_id)
      : rules_(rules), ledger_(ledger), ids_(first_id) {}

  [[nodiscard]] Content content(const Question& question) const;
  /// Returns nullopt if every port is denied. The caller must release() each handle once.
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
