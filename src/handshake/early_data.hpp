// TCP segments that came ahead of their flow's PROOF, and the requests for it.
#pragma once

#include <optional>
#include <vector>

#include "flow_table.hpp"
#include "held.hpp"

namespace trireme::handshake {

class EarlyData {
 public:
  static constexpr Milliseconds kWait{3'000};  // and a step at most
  /// PROOF is asked for when the first segment comes, and again so long after.
  static constexpr std::array<Milliseconds, 5> kRepeat = {Milliseconds{100}, Milliseconds{300},
                                                          Milliseconds{700}, Milliseconds{1'500},
                                                          Milliseconds{2'500}};

  EarlyData();

  enum class Result : std::uint8_t {
    waits,
    begins,   // to wait: PROOF is to be asked for
    repeats,  // one that waits
    no_room,
  };
  /// `handshake` remembers what waits for it; `question` asks for its PROOF.
  [[nodiscard]] Result hold(Handshake& handshake, std::uint32_t packet,
                            const wire::Segment& segment, const OwnSegment& question,
                            Milliseconds now);
  /// What waits for it, to be let go; nothing waits any more. Valid until the next call.
  [[nodiscard]] const Held& take(Handshake& handshake);
  /// Asks again, and drops what has waited too long. To be called when next_due() has come.
  void tick(Port& port, Milliseconds now);
  [[nodiscard]] std::optional<Milliseconds> next_due() const;

 private:
  struct Entry {
    PointId point = 0;
    Milliseconds began{};
    std::size_t asked = 0;
    std::uint32_t last_sequence = 0;
    Held held;
    OwnSegment question;
  };
  /// All wait equally long, so a ring has them in the order of their times. One that was let go
  /// stays until it is the oldest.
  static constexpr std::uint64_t kEntries = 1'024;
  static constexpr Milliseconds kStep{100};  // between two looks at all of them

  [[nodiscard]] Entry* find(const Handshake& handshake);
  [[nodiscard]] Entry& at(std::uint64_t number) { return entries_[number % kEntries]; }
  void pass_empty();
  void drop(Port& port, Entry& entry);

  std::vector<Entry> entries_;
  std::uint64_t oldest_ = 1;
  std::uint64_t next_ = 1;
  Milliseconds looked_{};
  Holding all_;
  Held taken_;
};

}  // namespace trireme::handshake
