// SPDX-License-Identifier: Apache-2.0
// TCP handshakes. connections.cpp: dispatch, and what both sides share. client.cpp and server.cpp:
// the two sides. segments.cpp: segments other than SYN and SYN-ACK.
#pragma once

#include "carrier.hpp"
#include "steps.hpp"
#include "tcp/early_data.hpp"
#include "tcp/table.hpp"
#include "trireme/wire/segment.hpp"

namespace trireme::handshake {

class Connections : public Carrier {
 public:
  Connections(std::size_t capacity, std::uint64_t seed, const Surroundings& around);

  void handle(const PacketFacts& facts, const wire::Segment& segment, const Now& now);
  /// Requests missing PROOFs again, and ends handshakes that timed out.
  void tick(const Now& now);
  [[nodiscard]] std::optional<Milliseconds> next_due() const;
  /// No new handshake begins after this call.
  void finish() { is_finishing_ = true; }
  void forget_point(PointId point) { table_.forget_point(point); }

  [[nodiscard]] bool awaits_proof(Milliseconds now) const { return table_.awaits_proof(now); }
  [[nodiscard]] std::size_t size() const { return table_.size(); }
  [[nodiscard]] const Crowding& crowding() const { return table_.crowding(); }
  [[nodiscard]] const Crowding& held_crowding() const { return early_.crowding(); }

 private:
  struct Packet : PacketAtHand {
    const wire::Segment& segment;
    /// True for a segment of a connection that conntrack does not know; then number() is that of
    /// the socket.
    [[nodiscard]] bool is_stray() const { return is(abi::kStray); }
    /// True if the segment can belong to a connection of this workload.
    [[nodiscard]] bool may_be_of(policy::Number local) const {
      return !is_stray() || number() == local;
    }
  };

  // client.cpp
  void begin_as_client(const Packet& packet);  // a SYN leaves
  void take_reply(const Packet& packet);       // a SYN-ACK arrives
  void take_no_reply(const Packet& packet, Handshake& handshake);
  void accept_reply(const Packet& packet, Handshake& handshake, const wire::Token& token);
  void prove(const Packet& packet, Handshake& handshake, const policy::Decision& decision);
  void ask_near(const Packet& packet, Handshake& handshake,
                std::shared_ptr<const LocalIdentity> local, bool again);
  void meet(const Packet& packet, Handshake& handshake);
  void forget_request(const Handshake* handshake);
  void take_refusal(const Packet& packet);  // a reset with data arrives
  void refuse_client(const Packet& packet, Handshake& handshake, Reason reason);
  void refuse_client(const Packet& packet, Handshake& handshake, Reason reason, Event&& event);

  // server.cpp
  void take_hello(const Packet& packet);  // a SYN with data arrives
  void take_hello_again(const Packet& packet);
  void take_meet(const Packet& packet);  // a SYN with MEET arrives
  [[nodiscard]] bool is_met(const Packet& packet, const Handshake& known) const;
  /// Decides on a request, with MEET or with the SYN-ACK that answers it.
  void decide_on_meet(const Packet& packet, const Departure& departure, const Nonce& tag,
                      std::shared_ptr<const LocalIdentity> local);
  void await_translation(const Packet& packet, Bytes tag,
                         std::shared_ptr<const LocalIdentity> local);
  void reply_to_meet(const Packet& packet, Handshake& handshake);
  void judge_hello(const Packet& packet, const wire::Token& token,
                   std::shared_ptr<const LocalIdentity> local);
  void refuse_hello(const Packet& packet, const wire::Token& hello, const credentials::Peer* peer,
                    Reason reason, Event&& report);
  void reply(const Packet& packet);  // a SYN-ACK leaves
  void pass_without_token(const Packet& packet);

  // segments.cpp
  void segment_in(const Packet& packet);
  void segment_out(const Packet& packet);
  void await_proof(const Packet& packet, Handshake& handshake);
  void take_proof(const Packet& packet, Handshake& handshake);
  /// Re-evaluates a segment of a connection whose handshake is no longer remembered.
  void resume(const Packet& packet);
  void judge_stray(const Packet& packet);
  /// The TCP socket for the packet. None: a question was added to the actions, and the packet will
  /// be handled again with the answer.
  [[nodiscard]] std::optional<TcpSocket> tcp_socket(const Packet& packet);
  /// Remembers a proved connection for as long as its socket exists.
  void remember(const Handshake& handshake, const Now& now);
  /// Reports a handshake that timed out before it was complete.
  void report_death(const Handshake& handshake);
  [[nodiscard]] static OwnSegment own_segment(const Handshake& handshake);

  // connections.cpp
  /// Re-evaluates a flow whose authorization was withdrawn, or a segment that was in transit when
  /// the flow was authorized.
  void rejudge(const Packet& packet, Handshake& handshake);
  /// As rejudge(), for a flow without proof: the packet of an unlabeled process passes; for a peer
  /// without labels the policy in force decides.
  void rejudge_open(const Packet& packet, Handshake& handshake);
  /// Refuses a packet because of policy or missing proof, and reports `event`. In audit mode the
  /// packet passes.
  void refuse(const Packet& packet, Reason reason, Event event);
  /// Refuses a packet of a handshake that is not in the table. If handshakes were evicted recently,
  /// it may have been one of them, and the packet is dropped silently so that TCP retries.
  void refuse_unknown(const Packet& packet, Role role);
  /// Refuses a packet without reporting an event.
  void turn_away(const Packet& packet);
  [[nodiscard]] Event event(const Packet& packet, Role role, const Handshake* handshake) const {
    return rulings_.event(packet.key(role), handshake);
  }

  HandshakeTable table_;
  EarlyData early_;
  bool is_finishing_ = false;
  std::array<std::uint8_t, wire::kMaxToken> token_{};
  std::array<std::uint8_t, wire::kMaxToken> text_{};  // the text that REPLY seals
};

}  // namespace trireme::handshake
