// SPDX-License-Identifier: Apache-2.0
// What mbedTLS says of its error codes.
#pragma once

#include <string>

namespace trireme::credentials {

/// "X509 - The date tag or value is invalid", without a trailing period.
[[nodiscard]] std::string failure_text(int rc);
/// Whether it was memory that failed, not the input.
[[nodiscard]] bool is_out_of_memory(int rc);

}  // namespace trireme::credentials
