// SPDX-License-Identifier: Apache-2.0
#include "trireme/base/printable.hpp"

namespace trireme {

ControlCharacter control_at(std::string_view text, std::size_t at) {
  const auto byte = [text, at](std::size_t offset) -> std::uint32_t {
    return at + offset < text.size() ? static_cast<unsigned char>(text[at + offset]) : 0U;
  };
  const std::uint32_t first = byte(0);
  if (at < text.size() && (first < 0x20U || first == 0x7FU)) {
    return {.code = first, .size = 1};
  }
  if (first == 0xC2U && byte(1) >= 0x80U && byte(1) < 0xA0U) {
    return {.code = byte(1), .size = 2};
  }
  if (first == 0xD8U && byte(1) == 0x9CU) {
    return {.code = 0x061CU, .size = 2};
  }
  if (first != 0xE2U || (byte(1) != 0x80U && byte(1) != 0x81U) || (byte(2) & 0xC0U) != 0x80U) {
    return {};
  }
  const std::uint32_t code = 0x2000U | ((byte(1) & 0x3FU) << 6U) | (byte(2) & 0x3FU);
  const bool is_control = code == 0x200EU || code == 0x200FU ||
                          (code >= 0x2028U && code <= 0x202EU) ||
                          (code >= 0x2066U && code <= 0x2069U);
  return is_control ? ControlCharacter{.code = code, .size = 3} : ControlCharacter{};
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = control_at(text, at).size;
    out += size > 0 ? '?' : text[at];
    at += size > 0 ? size : 1;
  }
  return out;
}

std::string printable_lines(std::string_view text) {
  std::string out;
  for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    out += printable(text.substr(0, end)) + '\n';
    text.remove_prefix(end + 1);
  }
  return out + printable(text);
}

}  // namespace trireme
