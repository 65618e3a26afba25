// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "compile_state.hpp"

namespace trireme::policy {

namespace {

std::vector<RuleNumber> restricting(const std::vector<CompiledRule>& rules,
                                    const std::vector<RuleNumber>& among) {
  std::vector<RuleNumber> result;
  std::copy_if(among.begin(), among.end(), std::back_inserter(result),
               [&](RuleNumber number) { return (rules[number].effect & kRestricts) != 0; });
  return result;
}

bool all_allowed(const Profiles::Content& content) {
  return std::all_of(content.begin(), content.end(),
                     [](const auto& entry) { return entry == Outcome::allow; });
}

}  // namespace

bool CompilerState::baseline_reaches_itself(const LabelSet& labels) const {
  return policy->baseline != Baseline::none && labels.has_own();
}

Signature CompilerState::restrictions(const Signature& signature) const {
  return {restricting(rules.rules(), signature.from), restricting(rules.rules(), signature.to)};
}

// The label that most identities have. Its group saves the most pairs, because identities in one
// group need none among themselves.
const Label& CompilerState::common_label(const LabelSet& labels) const {
  const std::pair<const Label, std::size_t>* best = nullptr;
  const LabelSet own = labels.own();
  for (const auto& [key, value] : own.items()) {
    const auto& entry = *label_users.find(Label{key, value});
    if (best == nullptr || entry.second > best->second) {
      best = &entry;
    }
  }
  return best->first;
}

std::optional<CompilerState::GroupKey> CompilerState::group_key(const LabelSet& labels,
                                                                const Signature& signature) const {
  const std::vector<RuleNumber> inside = between(signature, signature);
  if (all_allowed(profiles.content({inside, false}))) {
    return GroupKey{GroupKey::Kind::open, signature, {}};
  }
  if (!baseline_reaches_itself(labels) || !restricting(rules.rules(), inside).empty()) {
    return std::nullopt;
  }
  if (policy->baseline == Baseline::same_labels) {
    return GroupKey{GroupKey::Kind::identity, {}, labels.all_as_own().encode()};
  }
  const Label& label = common_label(labels);
  return GroupKey{GroupKey::Kind::common, restrictions(signature), label.key + "=" + label.value};
}

CompilerState::ClassKey CompilerState::class_key(const LabelSet& labels,
                                                 const Signature& signature) const {
  if (!baseline_reaches_itself(labels)) {
    return {signature, {}};
  }
  if (policy->baseline == Baseline::any_common_label) {
    return {signature, labels.own()};
  }
  const std::vector<RuleNumber> inside = between(signature, signature);
  const auto helped = profiles.content({inside, true});
  const bool by_group = all_allowed(helped);
  return {signature, by_group || helped == profiles.content({inside, false}) ? LabelSet{}
                                                                             : labels.all_as_own()};
}

void CompilerState::count_labels(const LabelSet& labels, bool added) {
  if (policy->baseline != Baseline::any_common_label) {
    return;
  }
  const LabelSet own = labels.own();
  for (const auto& [key, value] : own.items()) {
    const auto place = label_users.try_emplace(Label{key, value}, 0).first;
    place->second += added ? 1 : std::size_t(-1);
    if (place->second == 0) {
      label_users.erase(place);
    }
  }
}

CompilerState::Identities::iterator CompilerState::acquire_identity(const LabelSet& labels) {
  const auto [place, fresh] = identities.try_emplace(labels.encode());
  Identity& identity = place->second;
  ++identity.users;
  if (!fresh) {
    return place;
  }
  identity.labels = labels;
  count_labels(labels, true);
  const Signature signature = rules.match(labels);
  ClassKey class_of = class_key(labels, signature);
  std::optional<Groups::iterator> class_group;
  if (auto key = group_key(labels, signature)) {
    const bool of_class = key->kind != GroupKey::Kind::identity;
    // Identities of one class differ only in their [host] labels and must share a group. Take the
    // group that the class has: the most common label may have changed since it was chosen.
    if (const auto known = classes.find(class_of);
        known != classes.end() && known->second.group_key != nullptr) {
      key = *known->second.group_key;
    }
    const auto [group, fresh_group] = groups.try_emplace(std::move(*key));
    if (fresh_group) {
      group->second.id = group_ids.take();
      ledger.put_same(group->second.id);
    }
    ++group->second.users;
    identity.group = group;
    class_group = of_class ? std::optional(group) : std::nullopt;
  }
  identity.klass = acquire_class(std::move(class_of), class_group);
  return place;
}

void CompilerState::release_identity(Identities::iterator place) {
  Identity& identity = place->second;
  if (--identity.users > 0) {
    return;
  }
  release_class(identity.klass);
  if (identity.group && --(*identity.group)->second.users == 0) {
    ledger.erase_same((*identity.group)->second.id);
    group_ids.give_back((*identity.group)->second.id);
    groups.erase(*identity.group);
  }
  count_labels(identity.labels, false);
  identities.erase(place);
}

}  // namespace trireme::policy
