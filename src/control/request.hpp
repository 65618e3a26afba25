// SPDX-License-Identifier: Apache-2.0
// A line from a caller of the control socket, who may be anybody, to a request or an error.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "trireme/base/result.hpp"

namespace trireme::control {

struct Request {
  std::string method;
  nlohmann::json params;  // always an object; empty where the caller sent none
};

/// Pure, and bounded by the length of `line`: what is nested more than 16 levels deep is refused
/// before anything is built from it. (Methods take at most an array in params: 3 levels.)
[[nodiscard]] Result<Request> parse_request(std::string_view line);

}  // namespace trireme::control
