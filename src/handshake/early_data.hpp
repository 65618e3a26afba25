// TCP segments that came ahead of their flow's PROOF.
#pragma once

#include <optional>
#include <vector>

#include "flow_table.hpp"
#include "held.hpp"

namespace trireme::handshake {

class EarlyData {
 public:
  static constexpr Milliseconds kWait{3'000};

  EarlyData();

  /// `handshake` remembers what waits for it. False where there is no room, or the segment repeats one that waits.
  [[nodiscard]] bool hold(Handshake& handshake, std::uint32_t packet, const wire::Segment& segment, Milliseconds now);
  /// What waits for it, to be let go; nothing waits any more. Valid until the next call.
  [[nodiscard]] const Held& take(Handshake& handshake);
  /// When the oldest has waited long enough; nullopt: nothing waits.
  [[nodiscard]] std::optional<Milliseconds> next_due();
  struct Overdue {
    PointId point;
    Held held;
  };
  /// The oldest that has waited that long.
  [[nodiscard]] std::optional<Overdue> overdue(Milliseconds now);

 private:
  /// All wait equally long, so a ring has them in the order of their times. An entry that was let go stays until it is the oldest.
  struct Entry {
    PointId point = 0;
    Milliseconds until{};
    std::uint32_t last_sequence = 0;
    Held held;
  };
  static constexpr std::uint64_t kEntries = 1'024;

  [[nodiscard]] Entry* find(const Handshake& handshake);
  [[nodiscard]] Entry& at(std::uint64_t number) { return entries_[number % kEntries]; }
  void pass_empty();

  std::vector<Entry> entries_;
  std::uint64_t oldest_ = 1;
  std::uint64_t next_ = 1;
  Holding all_;
  Held taken_;
};

}  // namespace trireme::handshake
