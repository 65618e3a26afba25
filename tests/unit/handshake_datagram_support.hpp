// SPDX-License-Identifier: Apache-2.0
// Two hosts' engines and the UDP datagrams between them, with real cryptography.
#pragma once

#include <deque>

#include "handshake_support.hpp"
#include "trireme/wire/control.hpp"
#include "trireme/wire/datagram.hpp"

namespace trireme::handshake {

inline Packet datagram(const wire::Ends& ends, std::span<const std::uint8_t> data) {
  wire::PacketBuffer out;
  wire::write_datagram(ends, 0, 0, data, out);
  return {out.view().begin(), out.view().end()};
}

inline Packet datagram(const wire::Ends& ends, const std::string& text) {
  return datagram(ends, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

inline wire::Datagram parsed(const Packet& packet) {
  return wire::Datagram::parse(packet, packet.size()).value();
}

/// The result for one packet.
struct Answer {
  bool drop = false;
  bool hold = true;  // no verdict yet
  std::uint32_t priority = 0;
  std::optional<Packet> changed;
  bool awaits = false;  // go_on() is to be called
};

/// Performs and records the actions of an engine.
struct Record {
  struct Verdict {
    std::uint32_t id;
    bool drop;
    std::uint32_t priority;
    bool operator==(const Verdict&) const = default;
  };

  /// `id` is that of the current packet; 0: none.
  Answer perform(const Actions& actions, std::uint32_t id) {
    Answer answer;
    answer.awaits = actions.is_awaited();
    awaited = actions.question();
    // on_change may let the engine go on meanwhile.
    std::vector<std::pair<Action, Packet>> all;
    for (const Action& action : actions.all()) {
      const auto* control = std::get_if<ControlDatagram>(&action);
      all.emplace_back(action,
                       control == nullptr ? Packet{} : datagram(control->ends, control->data));
    }
    for (const auto& [action, packet] : all) {
      if (const auto* verdict = std::get_if<PacketVerdict>(&action)) {
        settle(*verdict, id, answer);
      } else if (const auto* control = std::get_if<ControlDatagram>(&action)) {
        sent.push_back(packet);
        numbers.push_back(control->priority);
        order.emplace_back("send");
      } else if (const auto* change = std::get_if<EntryChange>(&action)) {
        if (on_change) {
          on_change(change->change);
        }
        changes.emplace_back(change->ends, change->change);
        sent_before_changes.push_back(sent.size());
      } else {
        segments++;
      }
    }
    return answer;
  }
  [[nodiscard]] TcpSocket socket(const Question& /*question*/) const { return {}; }
  [[nodiscard]] Translation translation(const Question& question) const {
    return translate ? translate(question.ends) : Translation{question.ends, question.ends};
  }
  /// Performs the remaining actions for the current packet.
  void go_on(Engine& engine) {
    const bool is_asked = awaited.about != Question::About::nothing;
    perform(engine.go_on(is_asked ? std::optional(translation(awaited)) : std::nullopt), 0);
  }

  [[nodiscard]] Packet take() {
    EXPECT_FALSE(sent.empty());
    if (sent.empty()) {
      return {};
    }
    Packet first = sent.front();
    sent.pop_front();
    return first;
  }

  std::deque<Packet> sent;
  std::vector<std::uint32_t> numbers;
  std::vector<Verdict> verdicts;
  std::vector<std::pair<wire::Ends, FlowChange>> changes;
  std::function<void(FlowChange)> on_change;
  std::vector<std::size_t> sent_before_changes;  // size of `sent` at each change
  std::vector<std::string> order;
  bool followed = false;
  std::function<Translation(const wire::Ends&)> translate;  // by NAT of this host
  std::size_t segments = 0;                                 // of TCP
  Question awaited;

 private:
  void settle(const PacketVerdict& verdict, std::uint32_t id, Answer& answer) {
    const std::uint32_t priority =
        followed && verdict.if_followed != 0 ? verdict.if_followed : verdict.priority;
    if (verdict.id != id) {
      verdicts.push_back({verdict.id, verdict.drop, priority});
      if (!verdict.drop) {
        order.emplace_back("release");
      }
      return;
    }
    EXPECT_TRUE(answer.hold) << "one verdict";
    answer.hold = false;
    answer.drop = verdict.drop;
    answer.priority = priority;
    if (verdict.changed != nullptr) {
      answer.changed.emplace(verdict.changed->view().begin(), verdict.changed->view().end());
    }
  }
};

/// One side of UDP flows.
struct Host : End {
  explicit Host(std::shared_ptr<const credentials::Trust> trust, const std::string& labels,
                std::size_t capacity = 64)
      : End(std::move(trust), labels, "10.0.0.0/8", capacity) {}

  Answer give(const Packet& packet, bool outgoing, std::uint32_t flags = 0,
              policy::Number number = kNumber) {
    return give(packet, packet.size(), outgoing, number | flags);
  }
  /// A packet of `length` bytes, of which the queue has copied the first ones.
  Answer give(const Packet& packet, std::size_t length, bool outgoing, std::uint32_t priority) {
    const PacketFacts facts{.point = 0,
                            .outgoing = outgoing,
                            .priority = priority | (port.translate ? abi::kAnyNat : 0),
                            .mark = 5,
                            .out_device = 3,
                            .in_device = outgoing ? 0U : 4U,
                            .id = ++last_id};
    return port.perform(handled(*engine, facts, packet, length, now, port), last_id);
  }
  Answer leave(const Packet& packet, std::uint32_t flags = 0) { return give(packet, true, flags); }
  Answer arrive(const Packet& packet, std::uint32_t flags = 0) {
    return give(packet, false, flags);
  }
  /// Delivers HELLO and returns the message that answers it.
  std::optional<Packet> take_hello(const Packet& hello, std::uint32_t flags = 0) {
    const Answer answer = arrive(hello, flags);
    if (!answer.awaits) {
      return std::nullopt;
    }
    const Packet sink = answer.changed.value_or(datagram({}, ""));
    EXPECT_EQ(parsed(sink).payload_size(), 0U) << "no socket receives HELLO";
    EXPECT_EQ(parsed(sink).ends().destination_port, 0);
    port.go_on(*engine);
    Packet reply = port.sent.back();
    port.sent.pop_back();
    return reply;
  }
  void pass(int milliseconds) {
    now.monotonic += std::chrono::milliseconds(milliseconds);
    now.wall += std::chrono::milliseconds(milliseconds);
    do {
      port.perform(engine->tick(now), 0);
    } while (engine->next_tick() && *engine->next_tick() <= now.monotonic);
  }

  Record port;
  std::uint32_t last_id = 0;
};

inline std::uint32_t ruling(abi::Ruling of, policy::Number number = 0) {
  return static_cast<std::uint32_t>(of) | number;
}

class DatagramTest : public testing::Test {
 protected:
  Host client{psk_trust("a", kSecret), "app=web"};
  Host server{psk_trust("b", kSecret), "app=web"};
  wire::Ends ends{address("10.0.0.1"), address("10.0.0.2"), 40'000, 53};
  wire::Ends back{ends.destination, ends.source, ends.destination_port, ends.source_port};

  Packet data(const std::string& text = "query") { return datagram(ends, text); }
  Packet answer_data() { return datagram(back, "answer"); }
  /// Sends the first datagram, which is held, and returns HELLO.
  Packet hello() {
    EXPECT_TRUE(client.leave(data(), abi::kFresh).hold);
    return client.port.take();
  }
  /// A whole handshake.
  void authorize() {
    const auto reply = server.take_hello(hello(), abi::kFresh);
    ASSERT_TRUE(reply);
    EXPECT_TRUE(client.arrive(*reply, abi::kReplies).drop);
    EXPECT_TRUE(server.arrive(client.port.take()).drop);
    EXPECT_TRUE(client.arrive(server.port.take(), abi::kReplies).drop);
  }
  void pass(int milliseconds) {
    client.pass(milliseconds);
    server.pass(milliseconds);
  }
};

}  // namespace trireme::handshake
