// SPDX-License-Identifier: Apache-2.0
#include "trireme/config/container_labels.hpp"

#include <algorithm>

#include "trireme/policy/selector.hpp"

namespace trireme::config {
namespace {

bool is_listed(const std::vector<std::string>& patterns, const std::string& key) {
  return std::ranges::any_of(
      patterns, [&](const std::string& pattern) { return policy::matches_pattern(pattern, key); });
}

bool gives_identity(const std::string& key, const DockerSettings& settings) {
  return settings.labels.empty() ? !is_listed(settings.ignore_labels, key)
                                 : is_listed(settings.labels, key);
}

bool is_merely_of_image(const std::string& key, const std::string& value, const RawLabels& image,
                        const DockerSettings& settings) {
  const auto of_image = image.find(key);
  return of_image != image.end() && of_image->second == value &&
         !is_listed(settings.image_labels, key);
}

}  // namespace

Result<policy::LabelSet> identity_labels(const RawLabels& labels, const RawLabels& image,
                                         const DockerSettings& settings) {
  policy::LabelSet identity;
  for (const auto& [key, value] : labels) {
    if (is_merely_of_image(key, value, image, settings) || !gives_identity(key, settings)) {
      continue;
    }
    if (Status added = identity.set(key, value); !added) {
      return fail("label '" + key + "': " + added.error().message,
                  "list it in [docker] ignore_labels of identity.toml");
    }
  }
  for (const auto& [key, source] : settings.label_from) {
    const auto value = labels.find(source);
    if (value == labels.end() || identity.find(key) != nullptr ||
        is_merely_of_image(source, value->second, image, settings)) {
      continue;
    }
    if (Status added = identity.set(key, value->second); !added) {
      return fail("label '" + key + "' from '" + source + "': " + added.error().message,
                  "change [docker] label_from of identity.toml");
    }
  }
  return identity;
}

std::vector<std::string> labels_lost_to_image(const RawLabels& labels, const RawLabels& image,
                                              const DockerSettings& settings) {
  const auto is_source = [&settings](const std::string& key) {
    return std::ranges::any_of(settings.label_from,
                               [&key](const auto& made) { return made.second == key; });
  };
  std::vector<std::string> lost;
  for (const auto& [key, value] : labels) {
    if (is_merely_of_image(key, value, image, settings) &&
        (gives_identity(key, settings) || is_source(key))) {
      lost.push_back(key + "=" + value);
    }
  }
  return lost;
}

bool is_under_policy(const DockerSettings& settings, const policy::LabelSet& identity,
                     bool has_own_network) {
  switch (settings.containers) {
    case DockerSettings::Containers::all:
      return true;
    case DockerSettings::Containers::labeled:
      return !identity.empty();
    case DockerSettings::Containers::host_network:
      return !has_own_network;
    case DockerSettings::Containers::none:
      break;
  }
  return false;
}

}  // namespace trireme::config
