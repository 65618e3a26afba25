// SPDX-License-Identifier: Apache-2.0
#include "saved_ruleset.hpp"

#include <fmt/format.h>

#include <sstream>
#include <string_view>

#include "trireme/base/file.hpp"

namespace trireme::daemon {

Status check_saved_ruleset(const std::string& path) {
  constexpr std::string_view kTable = "table inet trireme";
  std::istringstream lines(read_file(path).value_or(""));
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    number++;
    const std::string_view rest = std::string_view(line).substr(0, kTable.size() + 1);
    if (rest == kTable || rest == std::string(kTable) + ' ' || rest == std::string(kTable) + '{') {
      return fail(fmt::format("{}:{}: the file contains trireme's table, which nft cannot load: at "
                              "the next boot, none of its rules will apply",
                              path, number),
                  "save only the other tables (troubleshooting, \"A saved ruleset cannot be "
                  "loaded\"); triremed writes its own");
    }
  }
  return {};
}

}  // namespace trireme::daemon
