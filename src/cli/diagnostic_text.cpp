// SPDX-License-Identifier: Apache-2.0
#include "diagnostic_text.hpp"

#include <fmt/format.h>

#include <string_view>

#include "diagnostics.hpp"
#include "trireme/base/printable.hpp"

namespace trireme::cli {
namespace {

/// In a message, '%' and line ends are escaped; in a property, ':' and ',' too. Other control
/// characters are replaced, since the runner's log shows escape sequences as colors.
std::string escaped(std::string_view text, bool is_property) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    const bool special =
        c == '%' || c == '\r' || c == '\n' || (is_property && (c == ':' || c == ','));
    const std::size_t control = special ? 0 : control_at(text, at).size;
    result += special ? fmt::format("%{:02X}", c) : std::string(1, control > 0 ? '?' : c);
    at += control > 0 ? control : 1;
  }
  return result;
}

/// The file's path as the caller sees it, without a leading "./": relative to the repository if the
/// command runs there.
std::string file_path(std::string_view directory, const std::string& file) {
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
    place = " file=" + escaped(file_path(directory, where.file), true);
    if (where.line > 0) {
      place += fmt::format(",line={}", where.line);
    }
    if (where.column > 0) {
      place += fmt::format(",col={}", where.column);
    }
  }
  const std::string hint = diagnostic.hint.empty() ? "" : "; " + diagnostic.hint;
  return fmt::format("::{}{}::{}", is_error(diagnostic) ? "error" : "warning", place,
                     escaped(diagnostic.message + hint, false));
}

}  // namespace trireme::cli
