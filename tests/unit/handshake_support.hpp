// SPDX-License-Identifier: Apache-2.0
// Support for the tests of the handshake room: the engines of two hosts, and the TCP segments that
// their kernels would send.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/credentials/pki.hpp"
#include "trireme/handshake/engine.hpp"
#include "trireme/handshake/proved_flows.hpp"

namespace trireme::handshake {

using Packet = std::vector<std::uint8_t>;

inline policy::Address address(const std::string& text) {
  return policy::Address::parse(text).value();
}

inline policy::LabelSet label_set(const std::string& text) {  // "app=web,env=dev"
  policy::LabelSet set;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const auto label = policy::parse_label(text.substr(begin, end - begin)).value();
    EXPECT_TRUE(set.set(label.key, label.value));
    begin = end + 1;
  }
  return set;
}

/// Builds a segment. Options are raw bytes, padded to a multiple of 4.
struct Draft {
  wire::Ends ends;
  std::uint8_t flags = wire::kSyn;
  std::uint32_t sequence = 0;
  std::uint32_t acknowledgement = 0;
  std::uint16_t window = 64'240;
  Packet options = {2, 4,  5, 180, 1, 3, 3, 7, 4, 2,
                    8, 10, 0, 0,   0, 9, 0, 0, 0, 0};  // MSS 1460, scale 7, SACK, timestamps
  Packet data = {};

  [[nodiscard]] Packet bytes() const {
    Packet tcp;
    const auto put16 = [](Packet& out, std::uint32_t value) {
      out.push_back(static_cast<std::uint8_t>(value >> 8U));
      out.push_back(static_cast<std::uint8_t>(value));
    };
    const auto put32 = [&](Packet& out, std::uint32_t value) {
      put16(out, value >> 16U);
      put16(out, value & 0xffffU);
    };
    Packet padded = options;
    padded.resize((padded.size() + 3) / 4 * 4, 1);
    put16(tcp, ends.source_port);
    put16(tcp, ends.destination_port);
    put32(tcp, sequence);
    put32(tcp, acknowledgement);
    tcp.push_back(static_cast<std::uint8_t>((20 + padded.size()) / 4 << 4U));
    tcp.push_back(flags);
    put16(tcp, window);
    put32(tcp, 0);  // checksum, urgent pointer: incoming checksums are the kernel's business
    tcp.insert(tcp.end(), padded.begin(), padded.end());
    tcp.insert(tcp.end(), data.begin(), data.end());
    Packet ip;
    if (ends.source.family == policy::Address::Family::v4) {
      ip = {0x45, 0};
      put16(ip, static_cast<std::uint32_t>(20 + tcp.size()));
      put32(ip, 0x00004000);
      ip.insert(ip.end(), {64, 6, 0, 0});
    } else {
      ip = {0x60, 0, 0, 0};
      put16(ip, static_cast<std::uint32_t>(tcp.size()));
      ip.insert(ip.end(), {6, 64});
    }
    for (const policy::Address* end : {&ends.source, &ends.destination}) {
      ip.insert(ip.end(), end->bytes.begin(),
                end->bytes.begin() + static_cast<std::ptrdiff_t>(end->size()));
    }
    ip.insert(ip.end(), tcp.begin(), tcp.end());
    return ip;
  }
};

/// A copy with one bit flipped.
inline Packet flipped(Packet packet, std::size_t bit) {
  packet.at(bit / 8) = static_cast<std::uint8_t>(packet.at(bit / 8) ^ 1U << bit % 8);
  return packet;
}

/// `few` cases in every run, `many` with TRIREME_LONG=1.
inline int cases(int few, int many) {
  const char* longer = std::getenv("TRIREME_LONG");
  return longer != nullptr && std::string_view(longer) == "1" ? many : few;
}

/// Assigns numbers in the order in which identities are entered.
class Book final : public IdentityBook {
 public:
  explicit Book(policy::Number first) : next_(first) {}
  std::shared_ptr<const RemoteIdentity> enter(const RemoteIdentity& identity) override {
    auto& known = known_[{identity.peer->hash, identity.hash}];
    if (known == nullptr) {
      RemoteIdentity numbered = identity;
      numbered.number = next_++;
      known = std::make_shared<const RemoteIdentity>(std::move(numbered));
    }
    return known;
  }
  [[nodiscard]] std::shared_ptr<const RemoteIdentity> find(policy::Number number) const override {
    for (const auto& [key, identity] : known_) {
      if (identity->number == number) {
        return identity;
      }
    }
    return nullptr;
  }
  void forget() { known_.clear(); }
  [[nodiscard]] std::size_t size() const { return known_.size(); }

 private:
  policy::Number next_;
  std::map<std::pair<credentials::Digest, credentials::Digest>,
           std::shared_ptr<const RemoteIdentity>>
      known_;
};

/// The result for one packet, copied out of the engine.
struct Outcome {
  bool drop = false;
  abi::Ruling ruling = abi::Ruling::pass;
  policy::Number number = 0;
  Packet packet;  // as it goes on
  std::optional<Packet> proof;
  bool hold = false;
  std::optional<Packet> syn_ack;  // sent by the verifier itself, before REPLY is added
  std::vector<Packet> behind;     // packets that were held until now

  [[nodiscard]] bool passes() const { return !drop && !hold && ruling != abi::Ruling::refuse; }
  [[nodiscard]] bool authorizes() const {
    return !drop && !hold && (ruling == abi::Ruling::authorize || ruling == abi::Ruling::audit);
  }
};

/// The actions of an engine for a packet. `answer` answers its questions.
template <typename Answer>
const Actions& handled(Engine& engine, PacketFacts facts, std::span<const std::uint8_t> bytes,
                       std::size_t length, const Now& now, const Answer& answer) {
  const Actions* actions = &engine.handle(facts, bytes, length, now);
  while (actions->asks() && !actions->is_awaited()) {
    EXPECT_TRUE(actions->all().empty()) << "nothing is done before everything is known";
    const Question question = actions->question();
    switch (question.about) {
      case Question::About::socket:
        facts.socket = answer.socket(question);
        break;
      case Question::About::translation:
        facts.translation = answer.translation(question);
        break;
      case Question::About::departure:
        facts.departure = answer.translation(question);
        break;
      case Question::About::nothing:
        break;
    }
    actions = &engine.handle(facts, bytes, length, now);
  }
  return *actions;
}

/// One side: an engine and its workload.
struct End {
  static constexpr policy::Number kNumber = 77;

  explicit End(std::shared_ptr<const credentials::Trust> trust, const std::string& labels,
               const std::string& peers = "10.0.0.0/8", std::size_t capacity = 64)
      : book(1000), engine(Engine::create(capacity, book, *proved).value()) {
    set_policy({});
    engine->set_trust(std::move(trust));
    engine->set_peers(
        {policy::Prefix::parse(peers).value(), policy::Prefix::parse("fd00::/16").value()});
    engine->add_local(std::make_shared<const LocalIdentity>(kNumber, label_set(labels)));
    engine->on_event = [this](Event&& event) { events.push_back(std::move(event)); };
  }

  void set_policy(policy::Policy policy) {
    engine->set_policy(std::make_shared<const policy::Policy>(std::move(policy)));
  }

  Outcome handle(const Packet& packet, bool outgoing, std::uint32_t priority = kNumber) {
    const PacketFacts facts{.point = 0,
                            .outgoing = outgoing,
                            .priority = priority | (translate ? abi::kAnyNat : 0),
                            .mark = 5,
                            .out_device = 3,
                            .id = ++last_id};
    Outcome outcome;
    outcome.hold = true;
    outcome.packet = packet;
    for (const Action& action : handled(*engine, facts, packet, packet.size(), now, *this).all()) {
      if (const auto* verdict = std::get_if<PacketVerdict>(&action)) {
        settle(*verdict, outcome);
      } else if (const auto* own = std::get_if<OwnSegment>(&action)) {
        (own->proof ? outcome.proof : outcome.syn_ack) = written(*own);
      } else {
        note(action);
      }
    }
    if (outcome.hold) {
      held[last_id] = packet;
    }
    return outcome;
  }
  /// Performs the actions that are due.
  void tick() {
    do {
      for (const Action& action : engine->tick(now).all()) {
        if (const auto* verdict = std::get_if<PacketVerdict>(&action)) {
          EXPECT_TRUE(verdict->drop && held.erase(verdict->id) == 1);
        } else if (const auto* own = std::get_if<OwnSegment>(&action)) {
          asked.push_back(written(*own));
        } else {
          note(action);
        }
      }
    } while (engine->next_tick() && *engine->next_tick() <= now.monotonic);
  }
  Outcome out(const Packet& packet, std::uint32_t priority = kNumber) {
    return handle(packet, true, priority);
  }
  Outcome in(const Packet& packet, std::uint32_t priority = kNumber) {
    return handle(packet, false, priority);
  }

  [[nodiscard]] std::uint64_t refused(Reason reason) const {
    return engine->statistics().refused.at(static_cast<std::size_t>(reason));
  }
  /// "policy 3 busy 1": for messages.
  [[nodiscard]] std::string tally() const {
    std::string list;
    for (std::size_t reason = 0; reason < kReasons; reason++) {
      if (const std::uint64_t count = engine->statistics().refused.at(reason); count > 0) {
        list += std::string(" ") + text(static_cast<Reason>(reason)) + " " + std::to_string(count);
      }
    }
    return list;
  }
  [[nodiscard]] Reason last() const { return events.empty() ? Reason::none : events.back().reason; }
  void pass_time(std::chrono::milliseconds time) {
    now.monotonic += time;
    now.wall += time;
  }

  std::map<std::uint32_t, Packet> held;  // packets that wait in the queue
  std::uint32_t last_id = 0;
  Book book;
  std::unique_ptr<Proved> proved = std::make_unique<Proved>(1, 64);
  std::unique_ptr<Engine> engine;
  std::vector<Event> events;
  Now now{std::chrono::milliseconds(1'000'000), std::chrono::system_clock::now()};

  std::vector<Packet> asked;              // SYN-ACKs with which it requests PROOF again
  bool connected = true;                  // its TCP has the connection
  TcpState unconnected = TcpState::none;  // its state if not connected
  std::uint64_t cookie = 1;               // of its socket
  std::function<Translation(const wire::Ends&)> translate;  // by NAT of its host
  std::vector<std::pair<wire::Ends, FlowChange>> changes;   // of conntrack's entries

 private:
  static Packet written(const OwnSegment& own) {
    wire::PacketBuffer buffer;
    if (!own.refusal.empty()) {
      wire::write_refusal(own.segment, own.refusal, buffer);
    } else if (own.proof) {
      wire::write_proof(own.segment, *own.proof, buffer);
    } else {
      wire::write_syn_ack(own.segment, buffer);
    }
    return {buffer.view().begin(), buffer.view().end()};
  }
  void settle(const PacketVerdict& verdict, Outcome& outcome) {
    if (verdict.id != last_id) {
      const auto waited = held.extract(verdict.id);
      ASSERT_FALSE(waited.empty()) << "it has its verdict already";
      if (!verdict.drop) {
        EXPECT_FALSE(outcome.hold) << "it would overtake the packet at hand";
        EXPECT_EQ(verdict.priority & abi::kCodeMask, static_cast<std::uint32_t>(outcome.ruling));
        outcome.behind.push_back(waited.mapped());
      }
      return;
    }
    EXPECT_TRUE(outcome.hold) << "one verdict";
    outcome.hold = false;
    outcome.drop = verdict.drop;
    outcome.ruling = static_cast<abi::Ruling>(verdict.priority & abi::kCodeMask);
    outcome.number = verdict.priority & abi::kNumberMask;
    if (verdict.changed != nullptr) {
      outcome.packet.assign(verdict.changed->view().begin(), verdict.changed->view().end());
    }
  }
  void note(const Action& action) {
    if (const auto* change = std::get_if<EntryChange>(&action)) {
      EXPECT_EQ(change->protocol, 6);
      changes.emplace_back(change->ends, change->change);
    }
  }

 public:
  [[nodiscard]] TcpSocket socket(const Question& /*question*/) const {
    return {connected ? TcpState::open : unconnected, cookie};
  }
  [[nodiscard]] Translation translation(const Question& question) const {
    return translate ? translate(question.ends) : Translation{question.ends, question.ends};
  }
};

inline wire::Segment segment(const Packet& packet) {
  return wire::Segment::parse(packet, packet.size()).value();
}

/// One connection from A to B.
struct Connection {
  wire::Ends ends{address("10.0.0.1"), address("10.0.0.2"), 40'000, 80};

  [[nodiscard]] wire::Ends back() const {
    return {ends.destination, ends.source, ends.destination_port, ends.source_port};
  }
  [[nodiscard]] Packet syn(std::uint32_t sequence = 1000) const {
    return Draft{.ends = ends, .sequence = sequence}.bytes();
  }
  [[nodiscard]] Packet syn_ack(std::uint32_t of_syn = 1000) const {
    return Draft{.ends = back(),
                 .flags = wire::kSyn | wire::kAck,
                 .sequence = 5000,
                 .acknowledgement = of_syn + 1}
        .bytes();
  }
  [[nodiscard]] Packet data() const {
    return Draft{.ends = ends,
                 .flags = wire::kAck | wire::kPsh,
                 .sequence = 1001,
                 .acknowledgement = 5001,
                 .options = {},
                 .data = {'G'}}
        .bytes();
  }
  [[nodiscard]] Packet answer() const {
    return Draft{.ends = back(),
                 .flags = wire::kAck | wire::kPsh,
                 .sequence = 5001,
                 .acknowledgement = 1002,
                 .options = {},
                 .data = {'O', 'K'}}
        .bytes();
  }
  [[nodiscard]] Packet reset() const {
    return Draft{.ends = ends, .flags = wire::kRst, .sequence = 1001, .options = {}}.bytes();
  }

  /// The n-th connection between the same hosts.
  [[nodiscard]] static Connection number(std::uint16_t n) {
    Connection connection;
    connection.ends.source_port = static_cast<std::uint16_t>(1'024 + n);
    return connection;
  }
};

/// True if no part of a segment reaches the application.
inline bool is_kept_back(const Outcome& outcome) {
  return outcome.drop || outcome.hold;
}

/// The messages on one connection as they were on the wire. Empty if the handshake did not get that
/// far.
struct Exchange {
  Packet hello;
  Packet reply;
  Packet proof;
  Outcome received;  // HELLO, on the server's side
  Outcome verified;  // REPLY, on the client's side
};

/// A handshake up to PROOF, which is not delivered to the server.
inline Exchange exchange(End& client, End& server, const Connection& connection) {
  Exchange said;
  const Outcome asked = client.out(connection.syn());
  if (!asked.passes()) {
    return said;
  }
  said.hello = asked.packet;
  said.received = server.in(said.hello);
  if (!said.received.passes()) {
    return said;
  }
  const Outcome replied = server.out(connection.syn_ack());
  if (!replied.passes()) {
    return said;
  }
  said.reply = replied.packet;
  said.verified = client.in(said.reply);
  said.proof = said.verified.proof.value_or(Packet{});
  return said;
}

/// True if the handshake ends with the flow authorized on both sides.
inline bool connects(End& client, End& server, const Connection& connection) {
  const Exchange said = exchange(client, server, connection);
  return !said.proof.empty() && said.verified.authorizes() && server.in(said.proof).authorizes();
}

inline std::shared_ptr<const credentials::Trust> psk_trust(const std::string& host,
                                                           const std::string& secret) {
  credentials::TrustMaterial material;
  material.host_name = host;
  material.psk = {"psk", secret};
  auto trust = credentials::Trust::load(material, nullptr, std::chrono::system_clock::now());
  EXPECT_TRUE(trust) << (trust ? "" : trust.error().front().text());
  return *trust;
}

inline constexpr const char* kSecret = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n";
inline constexpr const char* kNextSecret = "OTg3NjU0MzIxMDk4NzY1NDMyMTA5ODc2NTQzMjEwOTg=\n";

/// A CA and the hosts with its certificates.
class Fleet {
 public:
  using Time = credentials::Time;

  explicit Fleet(const std::string& name = "fleet")
      : authority_(credentials::make_authority(name, start(), random_).value()) {}

  static Time start() { return std::chrono::system_clock::now() - std::chrono::hours(24 * 1000); }

  [[nodiscard]] credentials::Issued issue(const std::string& host,
                                          std::optional<std::string> labels = {},
                                          Time at = std::chrono::system_clock::now(),
                                          unsigned days = 365) {
    credentials::HostRequest request{.host = host, .labels = {}, .days = days};
    if (labels) {
      request.labels.emplace();
      request.labels->push_back(policy::parse_label_pattern(*labels).value());
    }
    auto issued =
        credentials::issue({.path = "ca.pem", .content = authority_.certificate},
                           {.path = "ca.key", .content = authority_.key}, request, at, random_);
    EXPECT_TRUE(issued) << (issued ? "" : issued.error().text());
    return std::move(*issued);
  }

  /// A host's [trust]. `others` are further CAs that it trusts.
  [[nodiscard]] std::shared_ptr<const credentials::Trust> trust(
      const credentials::Issued& host, const std::vector<std::string>& revoked = {},
      const std::vector<const Fleet*>& others = {},
      Time at = std::chrono::system_clock::now()) const {
    credentials::TrustMaterial material;
    material.host_name = "host";
    material.certificate = {"host.pem", host.certificate};
    material.key = {"host.key", host.key};
    material.authorities.push_back({"ca.pem", authority_.certificate});
    for (const Fleet* other : others) {
      material.authorities.push_back({"other.pem", other->authority_.certificate});
    }
    for (const std::string& certificate : revoked) {
      material.revoked.push_back({"revoked.pem", certificate});
    }
    auto trust = credentials::Trust::load(material, nullptr, at);
    EXPECT_TRUE(trust) << (trust ? "" : trust.error().front().text());
    return *trust;
  }
  [[nodiscard]] std::shared_ptr<const credentials::Trust> trust(const std::string& host) {
    return trust(issue(host));
  }

 private:
  credentials::Random random_ = credentials::Random::open().value();
  credentials::Issued authority_;
};

}  // namespace trireme::handshake
