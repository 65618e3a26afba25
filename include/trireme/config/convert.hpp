// SPDX-License-Identifier: Apache-2.0
// The original Trireme's policy file (trireme-example's policy.json), as policy.toml.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/result.hpp"

namespace trireme::config {

struct Converted {
  std::string toml;
  /// What policy.toml does not say, each with its place: "Web.TagSelectors[1]: ...". They are
  /// comments in `toml` as well.
  std::vector<std::string> left_out;
};

/// Pure. Never allows more than the original did. Errors: no JSON (with line and column), or not of
/// the form that the original reads.
[[nodiscard]] Result<Converted> convert_original(std::string_view json);

}  // namespace trireme::config
