// SPDX-License-Identifier: Apache-2.0
#include "page.hpp"

#include <fmt/format.h>
#include <mbedtls/base64.h>

#include <array>
#include <utility>

#include "page_files.hpp"
#include "trireme/credentials/crypto.hpp"

namespace trireme::cli {
namespace {

/// A hash-source of Content Security Policy.
std::string hash_source(std::string_view text) {
  const credentials::Digest digest = credentials::sha256(
      {credentials::Bytes(reinterpret_cast<const std::uint8_t*>(text.data()), text.size())});
  std::array<unsigned char, 64> encoded{};
  std::size_t size = 0;
  // Cannot fail: 32 bytes are 44 characters.
  std::ignore =
      mbedtls_base64_encode(encoded.data(), encoded.size(), &size, digest.data(), digest.size());
  return fmt::format("'sha256-{}'",
                     std::string_view(reinterpret_cast<const char*>(encoded.data()), size));
}

}  // namespace

std::string page_policy() {
  return fmt::format(
      "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; base-uri 'none'; "
      "form-action 'none'",
      hash_source(page_script()), hash_source(page_style()));
}

std::string script_json(const nlohmann::json& value) {
  std::string data = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  std::string result;
  result.reserve(data.size());
  for (const char c : data) {
    if (c == '<') {
      result += "\\u003c";
    } else {
      result += c;
    }
  }
  return result;
}

std::string html_text(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string page(const nlohmann::json& data) {
  const std::string policy = page_policy();
  const std::string embedded = script_json(data);
  const std::array<std::pair<std::string_view, std::string_view>, 4> parts = {
      {{"@POLICY@", policy},
       {"@STYLE@", page_style()},
       {"@DATA@", embedded},
       {"@SCRIPT@", page_script()}}};
  std::string_view rest = page_markup();
  std::string result;
  result.reserve(rest.size() + policy.size() + page_style().size() + embedded.size() +
                 page_script().size());
  // The places are in this order in the markup. Each part is copied once and never searched: texts
  // of others are in the data.
  for (const auto& [place, text] : parts) {
    const std::size_t at = rest.find(place);
    result.append(rest.substr(0, at)).append(text);
    rest.remove_prefix(at == std::string_view::npos ? rest.size() : at + place.size());
  }
  return result.append(rest);
}

}  // namespace trireme::cli
