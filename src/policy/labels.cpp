// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/labels.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace trireme::policy {
namespace {

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

unsigned byte_at(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}

// Length in bytes of the UTF-8 sequence that begins with this byte; 0 if none can begin with it.
std::size_t sequence_length(unsigned lead) {
  if (lead < 0x80) {
    return 1;
  }
  if (lead >= 0xC2 && lead < 0xE0) {
    return 2;
  }
  if (lead >= 0xE0 && lead < 0xF0) {
    return 3;
  }
  return lead >= 0xF0 && lead < 0xF5 ? 4 : 0;
}

bool is_printable_code_point(std::uint32_t code, std::size_t length) {
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool control = code < 0x20 || (code >= 0x7F && code < 0xA0);
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  return !control && !surrogate && code >= kSmallest[length] && code <= 0x10FFFF;
}

// Removes one character from the front of `text`. False if it is a control character or not valid
// UTF-8.
bool take_printable(std::string_view& text) {
  const unsigned lead = byte_at(text, 0);
  const std::size_t length = sequence_length(lead);
  if (length == 0 || length > text.size()) {
    return false;
  }
  std::uint32_t code = length == 1 ? lead : lead & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    const unsigned next = byte_at(text, i);
    if ((next & 0xC0U) != 0x80U) {
      return false;
    }
    code = (code << 6U) | (next & 0x3FU);
  }
  text.remove_prefix(length);
  return is_printable_code_point(code, length);
}

std::size_t encoded_size(std::string_view key, std::string_view value, bool of_host) {
  return key.size() + value.size() + (of_host ? 3 : 2);
}

// The minimum for a key from any source, such as Docker: keeps the encoding unambiguous.
Status check_foreign_key(std::string_view key) {
  if (key.empty()) {
    return fail("label without a key", "write key=value");
  }
  if (key.size() > kMaxKeyBytes) {
    return fail(fmt::format("label key of {} bytes is too long", key.size()),
                fmt::format("at most {} bytes", kMaxKeyBytes));
  }
  if (!is_printable(key) || key.find_first_of("= ") != std::string_view::npos) {
    return fail("label key contains a space, '=' or a control character");
  }
  return {};
}

}  // namespace

bool is_printable(std::string_view text) {
  while (!text.empty()) {
    if (!take_printable(text)) {
      return false;
    }
  }
  return true;
}

Status check_key(std::string_view key) {
  if (auto status = check_foreign_key(key); !status) {
    return status;
  }
  const auto allowed = [](char c) {
    return is_alphanumeric(c) || c == '.' || c == '_' || c == '-' || c == '/';
  };
  const auto* const bad = std::find_if_not(key.begin(), key.end(), allowed);
  if (bad != key.end()) {
    const auto at = static_cast<std::size_t>(bad - key.begin());
    const std::string_view character = key.substr(at, sequence_length(byte_at(key, at)));
    return fail(fmt::format("invalid character '{}' in label key '{}'", character, key),
                *bad == ':' && at > 0
                    ? fmt::format("did you mean {}={}?", key.substr(0, at), key.substr(at + 1))
                    : "use letters, digits and . _ - /");
  }
  if (!is_alphanumeric(key.front()) || !is_alphanumeric(key.back())) {
    return fail(fmt::format("label key '{}' must start and end with a letter or digit", key));
  }
  return {};
}

Status check_value(std::string_view value) {
  if (!is_printable(value)) {
    return fail("label value contains a control character or is not valid UTF-8");
  }
  const std::size_t bad = value.find_first_of("=,()* ");
  if (bad != std::string_view::npos) {
    return fail(fmt::format("invalid character '{}' in label value '{}'", value[bad], value),
                "a value cannot contain '=', ',', '(', ')', '*' or a space: selector syntax");
  }
  return {};
}

Result<Label> parse_label(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    return fail(fmt::format("label '{}' has no value", text), "write key=value");
  }
  const std::string_view key = text.substr(0, equals);
  const std::string_view value = text.substr(equals + 1);
  if (auto status = check_key(key); !status) {
    return tl::unexpected(status.error());
  }
  if (auto status = check_value(value); !status) {
    return tl::unexpected(status.error());
  }
  return Label{std::string(key), std::string(value)};
}

const LabelSet::Content LabelSet::kNone;

LabelSet::Content& LabelSet::own_content() {
  if (content_.use_count() != 1) {
    content_ = std::make_shared<Content>(content());
  }
  return *content_;
}

Status LabelSet::set(std::string_view key, std::string_view value) {
  return put(key, value, false);
}

Status LabelSet::set_of_host(std::string_view key, std::string_view value) {
  return put(key, value, true);
}

Status LabelSet::add_host_labels(const LabelSet& host) {
  for (const auto& [key, value] : host.items()) {
    if (auto added = set_of_host(key, value); !added) {
      return fail("with the labels of [host]: " + added.error().message, added.error().hint);
    }
  }
  return {};
}

Status LabelSet::put(std::string_view key, std::string_view value, bool of_host) {
  if (auto status = check_foreign_key(key); !status) {
    return status;
  }
  if (!is_printable(value)) {
    return fail(
        fmt::format("value of label '{}' contains a control character or is not valid UTF-8", key));
  }
  std::size_t bytes = encoded_size(key, value, of_host);
  std::size_t count = 1;
  for (const auto& [other_key, other_value] : items()) {
    if (other_key != key) {
      bytes += encoded_size(other_key, other_value, host_keys().contains(other_key));
      ++count;
    }
  }
  if (count > kMaxLabels) {
    return fail(fmt::format("more than {} labels", kMaxLabels),
                "remove labels, or ignore some with [docker] ignore_labels");
  }
  if (bytes > kMaxLabelSetBytes) {
    return fail(fmt::format("labels take {} bytes with '{}'; the limit is {}", bytes, key,
                            kMaxLabelSetBytes),
                "shorten them, or ignore some with [docker] ignore_labels");
  }
  Content& changed = own_content();
  changed.items.insert_or_assign(std::string(key), std::string(value));
  if (of_host) {
    changed.host_keys.emplace(key);
  } else if (const auto known = changed.host_keys.find(key); known != changed.host_keys.end()) {
    changed.host_keys.erase(known);
  }
  return {};
}

const std::string* LabelSet::find(std::string_view key) const {
  const auto found = items().find(key);
  return found == items().end() ? nullptr : &found->second;
}

bool LabelSet::shares_a_label(const LabelSet& other) const {
  return std::ranges::any_of(items(), [&](const auto& item) {
    const std::string* value = other.find(item.first);
    return value != nullptr && *value == item.second && !host_keys().contains(item.first) &&
           !other.host_keys().contains(item.first);
  });
}

bool LabelSet::same_labels(const LabelSet& other) const {
  return has_own() && other.has_own() && items() == other.items();
}

LabelSet LabelSet::own() const {
  LabelSet labels = all_as_own();
  if (!host_keys().empty()) {
    std::erase_if(labels.own_content().items,
                  [this](const auto& item) { return host_keys().contains(item.first); });
  }
  return labels;
}

LabelSet LabelSet::all_as_own() const {
  LabelSet labels = *this;
  if (!host_keys().empty()) {
    labels.own_content().host_keys.clear();
  }
  return labels;
}

std::string LabelSet::text() const {
  std::string text;
  for (const auto& [key, value] : items()) {
    text += fmt::format("{}{}={}", text.empty() ? "" : ",", key, value);
  }
  return text;
}

std::string LabelSet::encode() const {
  std::string encoded;
  for (const auto& [key, value] : items()) {
    encoded.append(host_keys().contains(key) ? 1 : 0, '=');
    encoded.append(key).append(1, '=').append(value).append(1, '\n');
  }
  return encoded;
}

Result<LabelSet> LabelSet::decode(std::string_view encoded) {
  if (encoded.size() > kMaxLabelSetBytes) {
    return fail(fmt::format("encoded label set of {} bytes is larger than the limit of {}",
                            encoded.size(), kMaxLabelSetBytes));
  }
  LabelSet labels;
  while (!encoded.empty()) {
    const std::size_t end = encoded.find('\n');
    const bool of_host = encoded.starts_with('=');
    const std::string_view line = encoded.substr(0, end).substr(of_host ? 1 : 0);
    const std::size_t equals = line.find('=');
    if (end == std::string_view::npos || equals == std::string_view::npos) {
      return fail("encoded label set is truncated");
    }
    if (labels.find(line.substr(0, equals)) != nullptr) {
      return fail(fmt::format("encoded label set contains '{}' twice", line.substr(0, equals)));
    }
    if (auto status = labels.put(line.substr(0, equals), line.substr(equals + 1), of_host);
        !status) {
      return tl::unexpected(status.error());
    }
    encoded.remove_prefix(end + 1);
  }
  return labels;
}

}  // namespace trireme::policy
