// SPDX-License-Identifier: Apache-2.0
// The engine's output: a verdict for each packet, packets to send, and changes to conntrack. The
// caller performs the actions in the given order.
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

/// The verdict on one packet in a queue.
struct PacketVerdict {
  PointId point = 0;
  std::uint32_t id = 0;  // the packet's id in the queue
  bool drop = false;
  std::uint32_t priority = 0;                   // see abi/abi.hpp; not used if `drop`
  const wire::PacketBuffer* changed = nullptr;  // replaces the packet; null: unchanged
  /// The priority to use instead if more packets wait in the queue behind this one. They may belong
  /// to the same flow, and a later packet on the kernel path would overtake them. 0: `priority`.
  std::uint32_t if_followed = 0;
};

/// A datagram of the token protocol that this host sends.
struct ControlDatagram {
  PointId point = 0;
  wire::Ends ends;  // the source is this host's endpoint
  std::span<const std::uint8_t> data;
  std::uint32_t priority = 0;  // abi::kControlPriority, with the workload's number
  std::uint32_t mark = 0;
  std::uint32_t device = 0;  // ifindex; 0: any
  /// IPv6 flow label of the flow's own datagrams, because it is part of the hash that selects the
  /// queue.
  std::uint32_t flow_label = 0;
  std::uint8_t traffic_class = 0;
  bool translated = false;  // NAT has changed the destination in `ends`; conntrack knows it
};

/// A TCP segment that this host sends.
struct OwnSegment {
  PointId point = 0;
  wire::OwnSegment segment;
  std::optional<wire::Tag> proof;              // nullopt: a SYN-ACK; its REPLY is added on OUTPUT
  std::span<const std::uint8_t> refusal = {};  // not empty: send a reset with this data instead
  std::uint32_t mark = 0;                      // SO_MARK of this host's socket
  std::uint32_t device = 0;                    // ifindex; 0: any
  bool translated = false;  // NAT has changed the destination in `segment`; conntrack knows it
};

/// A change to the conntrack entry of a flow.
enum class FlowChange : std::uint8_t {
  renewed,   // clear the renewal bit, abi::kRenewal
  withdraw,  // clear its authorization, abi::kVerdictBits
  clear,     // clear all bits of its label that trireme uses, abi::kFlowBits
  forget,    // delete the entry
};

struct EntryChange {
  PointId point = 0;
  std::uint8_t protocol = 0;  // IANA number
  wire::Ends ends;            // the source is the client
  FlowChange change = FlowChange::renewed;
};

using Action = std::variant<PacketVerdict, ControlDatagram, OwnSegment, EntryChange>;

/// The actions of one call of the engine. A packet without a verdict stays in its queue.
class Actions {
 public:
  /// The most actions that one packet can cause: verdicts on the held datagrams of three flows (its
  /// own, the one it replaces, the one evicted for it), on packets evicted from the hold queue for
  /// it (held.hpp), and packets to send.
  static constexpr std::size_t kOfOnePacket = 96;
  static constexpr std::size_t kMost = 2 * kOfOnePacket;

  void add(const PacketVerdict& verdict) { all_.at(count_++) = verdict; }
  void add(const EntryChange& change) { all_.at(count_++) = change; }
  /// Copies `datagram.data`.
  void add(ControlDatagram datagram) {
    datagram.data = kept(datagram.data);
    all_.at(count_++) = datagram;
  }
  void add(OwnSegment segment) {
    segment.refusal = kept(segment.refusal);
    all_.at(count_++) = segment;
  }
  void ask(const Question& question) { question_ = question; }
  /// The caller must call Engine::go_on() after it has performed the actions, with the answer to
  /// question() if there is one. A question without await() means that the packet has no verdict
  /// yet: the caller must pass it to Engine::handle() again with the answer.
  void await() { is_awaited_ = true; }
  void clear() {
    count_ = 0;
    size_ = 0;
    question_ = {};
    is_awaited_ = false;
  }

  [[nodiscard]] std::span<const Action> all() const { return std::span(all_).first(count_); }
  /// Room for the actions of one more packet, or of one UDP exchange that is due.
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
