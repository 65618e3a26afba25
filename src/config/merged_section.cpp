// SPDX-License-Identifier: Apache-2.0
#include "merged_section.hpp"

#include <fmt/format.h>

namespace trireme::config {

void MergedSection::add(const TableReader& top) {
  auto section = top.section(name_);
  if (!section) {
    return;
  }
  const TableReader& part = parts_.emplace_back(std::move(*section));
  for (const std::string& key : keys_) {
    if (!part.has(key)) {
      continue;
    }
    const auto [owner, first] = owners_.emplace(key, &part);
    if (!first) {
      part.reporter().error(
          part.where(key),
          fmt::format("'{}' in [{}] is already set at {}", key, name_, where(key).text()),
          "keep one: precedence by file name is not supported");
    }
  }
}

const TableReader& MergedSection::at(std::string_view key) const {
  const auto owner = owners_.find(key);
  return owner == owners_.end() ? parts_.front() : *owner->second;
}

policy::SourceLocation MergedSection::where(std::string_view key) const {
  return at(key).where(key);
}

}  // namespace trireme::config
