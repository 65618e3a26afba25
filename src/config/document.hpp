// SPDX-License-Identifier: Apache-2.0
// One parsed TOML file, and where in it everything stands.
#pragma once

#include <toml++/toml.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reporter.hpp"

namespace trireme::config {

/// Views the Source's content, which must outlive it.
class Document {
 public:
  /// Reports the first syntax error (TOML parsers stop there) and returns nothing.
  [[nodiscard]] static std::optional<Document> parse(const Source& source, Reporter& reporter);

  [[nodiscard]] const toml::table& root() const { return root_; }
  [[nodiscard]] policy::SourceLocation at(const toml::node& node) const {
    return at(node.source().begin);
  }
  [[nodiscard]] policy::SourceLocation at(const toml::key& key) const {
    return at(key.source().begin);
  }
  /// The byte `offset` of a string's value. Escapes and line breaks make offsets ambiguous: then
  /// the place where the string starts.
  [[nodiscard]] policy::SourceLocation inside(const toml::node& text, std::size_t offset) const;

 private:
  explicit Document(const Source& source);
  [[nodiscard]] policy::SourceLocation at(toml::source_position position) const;
  [[nodiscard]] std::string_view line(std::uint32_t number) const;

  std::string file_;
  std::vector<std::string_view> lines_;
  toml::table root_;
};

}  // namespace trireme::config
