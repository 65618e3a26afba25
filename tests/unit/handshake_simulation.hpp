// SPDX-License-Identifier: Apache-2.0
// Two hosts under simulated time: an engine each, the kernel's rules around it (docs/datapath.md,
// "Tokens"), TCP reduced to what a handshake takes, and a network that loses, repeats, delays and
// overtakes.
#pragma once

#include <functional>
#include <queue>
#include <random>

#include "handshake_network.hpp"
#include "handshake_support.hpp"

namespace trireme::handshake {

/// What a packet is for.
enum class Kind : std::uint8_t { hello, reply, proof, data, answer, other };

class Simulation {
 public:
  using Time = std::chrono::milliseconds;
  /// `before`: how many packets of this kind were sent before on that connection.
  using Network = std::function<Fate(Kind kind, int before)>;

  Simulation(End& client, End& server)
      : hosts_{Host{&client, {}, Time(-1)}, Host{&server, {}, Time(-1)}} {}

  Network network = [](Kind, int) { return Fate{}; };
  /// Called when simulated time reaches it.
  void at(Time when, std::function<void()> what) { agenda_.at(when, std::move(what)); }

  void connect(std::uint16_t number, Time when = Time(0)) {
    at(when, [this, number] { begin(number); });
  }
  void run() {
    while (!agenda_.empty()) {
      const Time when = agenda_.next();
      const auto what = agenda_.take();
      advance(when);
      what();
      plan_ticks();
    }
  }

  struct Result {
    bool connected = false;  // the client's connect() returned
    bool delivered = false;  // its data reached the server's application
    bool answered = false;   // and the answer the client
    bool refused = false;    // by a reset
    Time took{};             // until answered
  };
  [[nodiscard]] Result result(std::uint16_t number) const {
    return connections_.contains(number) ? connections_.at(number).result : Result{};
  }
  [[nodiscard]] std::size_t count(bool Result::*what) const {
    std::size_t sum = 0;
    for (const auto& [number, connection] : connections_) {
      sum += connection.result.*what ? 1U : 0U;
    }
    return sum;
  }
  [[nodiscard]] Time longest() const {
    Time longest{};
    for (const auto& [number, connection] : connections_) {
      longest = std::max(longest, connection.result.took);
    }
    return longest;
  }
  [[nodiscard]] Time now() const { return now_; }

 private:
  static constexpr std::size_t kClient = 0;
  static constexpr std::size_t kServer = 1;
  static constexpr Time kFirstTimeout{1'000};  // TCP's before it has measured (RFC 6298)

  struct Host {
    End* end;
    std::map<std::uint16_t, bool> authorized;  // flows that conntrack has as authorized
    Time tick{-1};                             // planned
  };
  struct Tcp {
    enum class State : std::uint8_t {
      closed,
      syn_sent,
      syn_received,
      established
    } state = State::closed;
    int epoch = 0;  // of timers
  };
  struct Peers {
    Tcp client;
    Tcp server;
    Time began{};
    bool acknowledged = false;  // the client's data
    std::map<Kind, int> sent;
    Result result;
  };

  void advance(Time when) {
    for (Host& host : hosts_) {
      host.end->pass_time(when - now_);
      host.end->tick();
      for (const Packet& packet : std::exchange(host.end->asked, {})) {
        leave(&host == hosts_.data() ? kClient : kServer,
              static_cast<std::uint16_t>(segment(packet).ends().destination_port - 1'024), packet,
              Kind::reply);
      }
    }
    now_ = when;
  }

  /// Plans an event for the next tick of each engine.
  void plan_ticks() {
    for (Host& host : hosts_) {
      if (const auto next = host.end->engine->next_tick()) {
        const Time when = std::max(now_, *next - (host.end->now.monotonic - now_));
        if (host.tick != when) {
          host.tick = when;
          at(when, [] {});
        }
      }
    }
  }

  // --- TCP ---

  void begin(std::uint16_t number) {
    Peers& peers = connections_[number];
    peers.began = now_;
    peers.client.state = Tcp::State::syn_sent;
    repeat(number, kFirstTimeout, 7, [this, number] {
      Peers& here = connections_[number];
      if (here.client.state == Tcp::State::syn_sent) {
        leave(kClient, number, Connection::number(number).syn(), Kind::hello);
      }
      return here.client.state == Tcp::State::syn_sent;
    });
  }

  /// Calls `send` now and again with doubling timeouts, at most `times` times, until it returns
  /// false.
  void repeat(std::uint16_t number, Time timeout, int times, const std::function<bool()>& send) {
    if (times > 0 && send()) {
      at(now_ + timeout, [=, this] { repeat(number, timeout * 2, times - 1, send); });
    }
  }

  void send_data(std::uint16_t number) {
    repeat(number, Time(200), 12, [this, number] {
      Peers& here = connections_[number];
      if (!here.acknowledged && here.client.state == Tcp::State::established) {
        leave(kClient, number, Connection::number(number).data(), Kind::data);
        return true;
      }
      return false;
    });
  }

  void to_client(std::uint16_t number, const wire::Segment& segment) {
    Peers& peers = connections_[number];
    const Connection connection = Connection::number(number);
    if ((segment.flags() & wire::kRst) != 0) {
      const bool acceptable =
          peers.client.state != Tcp::State::syn_sent || segment.acknowledgement() == 1001;
      if (acceptable) {
        peers.client.state = Tcp::State::closed;
        peers.result.refused = true;
      }
      return;
    }
    if ((segment.flags() & wire::kSyn) != 0) {
      ASSERT_EQ(segment.payload_size(), 0U) << "REPLY reached TCP";
      const bool first = peers.client.state == Tcp::State::syn_sent;
      if (peers.client.state == Tcp::State::closed) {
        leave(kClient, number, connection.reset(), Kind::other);
        return;
      }
      peers.client.state = Tcp::State::established;
      peers.result.connected = true;
      leave(kClient, number, ack(connection), Kind::other);
      if (first) {
        send_data(number);
      }
      return;
    }
    if (segment.payload_size() > 0 && !peers.result.answered) {
      peers.result.answered = true;
      peers.result.took = now_ - peers.began;
    }
    peers.acknowledged = peers.acknowledged || segment.acknowledgement() == 1002;
  }

  void to_server(std::uint16_t number, const wire::Segment& segment) {
    Peers& peers = connections_[number];
    const Connection connection = Connection::number(number);
    if ((segment.flags() & wire::kRst) != 0) {
      peers.server.state = Tcp::State::closed;
      return;
    }
    if ((segment.flags() & wire::kSyn) != 0) {
      ASSERT_EQ(segment.payload_size(), 0U) << "HELLO reached TCP";
      if (peers.server.state == Tcp::State::closed) {
        peers.server.state = Tcp::State::syn_received;
        repeat(number, kFirstTimeout, 6, [this, number, connection] {
          const bool waits = connections_[number].server.state == Tcp::State::syn_received;
          if (waits) {
            leave(kServer, number, connection.syn_ack(), Kind::reply);
          }
          return waits;
        });
      } else if (peers.server.state == Tcp::State::syn_received) {
        leave(kServer, number, connection.syn_ack(), Kind::reply);
      }
      return;
    }
    ASSERT_FALSE(segment.proof()) << "PROOF reached TCP";
    if (peers.server.state == Tcp::State::syn_received) {
      peers.server.state = Tcp::State::established;
    }
    if (peers.server.state == Tcp::State::established && segment.payload_size() > 0) {
      EXPECT_TRUE(hosts_[kServer].authorized[number]) << "data without authorization";
      peers.result.delivered = true;
      leave(kServer, number, connection.answer(), Kind::answer);
    }
  }

  static Packet ack(const Connection& connection) {
    return Draft{.ends = connection.ends,
                 .flags = wire::kAck,
                 .sequence = 1001,
                 .acknowledgement = 5001,
                 .options = {}}
        .bytes();
  }

  // --- the ruleset: authorized flows, resets, and packets that are queued for the engine ---

  void leave(std::size_t from, std::uint16_t number, const Packet& packet, Kind kind) {
    Host& host = hosts_[from];
    const wire::Segment parsed = segment(packet);
    const bool syn = (parsed.flags() & wire::kSyn) != 0;
    if (!syn && ((parsed.flags() & wire::kRst) != 0 || host.authorized[number])) {
      carry(from, number, packet, kind);
      return;
    }
    const Outcome outcome = host.end->out(packet);
    settle(host, number, outcome);
    if (outcome.proof) {
      carry(from, number, *outcome.proof, Kind::proof);
    }
    if (outcome.drop) {
      return;
    }
    if (outcome.ruling == abi::Ruling::refuse) {
      arrive_at_tcp(from, number, refusal(packet));
      return;
    }
    carry(from, number, outcome.packet, kind);
  }

  void arrive(std::size_t to, std::uint16_t number, const Packet& packet) {
    Host& host = hosts_[to];
    const wire::Segment parsed = segment(packet);
    const unsigned flags = parsed.flags() & (wire::kSyn | wire::kAck);
    if ((parsed.flags() & wire::kRst) != 0 ||
        ((flags & wire::kSyn) == 0 && host.authorized[number])) {
      if (!parsed.proof()) {  // a kernel ignores the unknown option, so PROOF is an
                              // acknowledgment to it
        arrive_at_tcp(to, number, packet);
      }
      return;
    }
    if (flags == wire::kSyn && host.authorized[number]) {
      return;  // what follows would use an earlier authorization
    }
    if (flags == wire::kAck && !parsed.proof() && parsed.payload_size() == 0) {
      return;  // an acknowledgment before PROOF
    }
    const Outcome outcome = host.end->in(packet);
    settle(host, number, outcome);
    if (outcome.proof) {
      carry(to, number, *outcome.proof, Kind::proof);
    }
    if (outcome.syn_ack) {
      leave(to, number, *outcome.syn_ack, Kind::reply);
    }
    if (outcome.drop || outcome.hold) {
      return;
    }
    if (outcome.ruling == abi::Ruling::refuse) {
      carry(to, number, refusal(packet), Kind::other);
      return;
    }
    arrive_at_tcp(to, number, outcome.packet);
    for (const Packet& behind : outcome.behind) {
      arrive_at_tcp(to, number, behind);
    }
  }

  void arrive_at_tcp(std::size_t to, std::uint16_t number, const Packet& packet) {
    to == kClient ? to_client(number, segment(packet)) : to_server(number, segment(packet));
  }

  static void settle(Host& host, std::uint16_t number, const Outcome& outcome) {
    host.authorized[number] = host.authorized[number] || outcome.authorizes();
  }

  /// As nftables' `reject with tcp reset` answers.
  static Packet refusal(const Packet& packet) {
    const wire::Segment to = segment(packet);
    const wire::Ends ends = to.ends();
    Draft draft{.ends = {ends.destination, ends.source, ends.destination_port, ends.source_port},
                .flags = wire::kRst,
                .options = {}};
    if ((to.flags() & wire::kAck) != 0) {
      draft.sequence = to.acknowledgement();
    } else {
      draft.flags = wire::kRst | wire::kAck;
      draft.acknowledgement = to.sequence() + 1;
    }
    return draft.bytes();
  }

  void carry(std::size_t from, std::uint16_t number, const Packet& packet, Kind kind) {
    const Fate fate = network(kind, connections_[number].sent[kind]++);
    const std::size_t to = from == kClient ? kServer : kClient;
    if (!fate.lost) {
      at(now_ + fate.delay, [=, this] { arrive(to, number, packet); });
    }
    if (fate.twice) {
      at(now_ + fate.delay_of_second, [=, this] { arrive(to, number, packet); });
    }
  }

  std::array<Host, 2> hosts_;
  std::map<std::uint16_t, Peers> connections_;
  Agenda agenda_;
  Time now_{};
};

}  // namespace trireme::handshake
