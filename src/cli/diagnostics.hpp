// SPDX-License-Identifier: Apache-2.0
// Diagnostics of a configuration as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "trireme/config/loader.hpp"

namespace trireme::cli {

[[nodiscard]] inline bool is_error(const config::Diagnostic& diagnostic) {
  return diagnostic.severity == config::Diagnostic::Severity::error;
}

/// [{"severity": "error|warning", "file": "policy.toml", "line": 12, "column": 8, "message": "...",
/// "hint": "...", "text": "all in one line"}]
[[nodiscard]] nlohmann::json to_json(const std::vector<config::Diagnostic>& diagnostics);

}  // namespace trireme::cli
