// SPDX-License-Identifier: Apache-2.0
// Everything that keeps the daemon from working fully, one line per topic, for 'trirectl status'.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "trireme/base/journal.hpp"
#include "trireme/base/result.hpp"

namespace trireme::daemon {

class Problems {
 public:
  /// Records the current outcome of a topic. An error is logged if it is new, and stays listed
  /// until the topic succeeds.
  void note(const std::string& topic, const Status& outcome) { note(topic, outcome, nullptr, {}); }
  /// The same; the log line has this MESSAGE_ID= and these fields.
  void note(const std::string& topic, const Status& outcome, const char* id,
            const JournalFields& fields);
  [[nodiscard]] std::vector<std::string> lines() const;

 private:
  std::map<std::string, std::string> by_topic_;
};

}  // namespace trireme::daemon
