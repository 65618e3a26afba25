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
  MergedSection(std::string name, std::vector<std::string> keys)
      : name_(std::move(name)), keys_(std::move(keys)) {}

  /// Adds the section of one more file, if the file has it. Reports unknown keys, and keys that an
  /// earlier file sets, with both places. `top`: the top level of the file.
  void add(TableReader& top);

  /// Whether no file has the section. The functions below require that one does.
  [[nodiscard]] bool empty() const { return parts_.empty(); }
  [[nodiscard]] bool has(std::string_view key) const { return owners_.contains(key); }
  /// Reads the section of the file that sets the key; of the first file that has the section, if
  /// none sets it.
  [[nodiscard]] TableReader& at(std::string_view key);
  /// The first file that has the section.
  [[nodiscard]] TableReader& first() { return parts_.front(); }
  /// Where the key is set.
  [[nodiscard]] policy::SourceLocation where(std::string_view key);

 private:
  std::string name_;
  std::vector<std::string> keys_;
  std::deque<TableReader> parts_;  // in the order of the files; adding keeps references valid
  std::map<std::string, TableReader*, std::less<>> owners_;  // by key
};

}  // namespace trireme::config
