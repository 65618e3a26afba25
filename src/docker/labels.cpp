#include "labels.hpp"

#include <algorithm>

namespace trireme::docker {
namespace {

/// A key, or a prefix that ends in '*'.
bool pattern_matches(const std::string& pattern, const std::string& key) {
  return pattern.ends_with('*') ? key.starts_with(pattern.substr(0, pattern.size() - 1))
                                : key == pattern;
}

bool is_listed(const std::vector<std::string>& patterns, const std::string& key) {
  return std::ranges::any_of(
      patterns, [&](const std::string& pattern) { return pattern_matches(pattern, key); });
}

}  // namespace

Result<policy::LabelSet> identity_labels(const RawLabels& labels, const RawLabels& image,
                                         const policy::DockerSettings& settings) {
  policy::LabelSet identity;
  const auto gives_identity = [&settings](const std::string& key) {
    return settings.labels.empty() ? !is_listed(settings.ignore_labels, key)
                                   : is_listed(settings.labels, key);
  };
  for (const auto& [key, value] : labels) {
    const auto of_image = image.find(key);
    const bool merely_of_image = of_image != image.end() && of_image->second == value &&
                                 !is_listed(settings.image_labels, key);
    if (merely_of_image || !gives_identity(key)) {
      continue;
    }
    if (Status added = identity.set(key, value); !added) {
      return fail("label '" + key + "': " + added.error().message,
                  "list it in [docker] ignore_labels of identity.toml");
    }
  }
  for (const auto& [key, source] : settings.label_from) {
    const auto value = labels.find(source);
    if (value == labels.end() || identity.find(key) != nullptr) {
      continue;
    }
    if (Status added = identity.set(key, value->second); !added) {
      return fail("label '" + key + "' from '" + source + "': " + added.error().message,
                  "change [docker] label_from of identity.toml");
    }
  }
  return identity;
}

}  // namespace trireme::docker
