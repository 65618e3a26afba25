// SPDX-License-Identifier: Apache-2.0
// What becomes of packets, and what is done beside that: all that leaves the engine. Whoever
// performs them keeps to their order.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>

#include "trireme/handshake/facts.hpp"
#include "trireme/wire/datagram.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::handshake {

/// On a packet in a queue; it leaves it with this.
struct PacketVerdict {
  PointId point = 0;
  std::uint32_t id = 0;  // the queue's name for it
  bool drop = false;
  std::uint32_t priority = 0;                   // codes.hpp; unless dropped
  const wire::PacketBuffer* changed = nullptr;  // in the packet's place
  /// The priority if packets wait behind this one, perhaps of the same flow: in the kernel they
  /// would be overtaken. 0: the same.
  std::uint32_t if_followed = 0;
};

/// A datagram of the token protocol, of our own.
struct ControlDatagram {
  PointId point = 0;
  wire::Ends ends;  // as this end sends
  std::span<const std::uint8_t> data;
  std::uint32_t priority = 0;  // kControlPriority and the number
  std::uint32_t mark = 0;
  std::uint32_t device = 0;
  std::uint32_t flow_label =
      0;  // as the flow's own datagrams have it: it is part of the hash that chooses the queue
  std::uint8_t traffic_class = 0;
  bool translated = false;  // the destination is another than `ends` says: conntrack knows
};

/// A TCP segment of our own.
struct OwnSegment {
  PointId point = 0;
  wire::OwnSegment segment;
  std::optional<wire::Tag> proof;  // nullopt: a SYN-ACK, which gets its REPLY where it leaves
  std::span<const std::uint8_t> refusal = {};  // not empty: a reset with these data instead
  std::uint32_t mark = 0;                      // as this end's TCP has it
  std::uint32_t device = 0;
  bool translated = false;  // the destination is another than `segment` says: conntrack knows
};

/// What is to change in conntrack's entry of a flow.
enum class FlowChange : std::uint8_t {
  renewed,   // kRenew is taken off
  withdraw,  // its authorisation is taken away
  release,   // and whatever else of its label is ours
  forget,    // the entry goes
};

struct EntryChange {
  PointId point = 0;
  std::uint8_t protocol = 0;  // IANA's number
  wire::Ends ends;            // as the client sends
  FlowChange change = FlowChange::renewed;
};

using Action = std::variant<PacketVerdict, ControlDatagram, OwnSegment, EntryChange>;

/// What one call of the engine wants done. A packet of which nothing is said stays in its queue.
class Actions {
 public:
  /// What one packet can bring about: the datagrams of three flows (its own, the one that it
  /// replaces, the one that had to make room), those that give up their places in a queue for it
  /// (held.hpp), and what is sent.
  static constexpr std::size_t kOfOnePacket = 96;
  static constexpr std::size_t kMost = 2 * kOfOnePacket;

  void add(const PacketVerdict& verdict) { all_.at(count_++) = verdict; }
  void add(const EntryChange& change) { all_.at(count_++) = change; }
  /// Bytes are copied.
  void add(ControlDatagram datagram) {
    datagram.data = kept(datagram.data);
    all_.at(count_++) = datagram;
  }
  void add(OwnSegment segment) {
    segment.refusal = kept(segment.refusal);
    all_.at(count_++) = segment;
  }
  void ask(const Question& question) { question_ = question; }
  /// Engine::go_on() is to be called when the actions are done, with the answer if there is a
  /// question. Else a question means: nothing has become of the packet, and it is to come again.
  void await() { is_awaited_ = true; }
  void clear() {
    count_ = 0;
    size_ = 0;
    question_ = {};
    is_awaited_ = false;
  }

  [[nodiscard]] std::span<const Action> all() const { return std::span(all_).first(count_); }
  /// For what one packet can bring about, or one exchange of datagrams whose time has come.
  [[nodiscard]] bool has_room() const {
    return count_ + kOfOnePacket <= kMost && size_ + kBytesOfOnePacket <= kBytes;
  }
  [[nodiscard]] const Question& question() const { return question_; }
  [[nodiscard]] bool asks() const { return question_.about != Question::About::nothing; }
  [[nodiscard]] bool is_awaited() const { return is_awaited_; }

 private:
  static constexpr std::size_t kBytesOfOnePacket = wire::kMaxControl;
  static constexpr std::size_t kBytes = 16 * kBytesOfOnePacket;

  [[nodiscard]] std::span<const std::uint8_t> kept(std::span<const std::uint8_t> bytes) {
    const auto room = std::span(bytes_).subspan(size_).first(bytes.size());
    std::ranges::copy(bytes, room.begin());
    size_ += bytes.size();
    return room;
  }

  std::array<Action, kMost> all_{};
  std::size_t count_ = 0;
  std::array<std::uint8_t, kBytes> bytes_{};
  std::size_t size_ = 0;
  Question question_;
  bool is_awaited_ = false;
};

}  // namespace trireme::handshake
