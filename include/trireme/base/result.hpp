// SPDX-License-Identifier: Apache-2.0
// Errors as values: what failed, why, and what the operator can do about it.
#pragma once

#include <cerrno>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace trireme {

/// `message`: what went wrong, in one line without a trailing period. `hint`: how to fix it;
/// optional.
struct Error {
  std::string message;
  std::string hint = {};
  int code = 0;        // errno value if a system call failed, else 0
  bool usage = false;  // what the user asked for is invalid, so that asking again is of no use

  /// "message; hint", for logs and terminals.
  [[nodiscard]] std::string text() const { return hint.empty() ? message : message + "; " + hint; }
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

[[nodiscard]] inline tl::unexpected<Error> fail(std::string message, std::string hint = {}) {
  return tl::unexpected<Error>(Error{std::move(message), std::move(hint)});
}

/// The same error, marked as invalid usage.
[[nodiscard]] inline tl::unexpected<Error> fail_usage(Error error) {
  error.usage = true;
  return tl::unexpected<Error>(std::move(error));
}

/// An error with the message "what: strerror(error)" and `code` = error, a positive errno value.
[[nodiscard]] tl::unexpected<Error> fail_errno(std::string_view what, int error = errno);

}  // namespace trireme
