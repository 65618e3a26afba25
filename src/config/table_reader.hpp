// SPDX-License-Identifier: Apache-2.0
// Typed access to one TOML table. Values of the wrong type and unknown keys are reported as errors
// at their location.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "document.hpp"

namespace trireme::config {

/// A string value and its node.
struct Text {
  std::string value;
  const toml::node* node = nullptr;
};

class TableReader {
 public:
  /// `title` is the table's name in messages: "[[allow]]"; empty for the top level of a file.
  TableReader(const Document& document, const toml::table& table, std::string title,
              Reporter& reporter)
      : document_(&document), table_(&table), title_(std::move(title)), reporter_(&reporter) {}

  [[nodiscard]] const Document& document() const { return *document_; }
  [[nodiscard]] Reporter& reporter() const { return *reporter_; }
  [[nodiscard]] policy::SourceLocation where() const { return document_->at(*table_); }
  /// The place of a key; of the table if it has no such key.
  [[nodiscard]] policy::SourceLocation where(std::string_view key) const;
  [[nodiscard]] policy::SourceLocation where(const Text& text) const {
    return document_->at(*text.node);
  }

  /// The node of `key`, or null. Marks the key as known.
  const toml::node* find(std::string_view key);
  /// Whether the key is present, with a valid value or not.
  [[nodiscard]] bool has(std::string_view key) const { return table_->contains(key); }

  /// Sets the known keys. Call before lacks().
  void knows(const std::vector<std::string>& keys) { known_ = keys; }
  /// Whether the key is absent, and no unknown key looks like a misspelling of it (finish() reports
  /// that one).
  [[nodiscard]] bool lacks(std::string_view key) const;

  std::optional<Text> text(std::string_view key);
  /// A string. Reports an error if it is empty or contains control characters.
  std::optional<Text> name(std::string_view key);
  std::optional<bool> boolean(std::string_view key);
  /// A date and time with an offset from UTC, in whole seconds.
  std::optional<std::chrono::sys_seconds> time(std::string_view key);
  /// A list of strings. Elements of other types are reported and skipped.
  std::vector<Text> list(std::string_view key);
  /// A list of strings, or one string, which is read as a list with one element.
  std::vector<Text> text_or_list(std::string_view key);
  /// A table of labels.
  policy::LabelSet labels(std::string_view key);
  /// A table of strings, in the order of its keys.
  std::vector<std::pair<std::string, Text>> texts(std::string_view key);
  /// [key]
  std::optional<TableReader> section(std::string_view key);
  /// [[key]]
  std::vector<TableReader> entries(std::string_view key);
  /// The value of `key` if it is a table; reports nothing for other types.
  [[nodiscard]] std::optional<TableReader> table(std::string_view key);

  /// Sets `out` to the value of one of the words; keeps it if the key is absent or invalid.
  template <typename T>
  void choice(std::string_view key, const std::vector<std::pair<std::string, T>>& words, T& out) {
    const auto written = text(key);
    if (!written) {
      return;
    }
    std::vector<std::string> known;
    for (const auto& [word, value] : words) {
      if (written->value == word) {
        out = value;
        return;
      }
      known.push_back(word);
    }
    unknown_word(key, *written, known);
  }

  void error(const Text& text, std::string message, std::string hint = {}) {
    reporter_->error(where(text), std::move(message), std::move(hint));
  }
  void error(std::string message, std::string hint = {}) {
    reporter_->error(where(), std::move(message), std::move(hint));
  }

  /// Reports every key that is not known. `elsewhere`: keys that belong in `elsewhere_file`.
  void finish(const std::vector<std::string>& elsewhere = {}, std::string_view elsewhere_file = {});

 private:
  void unknown_word(std::string_view key, const Text& written,
                    const std::vector<std::string>& known);
  void wrong_type(const toml::node& node, std::string_view key, std::string_view expected,
                  std::string hint = {});
  void set_label(policy::LabelSet& labels, const toml::key& key, const toml::node& value);
  [[nodiscard]] std::string in_title() const { return title_.empty() ? "" : " in " + title_; }

  const Document* document_;
  const toml::table* table_;
  std::string title_;
  Reporter* reporter_;
  std::vector<std::string> known_;
};

/// "an integer", "a list", for messages.
[[nodiscard]] std::string_view describe(const toml::node& node);

}  // namespace trireme::config
