// Packets that wait in the kernel's queue for the proof that their flow lacks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace trireme::handshake {

/// Those of one flow, in the order in which they came.
struct Held {
  static constexpr std::size_t kMost = 16;
  static constexpr std::size_t kMostBytes = std::size_t{128} << 10U;
  std::array<std::uint32_t, kMost> packets{};  // the queue's names for them
  std::size_t count = 0;
  std::size_t bytes = 0;
};

/// Of all flows of a thread that are held alike. The kernel's queue has room for more than all of
/// them.
class Holding {
 public:
  static constexpr std::size_t kMost = 1'024;
  static constexpr std::size_t kMostBytes = std::size_t{4} << 20U;

  /// False, and nothing changed, where there is no room for it.
  [[nodiscard]] bool add(Held& held, std::uint32_t packet, std::size_t size) {
    if (held.count >= Held::kMost || held.bytes + size > Held::kMostBytes || count_ >= kMost ||
        bytes_ + size > kMostBytes) {
      return false;
    }
    held.packets.at(held.count++) = packet;
    held.bytes += size;
    count_++;
    bytes_ += size;
    return true;
  }
  void forget(Held& held) {
    count_ -= held.count;
    bytes_ -= held.bytes;
    held = {};
  }

 private:
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace trireme::handshake
