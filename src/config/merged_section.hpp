// SPDX-License-Identifier: Apache-2.0
// One section of several files, such as [host] of identity.toml and of identity.d/*.toml.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "table_reader.hpp"

namespace trireme::config {

/// Each file can set keys that no other file sets. Which file sets a key makes no difference, so
/// the values are read after all files were added.
class MergedSection {
 public:
  /// `name`: of a section in the top level of `shape`.
  MergedSection(const Shape& shape, std::string name)
      : name_(std::move(name)), keys_(shape.top.find(name_)->section->names()) {}

  /// Adds the section of one more file, if the file has it. Reports keys that an earlier file sets,
  /// with both places. `top`: the top level of the file.
  void add(const TableReader& top);

  /// Whether no file has the section. The functions below require that one does.
  [[nodiscard]] bool empty() const { return parts_.empty(); }
  [[nodiscard]] bool has(std::string_view key) const { return owners_.contains(key); }
  /// Reads the section of the file that sets the key; of the first file that has the section, if
  /// none sets it.
  [[nodiscard]] const TableReader& at(std::string_view key) const;
  /// The first file that has the section.
  [[nodiscard]] const TableReader& first() const { return parts_.front(); }
  /// Where the key is set.
  [[nodiscard]] policy::SourceLocation where(std::string_view key) const;

 private:
  std::string name_;
  std::vector<std::string> keys_;
  std::deque<TableReader> parts_;  // in the order of the files; adding keeps references valid
  std::map<std::string, const TableReader*, std::less<>> owners_;  // by key
};

}  // namespace trireme::config
