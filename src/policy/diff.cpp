// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/diff.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

#include "diff_parts.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::policy {
namespace {

using Relation = AccessMap::Relation;

constexpr std::size_t kMostReasons = 4;

const char* mode_word(Mode mode) {
  return mode == Mode::audit ? "audit" : "enforce";
}

const char* refuse_word(Refuse refuse) {
  return refuse == Refuse::drop ? "drop" : "reject";
}

bool any_in(const std::vector<std::size_t>& rules, const std::set<std::size_t>& set) {
  return std::ranges::any_of(rules, [&](std::size_t rule) { return set.contains(rule); });
}

class Differing {
 public:
  Differing(const Policy& before, const Policy& after, std::vector<Party> present)
      : before_(before),
        after_(after),
        parties_(with_entities(std::move(present), before, after)),
        old_(before, parties_),
        new_(after, parties_),
        dropped_(rules_of_its_own(before, after)),
        added_(rules_of_its_own(after, before)) {}

  std::vector<AccessChange> run() {
    group();
    for (std::size_t from = 0; from < groups_.size(); ++from) {
      for (std::size_t to = 0; to < groups_.size(); ++to) {
        if (can_differ(from, to)) {
          compare(groups_[from], groups_[to]);
        }
      }
    }
    return join(std::move(changes_));
  }

 private:
  static std::vector<Party> with_entities(std::vector<Party> parties, const Policy& before,
                                          const Policy& after) {
    add_entities(parties, before, after);
    return parties;
  }

  /// Groups parties that neither policy distinguishes.
  void group() {
    std::map<std::pair<std::size_t, std::size_t>, std::size_t> known;
    for (std::size_t i = 0; i < parties_.size(); ++i) {
      const auto [found, is_new] =
          known.try_emplace({old_.class_of(i), new_.class_of(i)}, groups_.size());
      if (is_new) {
        groups_.emplace_back();
      }
      groups_[found->second].push_back(i);
    }
    for (const auto& members : groups_) {
      const std::size_t party = members.front();
      const std::size_t was = old_.class_of(party);
      const std::size_t is = new_.class_of(party);
      touched_from_.push_back(any_in(old_.from_rules(was), dropped_) ||
                              any_in(new_.from_rules(is), added_));
      touched_to_.push_back(any_in(old_.to_rules(was), dropped_) ||
                            any_in(new_.to_rules(is), added_));
    }
  }

  [[nodiscard]] bool can_differ(std::size_t from, std::size_t to) const {
    return before_.baseline != after_.baseline || (touched_from_[from] && touched_to_[to]);
  }

  [[nodiscard]] Relation relation(std::size_t from, std::size_t to, bool by_same_labels) const {
    const Relation relates = AccessMap::relation(parties_[from], parties_[to]);
    return by_same_labels ? AccessMap::seen_by(Baseline::same_labels, relates) : relates;
  }

  /// Compares one example pair for each relation that occurs: all pairs of that relation change
  /// alike.
  void compare(const std::vector<std::size_t>& from, const std::vector<std::size_t>& to) {
    std::map<Relation, std::pair<std::size_t, std::size_t>> examples;
    const std::size_t wanted = before_.baseline == Baseline::any_common_label ||
                                       after_.baseline == Baseline::any_common_label
                                   ? 3
                                   : 2;
    for (const std::size_t a : from) {
      if (&from == &to) {
        examples.try_emplace(relation(a, a, wanted == 2), a, a);
      }
      for (const std::size_t b : to) {
        examples.try_emplace(relation(a, b, wanted == 2), a, b);
        if (examples.size() >= wanted || (&from != &to && wanted == 2)) {
          break;
        }
      }
      if (examples.size() >= wanted || (&from != &to && wanted == 2)) {
        break;
      }
    }
    std::vector<AccessChange> found;
    for (const auto& [relates, pair] : examples) {
      AccessChange change = change_of(pair.first, pair.second);
      change.only = relates;
      found.push_back(std::move(change));
    }
    const bool all_equal = std::ranges::all_of(found, [&](const AccessChange& c) {
      return c.gained == found.front().gained && c.lost == found.front().lost;
    });
    if (all_equal) {
      found.resize(1);
      found.front().only = Relation::none;
    }
    for (AccessChange& change : found) {
      if (change.gained.empty() && change.lost.empty()) {
        continue;
      }
      change.from = texts(from);
      change.to = texts(to);
      changes_.push_back(std::move(change));
    }
  }

  AccessChange change_of(std::size_t from, std::size_t to) {
    const auto& was = old_.between(from, to);
    const auto& is = new_.between(from, to);
    AccessChange change;
    change.gained = minus(ranges_of(is), ranges_of(was));
    change.lost = minus(ranges_of(was), ranges_of(is));
    std::set<std::string> reasons;
    explain_change(change.gained, is, after_, reasons);
    explain_change(change.lost, was, before_, reasons);
    // Access may be lost because of a new deny rule.
    for (const PortRange& range : change.lost) {
      const Decision decision =
          evaluate(after_, new_.endpoint(from), new_.endpoint(to), range.protocol, range.first);
      if (decision.reason == Reason::deny_rule) {
        reasons.insert("now: " + decision.rule->text());
      }
    }
    change.because.assign(reasons.begin(), reasons.end());
    change.because.resize(std::min(change.because.size(), kMostReasons));
    return change;
  }

  void explain_change(const std::vector<PortRange>& ranges, const std::vector<Opening>& openings,
                      const Policy& policy, std::set<std::string>& reasons) const {
    const std::string when = &policy == &before_ ? "was: " : "now: ";
    for (const PortRange& range : ranges) {
      for (const Opening& opening : openings) {
        if (opening.ports.protocol == range.protocol && opening.ports.first <= range.last &&
            opening.ports.last >= range.first) {
          reasons.insert(
              when + (opening.rule != nullptr ? opening.rule->text() : sentence(opening.reason)));
        }
      }
    }
  }

  [[nodiscard]] std::vector<std::string> texts(const std::vector<std::size_t>& group) const {
    std::vector<std::string> result;
    for (const std::size_t i : group) {
      result.push_back(parties_[i].text);
    }
    std::ranges::sort(result);
    return result;
  }

  /// Joins changes that differ only in their destination.
  static std::vector<AccessChange> join(std::vector<AccessChange> changes) {
    std::vector<AccessChange> joined;
    for (AccessChange& change : changes) {
      const auto same = std::ranges::find_if(joined, [&](const AccessChange& other) {
        return other.only == change.only && other.from == change.from &&
               other.gained == change.gained && other.lost == change.lost &&
               other.because == change.because;
      });
      if (change.only == Relation::none && same != joined.end()) {
        same->to.insert(same->to.end(), change.to.begin(), change.to.end());
        std::ranges::sort(same->to);
      } else {
        joined.push_back(std::move(change));
      }
    }
    return joined;
  }

  const Policy& before_;
  const Policy& after_;
  std::vector<Party> parties_;
  AccessMap old_;
  AccessMap new_;
  std::set<std::size_t> dropped_;
  std::set<std::size_t> added_;
  std::vector<std::vector<std::size_t>> groups_;
  std::vector<bool> touched_from_;
  std::vector<bool> touched_to_;
  std::vector<AccessChange> changes_;
};

}  // namespace

PolicyDiff diff(const Policy& before, const Policy& after, DiffInput input) {
  PolicyDiff result;
  if (before.mode != after.mode) {
    result.settings.push_back(
        fmt::format("mode: {} -> {}", mode_word(before.mode), mode_word(after.mode)));
  }
  if (before.baseline != after.baseline) {
    result.settings.push_back(
        fmt::format("baseline: {} -> {}", text(before.baseline), text(after.baseline)));
  }
  if (before.refuse != after.refuse) {
    result.settings.push_back(
        fmt::format("refuse: {} -> {}", refuse_word(before.refuse), refuse_word(after.refuse)));
  }
  if (before.tell_peers != after.tell_peers) {
    result.settings.push_back(
        fmt::format("tell_peers: {} -> {}", before.tell_peers, after.tell_peers));
  }
  std::ranges::move(input.settings, std::back_inserter(result.settings));
  result.rules = differing_rules(before, after);
  result.identity = std::move(input.identity);
  result.live = replay(before, after, result.identity, input.live, true);
  result.seen = replay(before, after, result.identity, input.seen, false);
  for (const LabelSet& labels : result.identity.labels_after()) {
    if (std::ranges::find(input.present, labels, &Party::labels) == input.present.end()) {
      input.present.push_back(party_of(labels));
    }
  }
  result.access = Differing(before, after, std::move(input.present)).run();
  return result;
}

}  // namespace trireme::policy
