// SPDX-License-Identifier: Apache-2.0
// Which flows of the daemon were read before. After a lost connection the daemon sends again those
// that it remembers. Times do not tell: the clock of a host can be set back.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <nlohmann/json.hpp>
#include <unordered_set>

namespace trireme::cli {

class KnownFlows {
 public:
  /// `most`: that many of the newest are known.
  explicit KnownFlows(std::size_t most) : most_(most) {}

  /// False if this very flow, with this time, was added before.
  [[nodiscard]] bool add(const nlohmann::json& flow) {
    const std::size_t hash = std::hash<nlohmann::json>()(flow);
    if (!known_.insert(hash).second) {
      return false;
    }
    order_.push_back(hash);
    if (order_.size() > most_) {
      known_.erase(order_.front());
      order_.pop_front();
    }
    return true;
  }

 private:
  std::size_t most_;
  std::deque<std::size_t> order_;  // oldest first
  std::unordered_set<std::size_t> known_;
};

}  // namespace trireme::cli
