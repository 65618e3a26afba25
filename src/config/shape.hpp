// SPDX-License-Identifier: Apache-2.0
// What policy.toml and identity.toml can contain: sections, their keys, and the types and words of
// their values. The readers check files against these tables, and the JSON Schema is made of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace trireme::config {

struct Section;

struct Key {
  enum class Type : std::uint8_t {
    text,            // a string
    word,            // one of `words`
    boolean,         // true or false
    time,            // a date and time with an offset
    list,            // a list of strings
    text_or_list,    // a string, or a list of strings
    labels,          // a table of strings: labels
    labels_or_text,  // labels, or a string
    texts,           // a table of strings
    section,         // [name]
    entries          // [[name]]
  };
  std::string_view name;
  Type type = Type::text;
  std::string_view description;   // one sentence, for editors
  std::string_view example = {};  // a valid value, as TOML
  std::vector<std::string> words = {};
  bool required = false;             // in each entry
  bool non_empty = false;            // an empty string, list or table is an error
  std::size_t longest = 0;           // bytes of a string; 0: no limit
  const Section* section = nullptr;  // of a section or entries
};

struct Section {
  std::vector<Key> keys;
  /// At least one of these keys is required; exactly one if `only_one`.
  std::vector<std::string_view> one_of = {};
  bool only_one = false;
  /// Pairs of keys that must not be set together.
  std::vector<std::pair<std::string_view, std::string_view>> exclusive = {};

  /// Null if there is no such key.
  [[nodiscard]] const Key* find(std::string_view name) const;
  [[nodiscard]] std::vector<std::string> names() const;
};

/// The top level of a file.
struct Shape {
  std::string_view file;  // "policy.toml"
  std::string_view description;
  Section top;
};

[[nodiscard]] const Shape& policy_shape();
[[nodiscard]] const Shape& identity_shape();

}  // namespace trireme::config
