// SPDX-License-Identifier: Apache-2.0
// Error codes of mbedTLS.
#pragma once

#include <string>

namespace trireme::credentials {

/// The description of a code: "X509 - The date tag or value is invalid".
[[nodiscard]] std::string failure_text(int rc);
/// Whether the operation failed because memory could not be allocated, not because of its input.
[[nodiscard]] bool is_out_of_memory(int rc);

}  // namespace trireme::credentials
