// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "compile_state.hpp"
#include "compile_tables.hpp"

namespace trireme::policy {

namespace {

void place(CompilerState::ByGroup& where, CompilerState::Class& klass, bool added) {
  if (added) {
    where[klass.group].insert(&klass);
    return;
  }
  const auto bucket = where.find(klass.group);
  bucket->second.erase(&klass);
  if (bucket->second.empty()) {
    where.erase(bucket);
  }
}

// Leaves out classes in the same group as `klass`, because step 1 (`same`) decides their flows.
void collect(const CompilerState::ByGroup& from, const CompilerState::Class& klass,
             std::vector<CompilerState::Class*>& into) {
  for (const auto& [group, members] : from) {
    if (group == 0 || group != klass.group) {
      into.insert(into.end(), members.begin(), members.end());
    }
  }
}

void sort_unique(std::vector<CompilerState::Class*>& classes) {
  std::sort(classes.begin(), classes.end());
  classes.erase(std::unique(classes.begin(), classes.end()), classes.end());
}

}  // namespace

void CompilerState::make_tables() {
  tables.ports = rules.ports();
  tables.local4 = addresses(Entity::Kind::host, Address::Family::v4);
  tables.local6 = addresses(Entity::Kind::host, Address::Family::v6);
  tables.remote4 = addresses(Entity::Kind::world, Address::Family::v4);
  tables.remote6 = addresses(Entity::Kind::world, Address::Family::v6);
}

std::vector<AddressInterval> CompilerState::addresses(Entity::Kind kind, Address::Family family) {
  return partition_addresses(
      *policy, rules.networks(), family, [&](const std::vector<std::size_t>& networks) {
        return acquire_address_class(rules.match(kind, networks))->second.second.id;
      });
}

CompilerState::AddressClasses::iterator CompilerState::acquire_address_class(Signature signature) {
  const auto [found, fresh] = address_classes.try_emplace(std::move(signature));
  auto& [key, klass] = found->second;
  ++klass.users;
  if (fresh) {
    key.signature = found->first;
    klass.id = class_ids.take();
    klass.unlabeled = true;
    klass.key = &key;
    index(klass, true);
    connect(klass);
  }
  return found;
}

void CompilerState::release_address_class(AddressClasses::iterator found) {
  Class& klass = found->second.second;
  if (--klass.users > 0) {
    return;
  }
  disconnect(klass);
  index(klass, false);
  class_ids.give_back(klass.id);
  address_classes.erase(found);
}

CompilerState::Classes::iterator CompilerState::acquire_class(
    ClassKey key, std::optional<Groups::iterator> group) {
  const auto [found, fresh] = classes.try_emplace(std::move(key));
  Class& klass = found->second;
  ++klass.users;
  if (fresh) {
    klass.id = class_ids.take();
    klass.key = &found->first;
    if (group) {
      klass.group = (*group)->second.id;
      klass.group_key = &(*group)->first;
    }
    index(klass, true);
    connect(klass);
  }
  return found;
}

void CompilerState::release_class(Classes::iterator found) {
  Class& klass = found->second;
  if (--klass.users > 0) {
    return;
  }
  disconnect(klass);
  index(klass, false);
  class_ids.give_back(klass.id);
  classes.erase(found);
}

void CompilerState::disconnect(Class& klass) {
  const auto unlink = [&](Class& from, Class& to) {
    const auto pair = from.out.find(&to);
    profiles.release(pair->second);
    from.out.erase(pair);
    to.in.erase(&from);
    ledger.erase(&Elements::pairs, std::pair(from.id, to.id));
  };
  while (!klass.out.empty()) {
    unlink(klass, *klass.out.begin()->first);
  }
  while (!klass.in.empty()) {
    unlink(**klass.in.begin(), klass);
  }
}

void CompilerState::index(Class& klass, bool added) {
  const auto allows = [&](RuleNumber rule) { return (rules.rules()[rule].effect & kAllows) != 0; };
  for (const RuleNumber rule : klass.key->signature.from) {
    if (allows(rule)) {
      place(sources[rule], klass, added);
    }
  }
  for (const RuleNumber rule : klass.key->signature.to) {
    if (allows(rule)) {
      place(destinations[rule], klass, added);
    }
  }
  if (policy->baseline != Baseline::any_common_label) {
    return;
  }
  for (const auto& [key, value] : klass.key->labels.items()) {
    const auto where = by_label.try_emplace(Label{key, value}).first;
    place(where->second, klass, added);
    if (where->second.empty()) {
      by_label.erase(where);
    }
  }
}

// Adds the pairs of a new class with every class, itself included, that an allow rule or the
// baseline connects it with.
void CompilerState::connect(Class& klass) {
  std::vector<Class*> reached;
  std::vector<Class*> reaching;
  for (const RuleNumber rule : klass.key->signature.from) {
    collect(destinations[rule], klass, reached);
  }
  for (const RuleNumber rule : klass.key->signature.to) {
    collect(sources[rule], klass, reaching);
  }
  for (const auto& [key, value] : klass.key->labels.items()) {
    if (const auto found = by_label.find(Label{key, value}); found != by_label.end()) {
      collect(found->second, klass, reached);
      collect(found->second, klass, reaching);
    }
  }
  if (policy->baseline == Baseline::same_labels && !klass.key->labels.empty()) {
    reached.push_back(&klass);
  }
  sort_unique(reached);
  sort_unique(reaching);
  const auto has_workload = [&klass](const Class& other) {
    return !klass.unlabeled || !other.unlabeled;
  };
  for (Class* to : reached) {
    if (has_workload(*to)) {
      link(klass, *to);
    }
  }
  for (Class* from : reaching) {
    if (from != &klass && has_workload(*from)) {
      link(*from, klass);
    }
  }
}

void CompilerState::link(Class& from, Class& to) {
  const auto handle = profiles.acquire(
      {between(from.key->signature, to.key->signature), baseline_allows(from, to)});
  if (!handle) {
    return;
  }
  from.out.emplace(&to, *handle);
  to.in.insert(&from);
  ledger.put(&Elements::pairs, std::pair(from.id, to.id), (*handle)->second.profile->second.id);
}

bool CompilerState::baseline_allows(const Class& from, const Class& to) const {
  return policy->baseline == Baseline::any_common_label
             ? from.key->labels.shares_a_label(to.key->labels)
             : &from == &to && !from.key->labels.empty();
}

}  // namespace trireme::policy
