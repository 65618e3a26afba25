// SPDX-License-Identifier: Apache-2.0
// Collects the diagnostics of one load.
#pragma once

#include <string>
#include <vector>

#include "trireme/config/loader.hpp"

namespace trireme::config {

class Reporter {
 public:
  /// Diagnostics beyond this number are counted, not kept: nobody reads them, and a hostile file
  /// could cause millions.
  static constexpr std::size_t kMaxKept = 1000;
  static constexpr std::size_t kMaxSuggestions = 100;

  void error(policy::SourceLocation where, std::string message, std::string hint = {});
  void error(policy::SourceLocation where, Error error) {
    this->error(std::move(where), std::move(error.message), std::move(error.hint));
  }
  void warn(policy::SourceLocation where, std::string message, std::string hint = {});
  void warn(const policy::Finding& finding);
  void add(Diagnostic diagnostic);
  [[nodiscard]] std::size_t errors() const { return errors_; }
  /// Whether it is worth comparing what was written with all names that exist: not after so many
  /// errors that each of them has the same cause, such as a drop-in that cannot be parsed.
  [[nodiscard]] bool suggests() const { return errors_ < kMaxSuggestions; }

  /// Returns the diagnostics, sorted by file (in the order of `files`), line and column.
  [[nodiscard]] std::vector<Diagnostic> take(const std::vector<std::string>& files);

 private:
  std::vector<Diagnostic> diagnostics_;
  std::size_t errors_ = 0;
  std::size_t left_out_ = 0;
};

}  // namespace trireme::config
