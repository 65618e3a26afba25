// SPDX-License-Identifier: Apache-2.0
#include "compile_profiles.hpp"

#include <algorithm>

namespace trireme::policy {
namespace {

std::optional<Outcome> outcome(std::uint8_t effects) {
  if ((effects & kDenies) != 0 || (effects & kAllows) == 0) {
    return std::nullopt;
  }
  if ((effects & kAudits) != 0) {
    return Outcome::audit;
  }
  return (effects & kLogs) != 0 ? Outcome::allow_log : Outcome::allow;
}

}  // namespace

std::uint32_t IdPool::take() {
  constexpr std::uint32_t kSpan = (1U << 31U) - 1U;
  while (true) {
    const std::uint32_t id = next_;
    next_ = next_ - first_ == kSpan - 1 ? first_ : next_ + 1;
    if (used_.insert(id).second) {
      return id;
    }
  }
}

Profiles::Content Profiles::content(const Question& question) const {
  std::uint8_t everywhere = question.baseline ? kAllows : 0;
  std::vector<std::uint8_t> effects(rules_.port_classes(), 0);
  for (const RuleNumber number : question.rules) {
    const CompiledRule& rule = rules_.rules()[number];
    if (rule.every_port) {
      everywhere |= rule.effect;
    }
    for (const std::uint32_t port_class : rule.port_classes) {
      effects[port_class] |= rule.effect;
    }
  }
  Content content;
  content.reserve(effects.size());
  for (const std::uint8_t here : effects) {
    content.push_back(outcome(here | everywhere));
  }
  return content;
}

std::optional<Profiles::Handle> Profiles::acquire(Question question) {
  const auto known = decisions_.find(question);
  if (known != decisions_.end()) {
    ++known->second.users;
    return known;
  }
  Content answer = content(question);
  if (std::none_of(answer.begin(), answer.end(),
                   [](const auto& entry) { return entry.has_value(); })) {
    return std::nullopt;
  }
  const auto [profile, fresh] = profiles_.try_emplace(std::move(answer));
  if (fresh) {
    profile->second.id = ids_.take();
    for (std::uint32_t port_class = 0; port_class < profile->first.size(); ++port_class) {
      if (const auto& entry = profile->first[port_class]) {
        ledger_.put(&Elements::outcomes, std::pair(profile->second.id, port_class), *entry);
      }
    }
  }
  ++profile->second.users;
  return decisions_.emplace(std::move(question), Decision{profile, 1}).first;
}

void Profiles::release(Handle handle) {
  if (--handle->second.users > 0) {
    return;
  }
  const auto profile = handle->second.profile;
  decisions_.erase(handle);
  if (--profile->second.users > 0) {
    return;
  }
  for (std::uint32_t port_class = 0; port_class < profile->first.size(); ++port_class) {
    if (profile->first[port_class]) {
      ledger_.erase(&Elements::outcomes, std::pair(profile->second.id, port_class));
    }
  }
  ids_.give_back(profile->second.id);
  profiles_.erase(profile);
}

}  // namespace trireme::policy
