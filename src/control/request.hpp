// SPDX-License-Identifier: Apache-2.0
// Parses a line from the control socket into a request. The caller can be any user, so the line is
// untrusted.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "trireme/base/result.hpp"

namespace trireme::control {

struct Request {
  std::string method;
  nlohmann::json params;  // always an object; empty if the caller sent none
};

/// Needs time and memory in proportion to the length of `line`. JSON nested more than 16 levels
/// deep is rejected before it is built; methods need at most 3 levels, an array in params. Errors:
/// invalid JSON, no method, or params that is not an object.
[[nodiscard]] Result<Request> parse_request(std::string_view line);

}  // namespace trireme::control
