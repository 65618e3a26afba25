// SPDX-License-Identifier: Apache-2.0
// Errors as values: what was tried, why it failed, and what the operator can do about it.
#pragma once

#include <cerrno>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace trireme {

/// What went wrong, in one line without a trailing period, and optionally how to mend it.
struct Error {
  std::string message;
  std::string hint = {};
  int code = 0;  // the kernel's, an errno value; 0: it was not the kernel that refused

  /// "message; hint", for logs and terminals.
  [[nodiscard]] std::string text() const { return hint.empty() ? message : message + "; " + hint; }
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

[[nodiscard]] inline tl::unexpected<Error> fail(std::string message, std::string hint = {}) {
  return tl::unexpected<Error>(Error{std::move(message), std::move(hint)});
}

/// "what: strerror(error)", with that code. `error` is a positive errno value.
[[nodiscard]] tl::unexpected<Error> fail_errno(std::string_view what, int error = errno);

}  // namespace trireme
