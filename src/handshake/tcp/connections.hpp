// SPDX-License-Identifier: Apache-2.0
// The handshakes of TCP: dispatch and what both ends share in connections.cpp, the two roles in
// client.cpp and server.cpp, what is neither SYN nor SYN-ACK in segments.cpp.
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
  /// Asks again for what is missing, and gives up what has waited too long.
  void tick(const Now& now);
  [[nodiscard]] std::optional<Milliseconds> next_due() const;
  /// From here on none begins.
  void finish() { is_finishing_ = true; }
  void forget_point(PointId point) { table_.forget_point(point); }

  [[nodiscard]] bool awaits_proof(Milliseconds now) const { return table_.awaits_proof(now); }
  [[nodiscard]] std::size_t size() const { return table_.size(); }
  [[nodiscard]] const Crowding& crowding() const { return table_.crowding(); }
  [[nodiscard]] const Crowding& held_crowding() const { return early_.crowding(); }

 private:
  struct Packet : PacketAtHand {
    const wire::Segment& segment;
    /// Whether conntrack knows no flow of it; then number() is that of its socket.
    [[nodiscard]] bool is_stray() const { return is(kFresh); }
    /// Whether it can be of a connection that this workload began.
    [[nodiscard]] bool may_be_of(policy::Number local) const {
      return !is_stray() || number() == local;
    }
  };

  // client.cpp
  void ask(const Packet& packet);         // its SYN leaves
  void take_reply(const Packet& packet);  // a SYN-ACK comes
  void take_no_reply(const Packet& packet, Handshake& handshake);
  void accept_reply(const Packet& packet, Handshake& handshake, const wire::Token& token);
  void prove(const Packet& packet, Handshake& handshake, const policy::Decision& decision);
  void ask_near(const Packet& packet, Handshake& handshake,
                std::shared_ptr<const LocalIdentity> local, bool again);
  void meet(const Packet& packet, Handshake& handshake);
  void forget_request(const Handshake* handshake);
  void take_refusal(const Packet& packet);  // a reset with data comes
  void refuse_client(const Packet& packet, Handshake& handshake, Reason reason);
  void refuse_client(const Packet& packet, Handshake& handshake, Reason reason, Event&& event);

  // server.cpp
  void take_hello(const Packet& packet);  // a SYN with data comes
  void take_hello_again(const Packet& packet);
  void take_meet(const Packet& packet);  // a SYN with MEET comes
  [[nodiscard]] bool is_met(const Packet& packet, const Handshake& known) const;
  /// With MEET, or with the SYN-ACK that answers it.
  void receive(const Packet& packet, const Departure& departure, const Nonce& tag,
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
  /// Those of connections that were proved longer ago than handshakes are remembered.
  void resume(const Packet& packet);
  void judge_stray(const Packet& packet);
  /// What TCP has for the packet. None: it is asked for, and the packet comes again.
  [[nodiscard]] std::optional<TcpSocket> tcp_socket(const Packet& packet);
  /// A connection that is proved, for as long as its socket lives.
  void remember(const Handshake& handshake, const Now& now);
  /// A handshake that is given up for its age, and was not complete.
  void report_death(const Handshake& handshake);
  [[nodiscard]] static OwnSegment own_segment(const Handshake& handshake);

  // connections.cpp
  /// Judged anew: flows whose authorisation was taken away, and segments that were on their way
  /// when it was given.
  void rejudge(const Packet& packet, Handshake& handshake);
  /// The same where no proof was exchanged: a process that is no workload passes, an unlabelled
  /// peer as policy has it now.
  void rejudge_open(const Packet& packet, Handshake& handshake);
  /// A packet that policy, or the lack of proof, refuses: `event` is reported, and where everything
  /// is in audit mode it passes.
  void refuse(const Packet& packet, Reason reason, Event event);
  /// A packet of a handshake that is not known. Where handshakes had to be given up it may have
  /// been one of them: dropped without a word, so that TCP tries again.
  void refuse_unknown(const Packet& packet, Role role);
  /// The same without a report.
  void turn_away(const Packet& packet);
  [[nodiscard]] Event event(const Packet& packet, Role role, const Handshake* handshake) const {
    return rulings_.event(packet.key(role), handshake);
  }

  FlowTable table_;
  EarlyData early_;
  bool is_finishing_ = false;
  std::array<std::uint8_t, wire::kMaxToken> token_{};
  std::array<std::uint8_t, wire::kMaxToken> text_{};  // that REPLY seals
};

}  // namespace trireme::handshake
