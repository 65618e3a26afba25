// SPDX-License-Identifier: Apache-2.0
#include "trireme/workload/process.hpp"

#include <sstream>
#include <string>

#include "trireme/base/file.hpp"

namespace trireme::workload {

/// proc_pid_stat(5): the state is field 3, the start field 22. The command, field 2, may contain
/// anything, so fields are counted from its last parenthesis.
std::optional<std::uint64_t> start_time(std::uint32_t pid) {
  const auto stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t close = stat ? stat->rfind(')') : std::string::npos;
  if (close == std::string::npos) {
    return std::nullopt;
  }
  std::istringstream fields(stat->substr(close + 1));
  std::string state;
  std::string skipped;
  fields >> state;
  for (int field = 4; field < 22; ++field) {
    fields >> skipped;
  }
  std::uint64_t ticks = 0;
  return fields >> ticks && state != "Z" && state != "X" ? std::optional(ticks) : std::nullopt;
}

}  // namespace trireme::workload
