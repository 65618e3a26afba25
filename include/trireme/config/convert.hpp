// SPDX-License-Identifier: Apache-2.0
// Converts a policy file of the original Trireme (policy.json of trireme-example) to policy.toml.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/result.hpp"

namespace trireme::config {

struct Converted {
  std::string toml;
  /// Entries that policy.toml cannot express, each with its position and the reason:
  /// "Web.TagSelectors[1]: ...". They are also comments in `toml`.
  std::vector<std::string> left_out;
};

/// Pure. The result never allows more than the original file did. Errors: invalid JSON (with line
/// and column), or a structure that the original does not read (with the position in the document).
[[nodiscard]] Result<Converted> convert_original(std::string_view json);

}  // namespace trireme::config
