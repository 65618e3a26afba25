// The handshakes of UDP flows: dispatch, holding and time in datagrams.cpp, the two roles in
// datagram_client.cpp and datagram_server.cpp, flows on one host in datagram_near.cpp.
#pragma once

#include <optional>

#include "datagram_table.hpp"
#include "rulings.hpp"
#include "silent_peers.hpp"
#include "steps.hpp"
#include "trireme/wire/control.hpp"

namespace trireme::handshake {

class Datagrams {
 public:
  Datagrams(std::size_t capacity, std::uint64_t seed, const Surroundings& surroundings);

  [[nodiscard]] Answer handle(const PacketFacts& facts, const wire::Datagram& datagram,
                              const Now& now);
  /// REPLY to the HELLO at hand, which has gone on.
  void send_reply();
  void tick(const Now& now);
  [[nodiscard]] std::optional<Milliseconds> next_due() const { return table_.next_due(); }
  void set_policy(std::shared_ptr<const policy::Policy> policy) {
    rulings_.set_policy(std::move(policy));
  }
  void set_named(const NamedPeers* named) { rulings_.set_named(named); }
  void forget_point(PointId point);

  [[nodiscard]] std::size_t size() const { return table_.size(); }
  [[nodiscard]] const Crowding& crowding() const { return crowding_; }
  [[nodiscard]] const Crowding& held_crowding() const { return held_crowding_; }

  Port* port = nullptr;

 private:
  /// The packet at hand.
  struct Packet {
    const PacketFacts& facts;
    const wire::Datagram& datagram;
    const Now& now;
    wire::Ends ends;
    [[nodiscard]] FlowKey key(Role role) const;
    [[nodiscard]] policy::Number number() const { return facts.priority & kNumberMask; }
    [[nodiscard]] bool is(std::uint32_t flag) const { return (facts.priority & flag) != 0; }
    [[nodiscard]] Role role() const {
      return facts.outgoing == is(kAnswers) ? Role::server : Role::client;
    }
  };
  struct Purpose {
    bool closing = false;
    bool renewing = false;  // the flow is authorised
    bool probing = false;   // and that without proof, with a peer that did not answer some time ago
  };

  // datagrams.cpp
  Answer leave(const Packet& packet);   // an application's, on OUTPUT
  Answer arrive(const Packet& packet);  // for an application, on INPUT
  Answer take_control(const Packet& packet);
  Answer take_over(const Packet& packet);
  Answer hold(const Packet& packet, DatagramExchange& exchange);
  void release(DatagramExchange& exchange, std::uint32_t priority);
  void drop_held(DatagramExchange& exchange);
  void release_proved(DatagramExchange& exchange, std::uint32_t authorisation);
  void let_go(DatagramExchange& exchange);
  DatagramExchange& make(const Packet& packet, Role role);
  [[nodiscard]] static Owner owner(const Packet& packet, Role role);
  [[nodiscard]] Answer refuse_unknown(const Packet& packet, Role role,
                                      const DatagramExchange* exchange);
  void send(const DatagramExchange& exchange, std::size_t size);
  [[nodiscard]] ControlDatagram control(const DatagramExchange& exchange, std::size_t size) const;
  [[nodiscard]] static std::uint8_t flags_of(const DatagramExchange& exchange) {
    return static_cast<std::uint8_t>(wire::kDatagram | (exchange.is_closing ? wire::kClosing : 0U));
  }
  [[nodiscard]] std::size_t write_tag(const DatagramExchange& exchange, wire::Message message,
                                      const Tag& tag);
  [[nodiscard]] static bool belongs_to(const wire::TagMessage& message,
                                       const DatagramExchange& exchange);
  Answer rejudge(const Packet& packet, DatagramExchange& exchange);
  Answer rejudge_open(const Packet& packet, DatagramExchange& exchange);
  void change(const FlowKey& key, FlowChange what);
  [[nodiscard]] static Answer accept(Ruling ruling, policy::Number remote = 0);
  Answer drop(Reason reason);
  Answer refuse(const Packet& packet, Reason reason, Event told);
  [[nodiscard]] Answer turn_away(const Packet& packet) const;
  [[nodiscard]] Event event(const FlowKey& key, const DatagramExchange* exchange) const {
    return rulings_.event(key, exchange);
  }

  // datagram_client.cpp
  Answer leave_as_client(const Packet& packet);
  Answer ask(const Packet& packet, DatagramExchange* known, Purpose purpose);
  Answer begin(const Packet& packet, DatagramExchange& exchange,
               std::shared_ptr<const LocalIdentity> local);
  [[nodiscard]] tl::expected<std::size_t, Reason> write_first_hello(
      DatagramExchange& exchange, std::shared_ptr<const LocalIdentity> local, const Now& now);
  void succeed(DatagramExchange& exchange, const Now& now);
  [[nodiscard]] bool has_anothers_ends(const Packet& packet) const;
  [[nodiscard]] std::shared_ptr<const LocalIdentity> closer(const Packet& packet) const;
  [[nodiscard]] static std::string no_room(const DatagramExchange& exchange);
  Answer renew(const Packet& packet, DatagramExchange* known);
  [[nodiscard]] Answer open_at_once(const Packet& packet, const policy::Decision& decision);
  [[nodiscard]] std::size_t write_hello(const DatagramExchange& exchange);
  void repeat_hello(DatagramExchange& exchange, const Now& now);
  void repeat_proof(DatagramExchange& exchange, const Now& now);
  void give_up(DatagramExchange& exchange, const Now& now);
  void open(DatagramExchange& exchange, const policy::Decision& decision, const Now& now);
  [[nodiscard]] DatagramExchange* find_asking(const Packet& packet);
  Answer take_reply(const Packet& packet);
  Answer accept_reply(const Packet& packet, DatagramExchange& exchange, const wire::Token& token);
  void prove(DatagramExchange& exchange, const policy::Decision& decision, const Now& now);
  Answer take_refusal(const Packet& packet);
  Answer take_ready(const Packet& packet);
  [[nodiscard]] std::optional<policy::Decision> judge_server(
      DatagramExchange& exchange, std::shared_ptr<const RemoteIdentity> remote, const Now& now);
  void admit(DatagramExchange& exchange, const policy::Decision& decision, const Now& now);
  void close(DatagramExchange& exchange, const Now& now);
  void refuse_client(DatagramExchange& exchange, const Judgement& judgement, const Now& now);
  void settle_client(DatagramExchange& exchange, const Now& now);
  void settle_refused(DatagramExchange& exchange, const Now& now);

  // datagram_near.cpp
  [[nodiscard]] bool meet(DatagramExchange& exchange, const Now& now);
  Answer take_meet(const Packet& packet);
  [[nodiscard]] bool may_follow(const Packet& packet, const Departure& departure);
  void forget_request(const DatagramExchange& exchange);
  Answer receive(const Packet& packet, const Departure& departure, Bytes tag,
                 std::shared_ptr<const LocalIdentity> local);

  // datagram_server.cpp
  Answer take_hello(const Packet& packet);
  Answer judge_hello(const Packet& packet, const wire::Token& token,
                     std::shared_ptr<const LocalIdentity> local);
  Answer refuse_hello(const Packet& packet, const wire::Token& hello, const credentials::Peer* peer,
                      Reason reason, Event&& told);
  Answer reply(const Packet& packet, DatagramExchange& exchange);
  Answer take_proof(const Packet& packet);
  Answer accept_proof(const Packet& packet, DatagramExchange& exchange);
  Answer end_flow(DatagramExchange& exchange);
  Answer confirm(DatagramExchange& exchange);

  Surroundings around_;
  Rulings rulings_;
  DatagramTable table_;
  SilentPeers silent_;
  // In whose name flows are closed that conntrack knows, and a process that is no workload.
  std::shared_ptr<const LocalIdentity> nobody_;
  std::shared_ptr<const LocalIdentity> host_;
  Holding held_;
  Crowding crowding_;
  Crowding held_crowding_;
  std::array<std::uint8_t, wire::kMaxControl> data_{};
  std::array<std::uint8_t, wire::kMaxControl> text_{};  // that REPLY seals
  wire::PacketBuffer changed_;
  struct Answering {
    FlowKey key;
    std::uint32_t priority = 0;
    ControlDatagram refusal;  // without data: REPLY is to be sent
  };
  Answering answering_;  // whose HELLO is at hand
};

}  // namespace trireme::handshake
