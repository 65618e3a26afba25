// SPDX-License-Identifier: Apache-2.0
// Simulated time, and a network that loses, repeats, delays and reorders packets.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <queue>
#include <random>
#include <tuple>
#include <utility>

namespace trireme::handshake {

/// What the network does to one packet.
struct Fate {
  bool lost = false;
  bool twice = false;
  std::chrono::milliseconds delay{1};
  std::chrono::milliseconds delay_of_second{1};
};

/// Loses a share of all packets, of one kind not more than four in a row; repeats a tenth, and
/// mixes their order. `before`: how often the same kind was sent before in that flow.
inline Fate bad_fate(std::mt19937& random, double loss, int before) {
  const auto chance = [&random](double share) {
    return std::uniform_real_distribution<>(0, 1)(random) < share;
  };
  const auto delay = [&random] {
    return std::chrono::milliseconds(std::uniform_int_distribution<>(1, 40)(random));
  };
  return Fate{.lost = before % 5 != 4 && chance(loss),
              .twice = chance(0.1),
              .delay = delay(),
              .delay_of_second = delay() * 30};
}

/// What happens when. Of what is planned for the same time, what was planned first happens first.
class Agenda {
 public:
  using Time = std::chrono::milliseconds;

  void at(Time when, std::function<void()> what) {
    events_.push({when, order_++, std::move(what)});
  }
  [[nodiscard]] bool empty() const { return events_.empty(); }
  [[nodiscard]] Time next() const { return events_.top().when; }
  /// Removes what is next.
  [[nodiscard]] std::function<void()> take() {
    auto what = events_.top().what;
    events_.pop();
    return what;
  }

 private:
  struct Event {
    Time when;
    std::uint64_t order;
    std::function<void()> what;
    bool operator<(const Event& other) const {
      return std::tie(when, order) > std::tie(other.when, other.order);
    }
  };
  std::priority_queue<Event> events_;
  std::uint64_t order_ = 0;
};

}  // namespace trireme::handshake
