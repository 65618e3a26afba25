// SPDX-License-Identifier: Apache-2.0
#include "compile_rules.hpp"

#include <algorithm>
#include <iterator>

#include "compile_tables.hpp"

namespace trireme::policy {
namespace {

std::uint8_t effect(const Rule& rule) {
  if (rule.action == Rule::Action::deny) {
    return rule.mode == Mode::audit ? kAudits : kDenies;
  }
  if (rule.mode == Mode::audit) {
    return 0;
  }
  return rule.log ? kAllows | kLogs : kAllows;
}

bool can_apply(const Rule& rule) {
  const auto covers_something = [](const PortRange& range) { return range.first <= range.last; };
  return !rule.from.empty() && !rule.to.empty() &&
         (rule.ports.empty() ||
          std::any_of(rule.ports.begin(), rule.ports.end(), covers_something));
}

void append(std::vector<RuleNumber>& to, const std::vector<RuleNumber>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

void append(Signature& to, const Signature& from) {
  append(to.from, from.from);
  append(to.to, from.to);
}

void sort_unique(std::vector<RuleNumber>& rules) {
  std::sort(rules.begin(), rules.end());
  rules.erase(std::unique(rules.begin(), rules.end()), rules.end());
}

void sort_unique(Signature& signature) {
  sort_unique(signature.from);
  sort_unique(signature.to);
}

}  // namespace

std::vector<RuleNumber> between(const Signature& from, const Signature& to) {
  std::vector<RuleNumber> both;
  std::set_intersection(from.from.begin(), from.from.end(), to.to.begin(), to.to.end(),
                        std::back_inserter(both));
  return both;
}

RuleIndex::RuleIndex(const Policy& policy) {
  std::map<std::vector<PortRange>, std::size_t> port_sets;
  std::vector<std::size_t> port_set_of;
  for (const Rule& rule : policy.rules) {
    if (effect(rule) == 0 || !can_apply(rule)) {
      continue;
    }
    const auto number = static_cast<RuleNumber>(rules_.size());
    rules_.push_back(
        {.effect = effect(rule), .every_port = rule.ports.empty(), .port_classes = {}});
    port_set_of.push_back(
        rule.ports.empty() ? 0 : port_sets.try_emplace(rule.ports, port_sets.size()).first->second);
    add_side(policy, number, rule.from, &Signature::from);
    add_side(policy, number, rule.to, &Signature::to);
  }
  std::vector<std::vector<PortRange>> sets(port_sets.size());
  for (const auto& [ranges, number] : port_sets) {
    sets[number] = ranges;
  }
  PortPartition partition = partition_ports(sets);
  ports_ = std::move(partition.intervals);
  port_classes_ = partition.classes;
  for (std::size_t i = 0; i < rules_.size(); ++i) {
    if (!rules_[i].every_port) {
      rules_[i].port_classes = partition.classes_of_set[port_set_of[i]];
    }
  }
}

void RuleIndex::add_side(const Policy& policy, RuleNumber rule, const std::vector<Peer>& peers,
                         std::vector<RuleNumber> Signature::*side) {
  for (const Peer& peer : peers) {
    if (const auto* selector = std::get_if<Selector>(&peer)) {
      const auto [place, fresh] = numbers_.try_emplace(*selector, selections_.size());
      if (fresh) {
        selections_.push_back({.selector = &place->first, .covered = {}});
        index(place->second);
      }
      (selections_[place->second].covered.*side).push_back(rule);
      continue;
    }
    Entity entity = std::get<Entity>(peer);
    if (entity.kind != Entity::Kind::network) {
      entity.network = 0;
    } else if (entity.network >= policy.networks.size()) {
      continue;
    }
    (entities_[entity].*side).push_back(rule);
  }
}

void RuleIndex::index(std::size_t selection) {
  const auto& requirements = selections_[selection].selector->requirements();
  for (const Requirement& requirement : requirements) {
    if (const auto* values = requirement.exact_values()) {
      for (const std::string& value : *values) {
        by_key_[requirement.key].by_value[value].push_back(selection);
      }
      return;
    }
  }
  const auto key = std::ranges::find_if(requirements, &Requirement::needs_key);
  (key != requirements.end() ? by_key_[key->key].present : always_).push_back(selection);
}

void RuleIndex::collect(const std::vector<std::size_t>& candidates, const LabelSet& labels,
                        Signature& into) const {
  for (const std::size_t candidate : candidates) {
    if (selections_[candidate].selector->matches(labels)) {
      append(into, selections_[candidate].covered);
    }
  }
}

Signature RuleIndex::match(const LabelSet& labels) const {
  Signature signature;
  collect(always_, labels, signature);
  for (const auto& [key, value] : labels.items()) {
    const auto bucket = by_key_.find(key);
    if (bucket == by_key_.end()) {
      continue;
    }
    collect(bucket->second.present, labels, signature);
    const auto exact = bucket->second.by_value.find(value);
    if (exact != bucket->second.by_value.end()) {
      collect(exact->second, labels, signature);
    }
  }
  sort_unique(signature);
  return signature;
}

Signature RuleIndex::match(Entity::Kind kind, const std::vector<std::size_t>& networks) const {
  Signature signature;
  const auto add = [&](const Entity& entity) {
    const auto found = entities_.find(entity);
    if (found != entities_.end()) {
      append(signature, found->second);
    }
  };
  add({kind, 0});
  for (const std::size_t network : networks) {
    add({Entity::Kind::network, network});
  }
  sort_unique(signature);
  return signature;
}

std::vector<std::size_t> RuleIndex::networks() const {
  std::vector<std::size_t> networks;
  for (const auto& [entity, covered] : entities_) {
    if (entity.kind == Entity::Kind::network) {
      networks.push_back(entity.network);
    }
  }
  return networks;
}

}  // namespace trireme::policy
