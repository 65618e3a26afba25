// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/shorten.hpp"

namespace trireme::policy {
namespace {

std::string text_of(const LabelSet::Map& labels) {
  std::string text;
  for (const auto& [key, value] : labels) {
    text += (text.empty() ? "" : ",") + key + "=" + value;
  }
  return text;
}

/// The labels of `set` that `other` does not have; all of them if there are none of these.
std::string difference(const LabelSet::Map& set, const LabelSet::Map& other) {
  LabelSet::Map rest;
  for (const auto& [key, value] : set) {
    const auto found = other.find(key);
    if (found == other.end() || found->second != value) {
      rest.emplace(key, value);
    }
  }
  if (rest.empty()) {
    return text_of(set);
  }
  return text_of(rest) + (rest.size() < set.size() ? ",…" : "");
}

}  // namespace

ShortLabels shorten(const LabelSet::Map& source, const LabelSet::Map& destination) {
  if (source == destination && !source.empty()) {
    return {text_of(source), "same labels"};
  }
  return {difference(source, destination), difference(destination, source)};
}

}  // namespace trireme::policy
