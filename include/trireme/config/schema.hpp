// SPDX-License-Identifier: Apache-2.0
// JSON Schemas of the configuration files, for editors.
#pragma once

#include <nlohmann/json.hpp>

namespace trireme::config {

/// JSON Schema (draft 07) of policy.toml and of the files in policy.d. Whatever the daemon accepts
/// is valid. Unknown keys, wrong types, unknown words and missing keys are not; what a string must
/// look like, and what several files must not say together, is for the daemon to check.
[[nodiscard]] nlohmann::ordered_json policy_schema();
/// The same for identity.toml and identity.d.
[[nodiscard]] nlohmann::ordered_json identity_schema();

}  // namespace trireme::config
