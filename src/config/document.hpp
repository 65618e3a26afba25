// SPDX-License-Identifier: Apache-2.0
// One parsed TOML file, with the source location of each node.
#pragma once

#include <toml++/toml.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reporter.hpp"

namespace trireme::config {

/// Refers to the content of the Source, which must outlive it.
class Document {
 public:
  /// On a syntax error, reports the first one (the TOML parser stops there) and returns nullopt.
  [[nodiscard]] static std::optional<Document> parse(const Source& source, Reporter& reporter);

  [[nodiscard]] const toml::table& root() const { return root_; }
  [[nodiscard]] policy::SourceLocation at(const toml::node& node) const {
    return at(node.source().begin);
  }
  [[nodiscard]] policy::SourceLocation at(const toml::key& key) const {
    return at(key.source().begin);
  }
  /// The location of byte `offset` of a string's value. If the string has escapes or line breaks,
  /// the offset is ambiguous, and the location of the start of the string is returned.
  [[nodiscard]] policy::SourceLocation inside(const toml::node& text, std::size_t offset) const;

 private:
  explicit Document(const Source& source);
  [[nodiscard]] policy::SourceLocation at(toml::source_position position) const;
  [[nodiscard]] std::string_view line(std::uint32_t number) const;

  std::string file_;
  std::vector<std::string_view> lines_;
  /// Offsets of some code points in long lines that are not ASCII, by line: a file can be one line,
  /// which must not be counted from its start for each place in it.
  std::map<std::uint32_t, std::vector<std::uint32_t>> marks_;
  toml::table root_;
};

}  // namespace trireme::config
