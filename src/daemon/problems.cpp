// SPDX-License-Identifier: Apache-2.0
#include "problems.hpp"

#include <spdlog/spdlog.h>

#include "trireme/base/log_shares.hpp"

namespace trireme::daemon {

void Problems::note(const std::string& topic, const Status& outcome) {
  if (outcome) {
    by_topic_.erase(topic);
    return;
  }
  const std::string text = topic + ": " + outcome.error().text();
  if (by_topic_[topic] != text) {
    by_topic_[topic] = text;
    if (log_shares().admit("problem " + topic)) {
      spdlog::error("{}", text);
    }
  }
}

std::vector<std::string> Problems::lines() const {
  std::vector<std::string> lines;
  for (const auto& [topic, text] : by_topic_) {
    lines.push_back(text);
  }
  return lines;
}

}  // namespace trireme::daemon
