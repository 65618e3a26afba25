// SPDX-License-Identifier: Apache-2.0
// DNS names to the networks that policy puts them in.
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

  /// Networks (indices into Policy::networks, sorted) of a name in lower case without its final
  /// dot: by itself, or by a wildcard, which stands for every name below and not for the name that
  /// it is below of. Costs a look-up for each label.
  [[nodiscard]] std::vector<std::size_t> match(std::string_view name) const;
  [[nodiscard]] bool empty() const { return networks_.empty(); }

 private:
  std::unordered_map<std::string, std::vector<std::size_t>>
      networks_;  // by the name as policy writes it
};

/// Whether a rule in force refuses what a network with names has: then an address that trireme has
/// not heard of passes where it should not.
[[nodiscard]] bool denies_names(const Policy& policy);

}  // namespace trireme::policy
