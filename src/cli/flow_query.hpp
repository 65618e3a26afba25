// SPDX-License-Identifier: Apache-2.0
// Which flows are meant: options that `flows` and `policy suggest` share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "command.hpp"

namespace trireme::cli {

struct FlowQuery {
  std::vector<std::string> verdicts, from, to, with, ports, protocols;
  std::string since;
};

void add_flow_query(CLI::App& command, const std::shared_ptr<FlowQuery>& query);
/// As the method `flows` reads it. An error where --since is no time span.
[[nodiscard]] Result<nlohmann::json> flow_params(const FlowQuery& query);

}  // namespace trireme::cli
