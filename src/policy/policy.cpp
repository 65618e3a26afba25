// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/policy.hpp"

#include <fmt/format.h>

namespace trireme::policy {

std::string SourceLocation::text() const {
  if (line == 0) {
    return file;
  }
  return column == 0 ? fmt::format("{}:{}", file, line)
                     : fmt::format("{}:{}:{}", file, line, column);
}

std::string Rule::text() const {
  const std::string_view verb = action == Action::allow ? "allow" : "deny";
  const std::string place = where.file.empty() ? "" : " (" + where.text() + ")";
  return name.empty() ? fmt::format("{}{}", verb, place)
                      : fmt::format("{} '{}'{}", verb, name, place);
}

std::string hex(std::span<const std::uint8_t> bytes) {
  return fmt::format("{:02x}", fmt::join(bytes, ""));
}

}  // namespace trireme::policy
