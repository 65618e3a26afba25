// SPDX-License-Identifier: Apache-2.0
// The filter options that `flows` and `policy suggest` share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "command.hpp"

namespace trireme::cli {

struct FlowQuery {
  std::vector<std::string> verdicts, from, to, with, ports, protocols;
  std::string since;

  /// True if it matches every flow of its time span.
  [[nodiscard]] bool is_empty() const {
    return verdicts.empty() && from.empty() && to.empty() && with.empty() && ports.empty() &&
           protocols.empty();
  }
};

void add_flow_query(CLI::App& command, const std::shared_ptr<FlowQuery>& query);

/// The query as parameters of the control method `flows`. Errors: --since is not a time span.
[[nodiscard]] Result<nlohmann::json> flow_params(const FlowQuery& query);

}  // namespace trireme::cli
