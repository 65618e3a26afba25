// SPDX-License-Identifier: Apache-2.0
// What keeps the daemon from doing its whole job, a line for each topic: what 'trirectl status'
// lists.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "trireme/base/result.hpp"

namespace trireme::daemon {

class Problems {
 public:
  /// A new error is logged and stays until the topic has a better outcome.
  void note(const std::string& topic, const Status& outcome);
  [[nodiscard]] std::vector<std::string> lines() const;

 private:
  std::map<std::string, std::string> by_topic_;
};

}  // namespace trireme::daemon
