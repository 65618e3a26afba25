// What Engine is made of: dispatch in engine.cpp, the two roles in client.cpp and server.cpp, what
// comes after in segments.cpp.
#pragma once

#include "datagrams.hpp"
#include "early_data.hpp"
#include "flow_table.hpp"
#include "rulings.hpp"
#include "steps.hpp"

namespace trireme::handshake {

class Engine::State {
 public:
  State(std::size_t capacity, std::uint64_t seed, IdentityBook& book, Proved& proved,
        credentials::Random random);

  [[nodiscard]] Answer handle(const PacketFacts& facts, const wire::Segment& segment,
                              const Now& now);

  EngineStatistics statistics;
  PeerCache peers{statistics};
  std::vector<policy::Prefix> networks;    // [host] peers
  std::vector<policy::Prefix> translated;  // [host] nat
  std::vector<policy::Prefix> near;        // of this host, and of its containers
  wire::PolicyDigest policy{};             // of the policy in force
  Locals locals;
  Budget budget;
  FlowTable table;
  std::function<void(Event&&)> on_event;
  bool is_finishing = false;

  [[nodiscard]] Answer malformed(wire::Malformed what);
  /// Asks again for what is missing, and gives up what has waited too long.
  void tick(const Now& now);

 private:
  /// The packet at hand, and what is known of it.
  struct Packet {
    const PacketFacts& facts;
    const wire::Segment& segment;
    const Now& now;
    wire::Ends ends;
    [[nodiscard]] FlowKey key(Role role) const;
    [[nodiscard]] const policy::Address& remote() const {
      return facts.outgoing ? ends.destination : ends.source;
    }
    [[nodiscard]] policy::Number number() const { return facts.priority & kNumberMask; }
    /// Whether conntrack knows no flow of it; then number() is that of its socket.
    [[nodiscard]] bool is_stray() const { return (facts.priority & kFresh) != 0; }
    /// Whether it can be of a connection that this workload began.
    [[nodiscard]] bool may_be_of(policy::Number local) const {
      return !is_stray() || number() == local;
    }
  };

  // client.cpp
  Answer ask(const Packet& packet);         // its SYN leaves
  Answer take_reply(const Packet& packet);  // a SYN-ACK comes
  Answer take_no_reply(const Packet& packet, Handshake& handshake);
  Answer accept_reply(const Packet& packet, Handshake& handshake, const wire::Token& token);
  Answer prove(const Packet& packet, Handshake& handshake, const policy::Decision& decision);
  Answer ask_near(const Packet& packet, Handshake& handshake,
                  std::shared_ptr<const LocalIdentity> local, bool again);
  Answer meet(const Packet& packet, Handshake& handshake);
  void forget_request(const Handshake* handshake);
  Answer take_refusal(const Packet& packet);  // a reset with data comes
  Answer refuse_client(const Packet& packet, Handshake& handshake, Reason reason);
  Answer refuse_client(const Packet& packet, Handshake& handshake, Reason reason, Event&& event);

  // server.cpp
  Answer take_hello(const Packet& packet);  // a SYN with data comes
  Answer take_hello_again(const Packet& packet);
  Answer take_meet(const Packet& packet);  // a SYN with MEET comes
  [[nodiscard]] bool is_met(const Packet& packet, const Handshake& known) const;
  /// With MEET, or with the SYN-ACK that answers it.
  Answer receive(const Packet& packet, const Departure& departure, const Nonce& tag,
                 std::shared_ptr<const LocalIdentity> local);
  Answer await_translation(const Packet& packet, Bytes tag,
                           std::shared_ptr<const LocalIdentity> local);
  Answer reply_to_meet(const Packet& packet, Handshake& handshake);
  Answer refuse_other(Event&& report);
  Answer judge_hello(const Packet& packet, const wire::Token& token,
                     std::shared_ptr<const LocalIdentity> local);
  Answer refuse_hello(const Packet& packet, const wire::Token& hello, const credentials::Peer* peer,
                      Reason reason, Event&& told);
  Answer reply(const Packet& packet);  // a SYN-ACK leaves

  // segments.cpp
  Answer segment_in(const Packet& packet);
  Answer segment_out(const Packet& packet);
  Answer await_proof(const Packet& packet, Handshake& handshake);
  Answer take_proof(const Packet& packet, Handshake& handshake);
  /// Those of connections that were proved longer ago than handshakes are remembered.
  Answer resume(const Packet& packet);
  Answer judge_stray(const Packet& packet);
  [[nodiscard]] TcpSocket tcp_socket(const Packet& packet);
  /// A connection that is proved, for as long as its socket lives.
  void remember(const Handshake& handshake, const Now& now);
  /// A handshake that is given up for its age, and was not complete.
  void report_death(const Handshake& handshake);
  void drop_held(PointId point, const Held& held);
  [[nodiscard]] static OwnSegment own_segment(const Handshake& handshake);

  // Both.
  /// Judged anew: flows whose authorisation was taken away, and segments that were on their way
  /// when it was given.
  Answer rejudge(const Packet& packet, Handshake& handshake);
  /// The same where no proof was exchanged: a process that is no workload passes, an unlabelled
  /// peer as policy has it now.
  Answer rejudge_open(const Packet& packet, Handshake& handshake);
  [[nodiscard]] static Answer accept(Ruling ruling, policy::Number remote = 0);
  [[nodiscard]] Answer accept_changed(Ruling ruling, policy::Number remote = 0);
  [[nodiscard]] Answer drop(Reason reason);
  /// Dropped, to be repeated to the next engine.
  [[nodiscard]] static Answer leave_to_next();
  /// A packet that policy, or the lack of proof, refuses: `event` is told, and where everything is
  /// in audit mode it passes.
  Answer refuse(const Packet& packet, Reason reason, Event event);
  /// A packet of a handshake that is not known. Where handshakes had to be given up it may have
  /// been one of them: dropped without a word, so that TCP tries again.
  Answer refuse_unknown(const Packet& packet, Role role);
  /// The same without telling it.
  Answer turn_away(const Packet& packet);
  /// Of the flow that the packet at hand belongs to.
  [[nodiscard]] Translation translation(const Packet& packet, const FlowKey& key) {
    return handshake::translation(datagrams_.port, kTcp, key, packet.facts.priority);
  }
  [[nodiscard]] Event event(const Packet& packet, Role role, const Handshake* handshake) const;

  IdentityBook& book_;
  credentials::Random random_;
  credentials::Aead aead_;
  Surroundings around_;
  Rulings rulings_;
  wire::PacketBuffer changed_;
  std::array<std::uint8_t, wire::kMaxToken> token_{};
  std::array<std::uint8_t, wire::kMaxToken> text_{};  // that REPLY seals
  EarlyData early_;
  Datagrams datagrams_;

  friend class Engine;
};

}  // namespace trireme::handshake
