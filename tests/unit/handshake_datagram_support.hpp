// Two hosts' engines and the UDP datagrams between them, with real cryptography.
#pragma once

#include <deque>

#include "handshake_support.hpp"
#include "trireme/wire/control.hpp"

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

/// What an engine has done beside its answers.
struct RecordingPort final : Port {
  struct Verdict {
    std::uint32_t id;
    bool drop;
    std::uint32_t priority;
    bool operator==(const Verdict&) const = default;
  };
  void send(const ControlDatagram& control) override {
    sent.push_back(datagram(control.ends, control.data));
    numbers.push_back(control.priority);
    order.push_back("send");
  }
  void send(PointId /*point*/, const OwnSegment& /*segment*/) override {}
  void release(PointId /*point*/, std::uint32_t id, std::uint32_t priority) override {
    verdicts.push_back({id, false, priority});
    order.push_back("release");
  }
  void drop(PointId /*point*/, std::uint32_t id) override { verdicts.push_back({id, true, 0}); }
  void change(PointId /*point*/, std::uint8_t /*protocol*/, const wire::Ends& ends,
              FlowChange change) override {
    if (on_change) {
      on_change(change);
    }
    changes.emplace_back(ends, change);
    sent_before_changes.push_back(sent.size());
  }
  [[nodiscard]] TcpSocket tcp_socket(PointId /*point*/, const wire::Ends& /*ends*/,
                                     std::uint32_t /*device*/) override {
    return {};
  }

  [[nodiscard]] Translation translation(PointId /*point*/, std::uint8_t /*protocol*/,
                                        const wire::Ends& ends, bool /*is_client*/,
                                        bool /*is_changed*/) override {
    return translate ? translate(ends) : Translation{ends, ends};
  }
  [[nodiscard]] bool is_followed(PointId /*point*/) const override { return followed; }

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
  std::vector<std::size_t> sent_before_changes;  // how many waited in `sent` at each
  std::vector<std::string> order;
  bool followed = false;
  std::function<Translation(const wire::Ends&)> translate;  // by NAT of this host
};

/// One end of UDP flows.
struct Host : End {
  explicit Host(std::shared_ptr<const credentials::Trust> trust, const std::string& labels,
                std::size_t capacity = 64)
      : End(std::move(trust), labels, "10.0.0.0/8", capacity) {
    engine->set_port(&port);
  }

  Answer give(const Packet& packet, bool outgoing, std::uint32_t flags = 0,
              policy::Number number = kNumber) {
    return engine->handle({.point = 0,
                           .outgoing = outgoing,
                           .priority = number | flags,
                           .mark = 5,
                           .out_device = 3,
                           .in_device = outgoing ? 0U : 4U,
                           .id = ++last_id},
                          packet, packet.size(), now);
  }
  Answer leave(const Packet& packet, std::uint32_t flags = 0) { return give(packet, true, flags); }
  Answer arrive(const Packet& packet, std::uint32_t flags = 0) {
    return give(packet, false, flags);
  }
  /// HELLO, and what is sent in answer to it.
  std::optional<Packet> hear_hello(const Packet& hello, std::uint32_t flags = 0) {
    const Answer answer = arrive(hello, flags);
    if (!answer.replies) {
      return std::nullopt;
    }
    EXPECT_TRUE(
        answer.changed != nullptr &&
        parsed({answer.changed->view().begin(), answer.changed->view().end()}).payload_size() == 0)
        << "HELLO is nobody's";
    EXPECT_EQ(parsed({answer.changed->view().begin(), answer.changed->view().end()})
                  .ends()
                  .destination_port,
              0);
    engine->send_reply();
    Packet reply = port.sent.back();
    port.sent.pop_back();
    return reply;
  }
  void pass(int milliseconds) {
    now.monotonic += std::chrono::milliseconds(milliseconds);
    now.wall += std::chrono::milliseconds(milliseconds);
    engine->tick(now);
  }

  RecordingPort port;
  std::uint32_t last_id = 0;
};

inline std::uint32_t ruling(Ruling of, policy::Number number = 0) {
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
  /// The first datagram is sent and held; HELLO.
  Packet hello() {
    EXPECT_TRUE(client.leave(data(), kFresh).hold);
    return client.port.take();
  }
  /// All of a handshake.
  void authorise() {
    const auto reply = server.hear_hello(hello(), kFresh);
    ASSERT_TRUE(reply);
    EXPECT_TRUE(client.arrive(*reply, kAnswers).drop);
    EXPECT_TRUE(server.arrive(client.port.take()).drop);
    EXPECT_TRUE(client.arrive(server.port.take(), kAnswers).drop);
  }
  void pass(int milliseconds) {
    client.pass(milliseconds);
    server.pass(milliseconds);
  }
};

}  // namespace trireme::handshake
