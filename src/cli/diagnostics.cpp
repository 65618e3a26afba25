// SPDX-License-Identifier: Apache-2.0
#include "diagnostics.hpp"

namespace trireme::cli {

nlohmann::json to_json(const std::vector<config::Diagnostic>& diagnostics) {
  auto list = nlohmann::json::array();
  for (const auto& diagnostic : diagnostics) {
    list.push_back({{"severity", is_error(diagnostic) ? "error" : "warning"},
                    {"file", diagnostic.where.file},
                    {"line", diagnostic.where.line},
                    {"column", diagnostic.where.column},
                    {"message", diagnostic.message},
                    {"hint", diagnostic.hint},
                    {"text", diagnostic.text()}});
  }
  return list;
}

}  // namespace trireme::cli
