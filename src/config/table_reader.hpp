// SPDX-License-Identifier: Apache-2.0
// Typed access to one TOML table. Unknown keys, values of the wrong type and unknown words are
// reported at their location, as the table of this section in shape.hpp says.
#pragma once

#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "document.hpp"
#include "shape.hpp"

namespace trireme::config {

/// A string value and its node.
struct Text {
  std::string value;
  const toml::node* node = nullptr;
};

/// The functions that read a value return nothing for a key that is absent or has an invalid value.
class TableReader {
 public:
  /// Reads the top level of a file and reports what `shape` does not allow there. Keys of `other`
  /// belong in its file.
  TableReader(const Document& document, const Shape& shape, const Shape& other, Reporter& reporter);

  [[nodiscard]] const Document& document() const { return *document_; }
  [[nodiscard]] Reporter& reporter() const { return *reporter_; }
  [[nodiscard]] policy::SourceLocation where() const { return document_->at(*table_); }
  /// The place of a key; of the table if it has no such key.
  [[nodiscard]] policy::SourceLocation where(std::string_view key) const;
  [[nodiscard]] policy::SourceLocation where(const Text& text) const {
    return document_->at(*text.node);
  }

  /// The node of `key`, also if its type is wrong; null if the key is absent.
  [[nodiscard]] const toml::node* find(std::string_view key) const { return table_->get(key); }
  /// Whether the key is present, with a valid value or not.
  [[nodiscard]] bool has(std::string_view key) const { return table_->contains(key); }
  /// Whether the key is absent, and no unknown key looks like a misspelling of it (that one has
  /// been reported).
  [[nodiscard]] bool lacks(std::string_view key) const;
  /// Whether nothing was reported when the table was checked against its section.
  [[nodiscard]] bool is_sound() const { return is_sound_; }
  /// Whether something about the value of this key was reported then.
  [[nodiscard]] bool is_flawed(std::string_view key) const { return flawed_.contains(key); }
  /// Whether the value is an empty list.
  [[nodiscard]] bool is_empty_list(std::string_view key) const;
  /// Whether the value is a table.
  [[nodiscard]] bool is_table(std::string_view key) const;

  [[nodiscard]] std::optional<Text> text(std::string_view key) const;
  /// A string. Reports an error if it is empty, contains control characters, or is longer than the
  /// section allows.
  [[nodiscard]] std::optional<Text> name(std::string_view key) const;
  [[nodiscard]] std::optional<bool> boolean(std::string_view key) const;
  /// A date and time with an offset from UTC, in whole seconds.
  [[nodiscard]] std::optional<std::chrono::sys_seconds> time(std::string_view key) const;
  /// The strings of a list; of a string, that string.
  [[nodiscard]] std::vector<Text> list(std::string_view key) const;
  /// A table of labels. Reports invalid labels.
  [[nodiscard]] policy::LabelSet labels(std::string_view key) const;
  /// A table of strings, in the order of its keys.
  [[nodiscard]] std::vector<std::pair<std::string, Text>> texts(std::string_view key) const;
  /// [key]
  [[nodiscard]] std::optional<TableReader> section(std::string_view key) const;
  /// [[key]]
  [[nodiscard]] std::vector<TableReader> entries(std::string_view key) const;

  /// Sets `out` to the value for the word; keeps it if the key is absent or invalid. `values`: one
  /// for each of the key's words, in their order.
  template <typename T>
  void choice(std::string_view key, const std::vector<T>& values, T& out) const {
    if (const auto index = word(key)) {
      out = values.at(*index);
    }
  }

  void error(const Text& text, std::string message, std::string hint = {}) const {
    reporter_->error(where(text), std::move(message), std::move(hint));
  }
  void error(std::string message, std::string hint = {}) const {
    reporter_->error(where(), std::move(message), std::move(hint));
  }

 private:
  TableReader(const Document& document, const toml::table& table, std::string title,
              const Section& section, Reporter& reporter);
  void check(const Shape* other);
  [[nodiscard]] bool check_value(const Key& key, const toml::node& node);
  [[nodiscard]] bool check_word(const Key& key, const toml::node& node);
  [[nodiscard]] bool check_time(const Key& key, const toml::node& node);
  [[nodiscard]] bool check_list(const Key& key, const toml::node& node);
  [[nodiscard]] bool check_entries(const Key& key, const toml::node& node);
  bool wrong_type(const toml::node& node, std::string_view key, std::string_view expected,
                  std::string hint = {});
  void set_label(policy::LabelSet& labels, const toml::key& key, const toml::node& value) const;
  /// The node of a key that has a valid value; else null.
  [[nodiscard]] const toml::node* valid(std::string_view key) const;
  /// The index of the key's value in its words.
  [[nodiscard]] std::optional<std::size_t> word(std::string_view key) const;
  [[nodiscard]] std::string in_title() const { return title_.empty() ? "" : " in " + title_; }

  const Document* document_;
  const toml::table* table_;
  std::string title_;  // in messages: "[[allow]]"; empty for the top level of a file
  const Section* section_;
  Reporter* reporter_;
  bool is_sound_ = true;
  std::set<std::string, std::less<>> flawed_;   // keys whose values have been reported
  std::set<std::string, std::less<>> invalid_;  // those of which nothing can be used
};

/// "an integer", "a list", for messages.
[[nodiscard]] std::string_view describe(const toml::node& node);

}  // namespace trireme::config
