// SPDX-License-Identifier: Apache-2.0
// The capabilities of workloads in one line: most containers have CAP_NET_RAW, and a warning for
// each of them would hide the others.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace trireme::cli {

/// "2 workloads can bypass policy by their capabilities: CAP_NET_ADMIN (1), CAP_NET_RAW (2)" from
/// "capabilities" of the method status. Empty if there is none.
[[nodiscard]] std::string capability_line(const nlohmann::json& capabilities);

/// The same from the result of the method workloads.
[[nodiscard]] nlohmann::json count_capabilities(const nlohmann::json& workloads);

/// Whether the warning of a workload object is about one of its capabilities.
[[nodiscard]] bool is_about_capability(const nlohmann::json& workload, const std::string& warning);

}  // namespace trireme::cli
