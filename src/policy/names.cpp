// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/names.hpp"

#include <algorithm>

namespace trireme::policy {

NameIndex::NameIndex(const Policy& policy) {
  for (std::size_t network = 0; network < policy.networks.size(); network++) {
    for (const std::string& name : policy.networks[network].names) {
      networks_[name].push_back(network);
    }
  }
}

std::vector<std::size_t> NameIndex::match(std::string_view name) const {
  std::vector<std::size_t> result;
  const auto add = [&](const std::string& written) {
    if (const auto found = networks_.find(written); found != networks_.end()) {
      result.insert(result.end(), found->second.begin(), found->second.end());
    }
  };
  add(std::string(name));
  for (std::size_t dot = name.find('.'); dot != std::string_view::npos;
       dot = name.find('.', dot + 1)) {
    add("*" + std::string(name.substr(dot)));
  }
  std::ranges::sort(result);
  result.erase(std::unique(result.begin(), result.end()), result.end());
  return result;
}

bool denies_names(const Policy& policy) {
  const auto has_names = [&policy](const Peer& peer) {
    const auto* entity = std::get_if<Entity>(&peer);
    return entity != nullptr && entity->kind == Entity::Kind::network &&
           entity->network < policy.networks.size() &&
           !policy.networks[entity->network].names.empty();
  };
  return std::ranges::any_of(policy.rules, [&](const Rule& rule) {
    return rule.action == Rule::Action::deny && rule.mode == Mode::enforce &&
           (std::ranges::any_of(rule.from, has_names) || std::ranges::any_of(rule.to, has_names));
  });
}

}  // namespace trireme::policy
