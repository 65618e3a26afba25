// SPDX-License-Identifier: Apache-2.0
#include "problems.hpp"

#include <syslog.h>

#include "trireme/base/log_shares.hpp"

namespace trireme::daemon {

void Problems::note(const std::string& topic, const Status& outcome, const char* id,
                    const JournalFields& fields) {
  if (outcome) {
    by_topic_.erase(topic);
    return;
  }
  const std::string text = topic + ": " + outcome.error().text();
  if (by_topic_[topic] != text) {
    by_topic_[topic] = text;
    if (log_shares().admit("problem " + topic)) {
      log_event(LOG_ERR, id, text, fields);
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
