// SPDX-License-Identifier: Apache-2.0
#include "words.hpp"

#include <fmt/format.h>

#include "trireme/base/printable.hpp"
#include "trireme/policy/labels.hpp"

namespace trireme::config {

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kSpace);
  return first == std::string_view::npos
             ? std::string_view{}
             : text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::string printable(std::string text) {
  if (policy::is_printable(text) && trireme::printable(text) == text) {
    return text;
  }
  std::string escaped;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    escaped += byte >= 0x20 && byte < 0x7F ? std::string(1, c) : fmt::format("\\x{:02x}", byte);
  }
  return escaped;
}

std::string without_middle(std::string text) {
  constexpr std::size_t kBegin = 3000;
  constexpr std::size_t kEnd = 1000;
  if (text.size() <= kBegin + kEnd) {
    return text;
  }
  const auto is_inside = [&text](std::size_t at) {
    return (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U;
  };
  std::size_t begin = kBegin;
  while (begin > 0 && is_inside(begin)) {
    --begin;
  }
  std::size_t end = text.size() - kEnd;
  while (end < text.size() && is_inside(end)) {
    ++end;
  }
  return text.substr(0, begin) + "…" + text.substr(end);
}

bool is_drop_in(std::string_view name) {
  return name.ends_with(".toml") && !name.starts_with('.');
}

}  // namespace trireme::config
