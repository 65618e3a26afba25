// SPDX-License-Identifier: Apache-2.0
// A handshake between two hosts, one message at a time, over TCP or UDP, so that the same test
// cases run over both.
#pragma once

#include <algorithm>

#include "handshake_datagram_support.hpp"

namespace trireme::handshake {

enum class Over : std::uint8_t { tcp, udp };

/// The result for a packet that is sent or received in a flow.
struct Fate {
  bool is_kept_back = false;  // dropped or held
  abi::Ruling ruling = abi::Ruling::pass;
  policy::Number number = 0;

  [[nodiscard]] bool is_refused() const { return !is_kept_back && ruling == abi::Ruling::refuse; }
  [[nodiscard]] bool authorizes() const {
    return !is_kept_back && (ruling == abi::Ruling::authorize || ruling == abi::Ruling::audit ||
                             ruling == abi::Ruling::let);
  }
};

class Talk {
 public:
  Talk(Over over, Host& client, Host& server, std::uint16_t number = 0)
      : over_(over), client_(&client), server_(&server) {
    connection_.ends.source_port = static_cast<std::uint16_t>(1'024 + number);
  }

  /// Sends the client's request and returns HELLO as it is on the wire. Empty: it is refused at
  /// once.
  Packet ask() {
    if (over_ == Over::tcp) {
      const Outcome asked = client_->out(connection_.syn());
      return asked.passes() ? asked.packet : Packet{};
    }
    client_->leave(query(), abi::kFresh);
    return client_->port.sent.empty() ? Packet{} : client_->port.take();
  }
  /// Repeats the request.
  Packet ask_again() {
    if (over_ == Over::tcp) {
      return ask();
    }
    client_->pass(100);
    return client_->port.sent.empty() ? Packet{} : client_->port.take();
  }
  /// Delivers HELLO. True if the server's host continues the handshake.
  bool take_hello(const Packet& hello) {
    if (over_ == Over::tcp) {
      const Outcome received = server_->in(hello);
      EXPECT_TRUE(received.drop || segment(received.packet).payload_size() == 0)
          << "no token reaches an application";
      return received.passes();
    }
    reply_ = server_->take_hello(hello, abi::kFresh).value_or(Packet{});
    return !reply_.empty() && wire::control_message(parsed(reply_).payload()) ==
                                  static_cast<std::uint8_t>(wire::Message::reply);
  }
  /// The REPLY of the server's host. Empty: none.
  Packet reply() {
    if (over_ == Over::tcp) {
      const Outcome replied = server_->out(connection_.syn_ack());
      return replied.passes() ? replied.packet : Packet{};
    }
    return reply_;
  }
  /// Delivers REPLY and returns the result for the client's request. A reset counts as a refusal.
  Fate verify(const Packet& reply) {
    proof_.clear();
    if (over_ == Over::tcp) {
      const Outcome verified = client_->in(reply);
      proof_ = verified.proof.value_or(Packet{});
      Fate fate = fate_of(verified);
      if (!verified.drop && !verified.hold &&
          (segment(verified.packet).flags() & wire::kRst) != 0) {
        EXPECT_EQ(segment(verified.packet).acknowledgement(), 1001U) << "acceptable in SYN-SENT";
        fate.ruling = abi::Ruling::refuse;
      }
      return fate;
    }
    const std::size_t before = client_->port.verdicts.size();
    client_->port.sent.clear();  // repetitions of HELLO
    client_->arrive(reply, abi::kReplies);
    if (!client_->port.sent.empty()) {
      proof_ = client_->port.take();
    }
    return fate_of_waiting(*client_, before);
  }
  /// The PROOF of the client's host. Empty: none.
  [[nodiscard]] const Packet& proof() const { return proof_; }
  /// Delivers PROOF. True if the server's host authorizes the flow.
  bool prove(const Packet& proof) {
    if (over_ == Over::tcp) {
      return server_->in(proof).authorizes();
    }
    const std::size_t before = server_->port.sent.size();
    server_->arrive(proof);
    const bool is_ready = server_->port.sent.size() > before;
    if (is_ready) {
      client_->arrive(server_->port.sent.back(), abi::kReplies);
      server_->port.sent.pop_back();
    }
    return is_ready;
  }

  /// A handshake up to PROOF, which is not delivered to the server. True if it got that far.
  bool exchange() { return take_hello(ask()) && verify(reply()).authorizes() && !proof_.empty(); }
  /// True if the handshake ends with the flow authorized on both sides.
  bool connects() { return exchange() && prove(proof_); }
  /// The peer does not answer with a token.
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
               : fate_of(server_->leave(datagram(connection_.back(), "answer"), abi::kReplies));
  }
  Fate client_receives() {
    return over_ == Over::tcp
               ? fate_of(client_->in(connection_.answer()))
               : fate_of(client_->arrive(datagram(connection_.back(), "answer"), abi::kReplies));
  }
  /// Waits, because datagrams right after PROOF are still queued.
  void settle() {
    for (Host* host : {client_, server_}) {
      host->pass_time(std::chrono::milliseconds(10));
    }
  }

  /// A packet like REPLY, with other data.
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
  /// A packet of another flow between the same hosts, with the ports of this one. IPv4 only.
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
  /// The packet with one bit of its token flipped.
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
    return {answer.drop || answer.hold, static_cast<abi::Ruling>(answer.priority & abi::kCodeMask),
            answer.priority & abi::kNumberMask};
  }
  /// The result for the held datagram, if it has its verdict.
  static Fate fate_of_waiting(const Host& host, std::size_t before) {
    if (host.port.verdicts.size() == before) {
      return {.is_kept_back = true};
    }
    const Record::Verdict& verdict = host.port.verdicts.back();
    return {verdict.drop, static_cast<abi::Ruling>(verdict.priority & abi::kCodeMask),
            verdict.priority & abi::kNumberMask};
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
