#include "trireme/policy/identity.hpp"

#include <algorithm>

namespace trireme::policy {

bool LaunchGrant::permits(const LabelSet& requested) const {
  return std::all_of(requested.items().begin(), requested.items().end(), [this](const auto& item) {
    return std::any_of(labels.begin(), labels.end(),
                       [&item](const Label& grant) { return grant.key == item.first && matches_pattern(grant.value, item.second); });
  });
}

}  // namespace trireme::policy
