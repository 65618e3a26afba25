// SPDX-License-Identifier: Apache-2.0
// Maps DNS names to the networks of a policy that list them.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "trireme/policy/policy.hpp"

namespace trireme::policy {

class NameIndex {
 public:
  explicit NameIndex(const Policy& policy);

  /// Networks (indices into Policy::networks, sorted) that list the name itself or a wildcard for
  /// it. `*.example.org` matches every name below example.org, but not example.org. `name` is in
  /// lower case, without a final dot. Costs one hash lookup per DNS label.
  [[nodiscard]] std::vector<std::size_t> match(std::string_view name) const;
  [[nodiscard]] bool empty() const { return networks_.empty(); }

 private:
  std::unordered_map<std::string, std::vector<std::size_t>>
      networks_;  // by the name as in the policy
};

/// True if an enforced deny rule names a network with DNS names. Such a rule has a gap: addresses
/// of the name that trireme has not learned yet are not denied.
[[nodiscard]] bool denies_names(const Policy& policy);

}  // namespace trireme::policy
