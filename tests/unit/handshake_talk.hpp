// SPDX-License-Identifier: Apache-2.0
// A handshake between two hosts, a message at a time, over either carrier: what holds for the
// protocol is tested for both from one table of cases.
#pragma once

#include <algorithm>

#include "handshake_datagram_support.hpp"

namespace trireme::handshake {

enum class Over : std::uint8_t { tcp, udp };

/// What becomes of what is sent, or comes, in a flow.
struct Fate {
  bool is_kept_back = false;  // it is dropped, or waits
  Ruling ruling = Ruling::pass;
  policy::Number number = 0;

  [[nodiscard]] bool is_refused() const { return !is_kept_back && ruling == Ruling::refuse; }
  [[nodiscard]] bool authorises() const {
    return !is_kept_back &&
           (ruling == Ruling::authorise || ruling == Ruling::audit || ruling == Ruling::let);
  }
};

class Talk {
 public:
  Talk(Over over, Host& client, Host& server, std::uint16_t number = 0)
      : over_(over), client_(&client), server_(&server) {
    connection_.ends.source_port = static_cast<std::uint16_t>(1'024 + number);
  }

  /// The client's request leaves: HELLO as it is on the wire. Empty: it is refused at once.
  Packet ask() {
    if (over_ == Over::tcp) {
      const Outcome asked = client_->out(connection_.syn());
      return asked.passes() ? asked.packet : Packet{};
    }
    client_->leave(query(), kFresh);
    return client_->port.sent.empty() ? Packet{} : client_->port.take();
  }
  /// It is repeated.
  Packet ask_again() {
    if (over_ == Over::tcp) {
      return ask();
    }
    client_->pass(100);
    return client_->port.sent.empty() ? Packet{} : client_->port.take();
  }
  /// HELLO comes: whether the server's host goes on.
  bool hear(const Packet& hello) {
    if (over_ == Over::tcp) {
      const Outcome heard = server_->in(hello);
      EXPECT_TRUE(heard.drop || segment(heard.packet).payload_size() == 0)
          << "no token reaches an application";
      return heard.passes();
    }
    reply_ = server_->hear_hello(hello, kFresh).value_or(Packet{});
    return !reply_.empty() && wire::control_message(parsed(reply_).payload()) ==
                                  static_cast<std::uint8_t>(wire::Message::reply);
  }
  /// What it answers. Empty: nothing.
  Packet reply() {
    if (over_ == Over::tcp) {
      const Outcome replied = server_->out(connection_.syn_ack());
      return replied.passes() ? replied.packet : Packet{};
    }
    return reply_;
  }
  /// REPLY comes: what becomes of the client's request. A reset of it counts as a refusal.
  Fate verify(const Packet& reply) {
    proof_.clear();
    if (over_ == Over::tcp) {
      const Outcome verified = client_->in(reply);
      proof_ = verified.proof.value_or(Packet{});
      Fate fate = fate_of(verified);
      if (!verified.drop && !verified.hold &&
          (segment(verified.packet).flags() & wire::kRst) != 0) {
        EXPECT_EQ(segment(verified.packet).acknowledgement(), 1001U) << "acceptable in SYN-SENT";
        fate.ruling = Ruling::refuse;
      }
      return fate;
    }
    const std::size_t before = client_->port.verdicts.size();
    client_->port.sent.clear();  // of HELLO's repetitions
    client_->arrive(reply, kAnswers);
    if (!client_->port.sent.empty()) {
      proof_ = client_->port.take();
    }
    return fate_of_waiting(*client_, before);
  }
  /// What the client's host has answered to that. Empty: nothing.
  [[nodiscard]] const Packet& proof() const { return proof_; }
  /// PROOF comes: whether the server's host authorises the flow.
  bool prove(const Packet& proof) {
    if (over_ == Over::tcp) {
      return server_->in(proof).authorises();
    }
    const std::size_t before = server_->port.sent.size();
    server_->arrive(proof);
    const bool is_ready = server_->port.sent.size() > before;
    if (is_ready) {
      client_->arrive(server_->port.sent.back(), kAnswers);
      server_->port.sent.pop_back();
    }
    return is_ready;
  }

  /// Up to PROOF, which the server has yet to see; whether it came so far.
  bool exchange() { return hear(ask()) && verify(reply()).authorises() && !proof_.empty(); }
  /// Whether it ends with both ends authorised.
  bool connects() { return exchange() && prove(proof_); }
  /// Nobody answers with a token.
  Fate silence() {
    if (over_ == Over::tcp) {
      Fate fate = verify(connection_.syn_ack());
      EXPECT_TRUE(proof_.empty());
      return fate;
    }
    const std::size_t before = client_->port.verdicts.size();
    for (int waited = 0; waited < 4'000 && client_->port.verdicts.size() == before; waited += 50) {
      client_->pass(50);
    }
    client_->port.sent.clear();
    return fate_of_waiting(*client_, before);
  }

  // Applications' data.
  Fate client_sends() {
    return over_ == Over::tcp ? fate_of(client_->out(connection_.data()))
                              : fate_of(client_->leave(query()));
  }
  Fate server_receives() {
    return over_ == Over::tcp ? fate_of(server_->in(connection_.data()))
                              : fate_of(server_->arrive(query()));
  }
  Fate server_answers() {
    return over_ == Over::tcp
               ? fate_of(server_->out(connection_.answer()))
               : fate_of(server_->leave(datagram(connection_.back(), "answer"), kAnswers));
  }
  Fate client_receives() {
    return over_ == Over::tcp
               ? fate_of(client_->in(connection_.answer()))
               : fate_of(client_->arrive(datagram(connection_.back(), "answer"), kAnswers));
  }
  /// Datagrams that come right behind PROOF go through the queue.
  void settle() {
    for (Host* host : {client_, server_}) {
      host->pass_time(std::chrono::milliseconds(10));
    }
  }

  /// What is REPLY but for its token.
  [[nodiscard]] Packet reply_with(std::span<const std::uint8_t> token) const {
    if (over_ == Over::udp) {
      return datagram(connection_.back(), token);
    }
    return Draft{.ends = connection_.back(),
                 .flags = wire::kSyn | wire::kAck,
                 .sequence = 5000,
                 .acknowledgement = 1001,
                 .data = Packet(token.begin(), token.end())}
        .bytes();
  }
  /// The packet of another flow between the same hosts with this one's ports. IPv4.
  [[nodiscard]] Packet moved(Packet packet, bool to_server) const {
    const std::size_t at = to_server ? 20 : 22;
    packet.at(at) = static_cast<std::uint8_t>(connection_.ends.source_port >> 8U);
    packet.at(at + 1) = static_cast<std::uint8_t>(connection_.ends.source_port);
    return packet;
  }
  /// The token of a message, within its packet.
  [[nodiscard]] std::span<const std::uint8_t> token(const Packet& packet) const {
    if (over_ == Over::udp) {
      auto payload = parsed(packet).payload();
      while (payload.size() > wire::kTagDatagram && payload.back() == 0) {  // HELLO's padding
        payload = payload.first(payload.size() - 1);
      }
      return payload;
    }
    const wire::Segment view = segment(packet);
    return view.proof() ? std::span<const std::uint8_t>(*view.proof()) : view.payload();
  }
  [[nodiscard]] std::size_t bits(const Packet& packet) const { return token(packet).size() * 8; }
  /// With one bit of its token another.
  [[nodiscard]] Packet flipped(const Packet& packet, std::size_t bit) const {
    const auto begin = static_cast<std::size_t>(token(packet).data() - packet.data());
    return handshake::flipped(packet, begin * 8 + bit);
  }
  /// Between IPv6 addresses.
  void use_ipv6() {
    connection_.ends.source = address("fd00::1");
    connection_.ends.destination = address("fd00::2");
  }

 private:
  [[nodiscard]] Packet query() const { return datagram(connection_.ends, "query"); }
  static Fate fate_of(const Outcome& outcome) {
    return {outcome.drop || outcome.hold, outcome.ruling, outcome.number};
  }
  static Fate fate_of(const Answer& answer) {
    return {answer.drop || answer.hold, static_cast<Ruling>(answer.priority & kRulingMask),
            answer.priority & kNumberMask};
  }
  /// Of the datagram that waited, if it has its verdict by now.
  static Fate fate_of_waiting(const Host& host, std::size_t before) {
    if (host.port.verdicts.size() == before) {
      return {.is_kept_back = true};
    }
    const Record::Verdict& verdict = host.port.verdicts.back();
    return {verdict.drop, static_cast<Ruling>(verdict.priority & kRulingMask),
            verdict.priority & kNumberMask};
  }

  Over over_;
  Host* client_;
  Host* server_;
  Connection connection_;
  Packet reply_;
  Packet proof_;
};

inline std::string name_of(Over over) {
  return over == Over::tcp ? "Tcp" : "Udp";
}
inline const auto kBothCarriers = testing::Values(Over::tcp, Over::udp);

}  // namespace trireme::handshake
