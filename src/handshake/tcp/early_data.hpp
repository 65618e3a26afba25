// SPDX-License-Identifier: Apache-2.0
// TCP segments that came ahead of their flow's PROOF, and the requests for it.
#pragma once

#include <optional>
#include <vector>

#include "held.hpp"
#include "tcp/table.hpp"
#include "trireme/handshake/actions.hpp"

namespace trireme::handshake {

class EarlyData {
 public:
  static constexpr Milliseconds kWait{3'000};  // and a step at most
  /// PROOF is asked for when the first segment comes, and again so long after.
  static constexpr std::array<Milliseconds, 5> kRepeat = {Milliseconds{100}, Milliseconds{300},
                                                          Milliseconds{700}, Milliseconds{1'500},
                                                          Milliseconds{2'500}};

  explicit EarlyData(std::uint64_t seed);

  enum class Result : std::uint8_t {
    waits,
    begins,   // to wait: PROOF is to be asked for
    repeats,  // one that waits
    no_room,
  };
  /// `handshake` remembers what waits for it; `question` asks for its PROOF.
  [[nodiscard]] Result hold(Actions& actions, Handshake& handshake, std::uint32_t packet,
                            const wire::Segment& segment, const OwnSegment& question,
                            Milliseconds now);
  /// What waits for it, to be let go; nothing waits any more. Valid until the next call.
  [[nodiscard]] const Held& take(Handshake& handshake);
  /// Asks again, and drops what has waited too long, as far as there is room. To be called when
  /// next_due() has come.
  void tick(Actions& actions, Milliseconds now);
  [[nodiscard]] std::optional<Milliseconds> next_due() const;
  [[nodiscard]] const Crowding& crowding() const { return crowding_; }

 private:
  struct Entry {
    std::uint64_t number = 0;  // the name that its handshake knows; 0: free
    Milliseconds began{};
    std::size_t asked = 0;
    std::uint32_t last_sequence = 0;
    Held held;
    OwnSegment question;
  };
  /// Each has a packet that waits: one is always free.
  static constexpr std::uint32_t kEntries = Holding::kMost + 1;
  static constexpr Milliseconds kStep{100};  // between two looks at all of them

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
