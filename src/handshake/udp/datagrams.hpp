// SPDX-License-Identifier: Apache-2.0
// UDP handshakes. datagrams.cpp: dispatch, held datagrams and timeouts. client.cpp and server.cpp:
// the two sides. near.cpp: flows between two workloads of this host.
#pragma once

#include <optional>

#include "carrier.hpp"
#include "steps.hpp"
#include "trireme/wire/control.hpp"
#include "trireme/wire/datagram.hpp"
#include "udp/silent_peers.hpp"
#include "udp/table.hpp"

namespace trireme::handshake {

class Datagrams : public Carrier {
 public:
  Datagrams(std::size_t capacity, std::uint64_t seed, const Surroundings& surroundings);

  void handle(const PacketFacts& facts, const wire::Datagram& datagram, const Now& now);
  /// See Engine::go_on().
  void go_on(const std::optional<Translation>& translation);
  void tick(const Now& now);
  [[nodiscard]] std::optional<Milliseconds> next_due() const { return table_.next_due(); }
  void forget_point(PointId point);

  [[nodiscard]] std::size_t size() const { return table_.size(); }
  [[nodiscard]] const Crowding& crowding() const { return crowding_; }
  [[nodiscard]] const Crowding& held_crowding() const { return held_crowding_; }

 private:
  struct Packet : PacketAtHand {
    const wire::Datagram& datagram;
    [[nodiscard]] Role role() const {
      return facts.outgoing == is(abi::kReplies) ? Role::server : Role::client;
    }
  };
  /// Why a handshake begins. All false: to authorize a new flow.
  struct Purpose {
    bool closing = false;   // to end the flow that had these ports
    bool renewing = false;  // the flow is authorized, and stays so meanwhile
    bool probing = false;   // as renewing, for a flow without proof: the peer may have proof by now
  };

  // datagrams.cpp
  void leave(const Packet& packet);   // an application's datagram on OUTPUT
  void arrive(const Packet& packet);  // a datagram for an application on INPUT
  void take_control(const Packet& packet);
  void take_over(const Packet& packet);
  void hold(const Packet& packet, DatagramExchange& exchange);
  void release(DatagramExchange& exchange, std::uint32_t priority, std::uint32_t if_followed = 0);
  void drop_held(DatagramExchange& exchange);
  void release_proved(DatagramExchange& exchange, std::uint32_t authorization);
  void forget_held(DatagramExchange& exchange);
  /// Drops the held datagrams of the exchange too.
  void remove(DatagramExchange& exchange);
  DatagramExchange& make(const Packet& packet, Role role);
  [[nodiscard]] static Owner owner(const Packet& packet, Role role);
  void refuse_unknown(const Packet& packet, Role role, const DatagramExchange* exchange);
  void send(const DatagramExchange& exchange, std::size_t size);
  [[nodiscard]] ControlDatagram control(const DatagramExchange& exchange, std::size_t size) const;
  [[nodiscard]] static std::uint8_t flags_of(const DatagramExchange& exchange) {
    return static_cast<std::uint8_t>(wire::kDatagram | (exchange.is_closing ? wire::kClosing : 0U));
  }
  [[nodiscard]] std::size_t write_tag(const DatagramExchange& exchange, wire::Message message,
                                      const Tag& tag);
  [[nodiscard]] static bool belongs_to(const wire::TagMessage& message,
                                       const DatagramExchange& exchange);
  void rejudge(const Packet& packet, DatagramExchange& exchange);
  void rejudge_open(const Packet& packet, DatagramExchange& exchange);
  void refuse(const Packet& packet, Reason reason, Event report);
  void turn_away(const Packet& packet);
  [[nodiscard]] Event event(const FlowKey& key, const DatagramExchange* exchange) const {
    return rulings_.event(key, exchange);
  }

  // client.cpp
  void leave_as_client(const Packet& packet);
  void begin_as_client(const Packet& packet, DatagramExchange* known, Purpose purpose);
  void begin(const Packet& packet, DatagramExchange& exchange,
             std::shared_ptr<const LocalIdentity> local);
  [[nodiscard]] tl::expected<std::size_t, Reason> write_first_hello(
      DatagramExchange& exchange, std::shared_ptr<const LocalIdentity> local, const Now& now);
  void succeed(DatagramExchange& exchange, const Now& now);
  [[nodiscard]] bool has_anothers_ends(const Packet& packet) const;
  [[nodiscard]] std::shared_ptr<const LocalIdentity> closer(const Packet& packet) const;
  [[nodiscard]] static std::string no_room(const DatagramExchange& exchange);
  void renew(const Packet& packet, DatagramExchange* known);
  void open_at_once(const Packet& packet, const policy::Decision& decision);
  [[nodiscard]] std::size_t write_hello(const DatagramExchange& exchange);
  void repeat_hello(DatagramExchange& exchange, const Now& now);
  void repeat_proof(DatagramExchange& exchange, const Now& now);
  void give_up(DatagramExchange& exchange, const Now& now);
  void open(DatagramExchange& exchange, const policy::Decision& decision, const Now& now);
  [[nodiscard]] DatagramExchange* find_asking(const Packet& packet);
  void take_reply(const Packet& packet);
  void accept_reply(const Packet& packet, DatagramExchange& exchange, const wire::Token& token);
  void prove(DatagramExchange& exchange, const Now& now);
  void take_refusal(const Packet& packet);
  void take_ready(const Packet& packet);
  [[nodiscard]] std::optional<policy::Decision> judge_server(
      DatagramExchange& exchange, std::shared_ptr<const RemoteIdentity> remote, const Now& now);
  void admit(DatagramExchange& exchange, const policy::Decision& decision, const Now& now);
  void close(DatagramExchange& exchange, const Now& now);
  void refuse_client(DatagramExchange& exchange, const Judgement& judgement, const Now& now);
  void finish_client(DatagramExchange& exchange, const Now& now);
  void finish_refused(DatagramExchange& exchange, const Now& now);

  // near.cpp
  [[nodiscard]] bool meet(DatagramExchange& exchange, const Now& now);
  void take_meet(const Packet& packet);
  [[nodiscard]] bool may_follow(const Packet& packet, const Departure& departure);
  void forget_request(const DatagramExchange& exchange);
  void decide_on_meet(const Packet& packet, const Departure& departure, Bytes tag,
                      std::shared_ptr<const LocalIdentity> local);

  // server.cpp
  void take_hello(const Packet& packet);
  void judge_hello(const Packet& packet, const wire::Token& token,
                   std::shared_ptr<const LocalIdentity> local);
  void refuse_hello(const Packet& packet, const wire::Token& hello, const credentials::Peer* peer,
                    Reason reason, Event&& report);
  void reply(const Packet& packet, DatagramExchange& exchange);
  void take_proof(const Packet& packet);
  void accept_proof(const Packet& packet, DatagramExchange& exchange);
  void await(const Packet& packet, const DatagramExchange& exchange);
  void end_flow(const DatagramExchange& exchange);
  void confirm(const DatagramExchange& exchange);

  DatagramTable table_;
  SilentPeers silent_;
  // Identities without labels: for closing handshakes of flows that conntrack knows (number 0), and
  // for unlabeled processes (abi::kHost).
  std::shared_ptr<const LocalIdentity> nobody_;
  std::shared_ptr<const LocalIdentity> host_;
  Holding held_;
  Crowding crowding_;
  Crowding held_crowding_;
  std::array<std::uint8_t, wire::kMaxControl> data_{};
  std::array<std::uint8_t, wire::kMaxControl> text_{};  // the text that REPLY seals
  /// The state with which go_on() continues.
  struct Answering {
    FlowKey key;
    std::optional<Translation> flow;  // if it is already known
    ControlDatagram refusal;          // empty data: send REPLY or READY instead
  };
  Answering answering_;
};

}  // namespace trireme::handshake
