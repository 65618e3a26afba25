// SPDX-License-Identifier: Apache-2.0
#include "capability_line.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/counted.hpp"

namespace trireme::cli {

using nlohmann::json;

std::string capability_line(const json& capabilities) {
  const auto count = capabilities.value("workloads", std::uint64_t{0});
  if (count == 0) {
    return {};
  }
  std::string list;
  const json counts = capabilities.value("by_capability", json::object());
  for (const auto& [capability, workloads] : counts.items()) {
    list += fmt::format("{}{} ({})", list.empty() ? "" : ", ", capability,
                        workloads.get<std::uint64_t>());
  }
  return fmt::format("{} can bypass policy by {} capabilities: {}", counted(count, "workload"),
                     count == 1 ? "its" : "their", list);
}

json count_capabilities(const json& workloads) {
  std::uint64_t count = 0;
  json counts = json::object();
  for (const json& workload : workloads) {
    const json capabilities = workload.value("capabilities", json::array());
    count += capabilities.empty() ? 0U : 1U;
    for (const json& capability : capabilities) {
      auto& total = counts[capability.get<std::string>()];
      total = (total.is_null() ? 0U : total.get<std::uint64_t>()) + 1U;
    }
  }
  return {{"workloads", count}, {"by_capability", counts}};
}

bool is_about_capability(const json& workload, const std::string& warning) {
  const json capabilities = workload.value("capabilities", json::array());
  return std::any_of(capabilities.begin(), capabilities.end(), [&warning](const json& capability) {
    return warning.find(capability.get<std::string>() + ":") != std::string::npos;
  });
}

}  // namespace trireme::cli
