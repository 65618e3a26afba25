// SPDX-License-Identifier: Apache-2.0
// Holds TCP segments that arrived before their flow's PROOF, and requests that PROOF.
#pragma once

#include <optional>
#include <vector>

#include "held.hpp"
#include "tcp/table.hpp"
#include "trireme/handshake/actions.hpp"

namespace trireme::handshake {

class EarlyData {
 public:
  /// How long a segment waits, plus kStep at most.
  static constexpr Milliseconds kWait{3'000};
  /// PROOF is requested when the first segment arrives, and again this long after it.
  static constexpr std::array<Milliseconds, 5> kRepeat = {Milliseconds{100}, Milliseconds{300},
                                                          Milliseconds{700}, Milliseconds{1'500},
                                                          Milliseconds{2'500}};

  explicit EarlyData(std::uint64_t seed);

  enum class Result : std::uint8_t {
    waits,
    begins,   // waits as the first one: the caller must request PROOF
    repeats,  // repeats a segment that waits
    no_room,
  };
  /// Holds a segment for `handshake`. `question` is the segment that requests its PROOF.
  [[nodiscard]] Result hold(Actions& actions, Handshake& handshake, std::uint32_t packet,
                            const wire::Segment& segment, const OwnSegment& question,
                            Milliseconds now);
  /// Removes and returns the segments that wait for `handshake`. Valid until the next call.
  [[nodiscard]] const Held& take(Handshake& handshake);
  /// Requests PROOFs again, and drops segments that have waited too long, as far as `actions` has
  /// room. Call it when next_due() has passed.
  void tick(Actions& actions, Milliseconds now);
  [[nodiscard]] std::optional<Milliseconds> next_due() const;
  [[nodiscard]] const Crowding& crowding() const { return crowding_; }

 private:
  struct Entry {
    std::uint64_t number = 0;  // Handshake::early of its handshake; 0: free
    Milliseconds began{};
    std::size_t asked = 0;
    std::uint32_t last_sequence = 0;
    Held held;
    OwnSegment question;
  };
  /// Each used entry holds at least one packet, so one entry is always free.
  static constexpr std::uint32_t kEntries = Holding::kMost + 1;
  static constexpr Milliseconds kStep{100};  // interval between two scans of the entries

  [[nodiscard]] Entry* find(const Handshake& handshake);
  [[nodiscard]] std::uint32_t index(const Entry& entry) const {
    return static_cast<std::uint32_t>(&entry - entries_.data());
  }
  void free(Entry& entry);
  void drop(Actions& actions, Entry& entry);

  std::vector<Entry> entries_;
  std::vector<std::uint32_t> free_;  // indices of entries
  std::uint64_t named_ = 0;
  Milliseconds looked_{};
  Holding all_;
  Held taken_;
  Crowding crowding_;
};

}  // namespace trireme::handshake
