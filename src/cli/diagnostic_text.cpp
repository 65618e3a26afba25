// SPDX-License-Identifier: Apache-2.0
#include "diagnostic_text.hpp"

#include <fmt/format.h>

#include <string_view>

namespace trireme::cli {
namespace {

/// In a message, '%' and line ends are escaped; in a property, ':' and ',' too.
std::string escaped(std::string_view text, bool is_property) {
  std::string result;
  for (const char c : text) {
    const bool special =
        c == '%' || c == '\r' || c == '\n' || (is_property && (c == ':' || c == ','));
    result += special ? fmt::format("%{:02X}", c) : std::string(1, c);
  }
  return result;
}

/// The file's path as the caller sees it, without a leading "./": relative to the repository if the
/// command runs there.
std::string path_of(std::string_view directory, const std::string& file) {
  while (directory.starts_with("./")) {
    directory.remove_prefix(2);
  }
  while (directory.size() > 1 && directory.ends_with('/')) {
    directory.remove_suffix(1);
  }
  return directory.empty() || directory == "." ? file : fmt::format("{}/{}", directory, file);
}

}  // namespace

std::string github_annotation(const std::string& directory, const config::Diagnostic& diagnostic) {
  const policy::SourceLocation& where = diagnostic.where;
  std::string place;
  if (!where.file.empty()) {
    place = " file=" + escaped(path_of(directory, where.file), true);
    if (where.line > 0) {
      place += fmt::format(",line={}", where.line);
    }
    if (where.column > 0) {
      place += fmt::format(",col={}", where.column);
    }
  }
  const bool is_error = diagnostic.severity == config::Diagnostic::Severity::error;
  const std::string hint = diagnostic.hint.empty() ? "" : "; " + diagnostic.hint;
  return fmt::format("::{}{}::{}", is_error ? "error" : "warning", place,
                     escaped(diagnostic.message + hint, false));
}

}  // namespace trireme::cli
