// SPDX-License-Identifier: Apache-2.0
// Shared by the compiler's tests: short constructors of policy values, and sums of deltas.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "trireme/policy/compile.hpp"

namespace trireme::policy {

inline constexpr std::uint8_t kTcp = 6;
inline constexpr std::uint32_t kSecondHalf = 1U << 31U;

inline Address address(const std::string& text) {
  return *Address::parse(text);
}

/// Keys with '=' in front are [host] labels.
inline LabelSet labeled(const std::map<std::string, std::string>& labels) {
  LabelSet set;
  for (const auto& [key, value] : labels) {
    EXPECT_TRUE(key.starts_with('=') ? set.set_of_host(key.substr(1), value) : set.set(key, value));
  }
  return set;
}

inline Selector selector(const std::string& text) {
  const auto parsed = Selector::parse(text);
  EXPECT_TRUE(parsed) << text;
  return *parsed;
}

inline void apply(Elements& elements, const Delta& delta) {
  const auto apply_to = [&](auto Elements::*map) {
    for (const auto& entry : delta.remove.*map) {
      if constexpr (requires { entry.second; }) {
        EXPECT_EQ((elements.*map).erase(entry.first), 1U) << "removes a missing element";
      } else {
        EXPECT_EQ((elements.*map).erase(entry), 1U) << "removes a missing element";
      }
    }
    for (const auto& entry : delta.add.*map) {
      EXPECT_TRUE((elements.*map).insert(entry).second) << "adds an existing element";
    }
  };
  apply_to(&Elements::groups);
  apply_to(&Elements::classes);
  apply_to(&Elements::same);
  apply_to(&Elements::pairs);
  apply_to(&Elements::outcomes);
  apply_to(&Elements::local_named);
  apply_to(&Elements::remote_named);
}

inline std::size_t size(const Elements& elements) {
  return elements.groups.size() + elements.classes.size() + elements.same.size() +
         elements.pairs.size() + elements.outcomes.size();
}

inline std::size_t distinct_classes(const Elements& elements) {
  std::set<std::uint32_t> classes;
  for (const auto& [number, klass] : elements.classes) {
    classes.insert(klass);
  }
  return classes.size();
}

}  // namespace trireme::policy
