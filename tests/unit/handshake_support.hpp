// What the tests of the handshake room share: two hosts' engines, and TCP segments between them as their kernels would make them.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trireme/handshake/engine.hpp"

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

/// A segment to be made; options are raw bytes, padded to 4.
struct Draft {
  wire::Ends ends;
  std::uint8_t flags = wire::kSyn;
  std::uint32_t sequence = 0;
  std::uint32_t acknowledgement = 0;
  std::uint16_t window = 64'240;
  Packet options = {2, 4, 5, 180, 1, 3, 3, 7, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0};  // MSS 1460, scale 7, SACK, timestamps
  Packet data;

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
      ip.insert(ip.end(), end->bytes.begin(), end->bytes.begin() + static_cast<std::ptrdiff_t>(end->size()));
    }
    ip.insert(ip.end(), tcp.begin(), tcp.end());
    return ip;
  }
};

/// Numbers in the order in which identities come.
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
  [[nodiscard]] std::size_t size() const { return known_.size(); }

 private:
  policy::Number next_;
  std::map<std::pair<credentials::Digest, credentials::Digest>, std::shared_ptr<const RemoteIdentity>> known_;
};

/// What became of a packet, copied out of the engine.
struct Outcome {
  bool drop = false;
  Ruling ruling = Ruling::pass;
  policy::Number number = 0;
  Packet packet;  // as it goes on
  std::optional<Packet> proof;

  [[nodiscard]] bool passes() const { return !drop && ruling != Ruling::refuse; }
  [[nodiscard]] bool authorises() const { return !drop && (ruling == Ruling::authorise || ruling == Ruling::audit); }
};

/// One end: an engine and its workload.
struct End {
  static constexpr policy::Number kNumber = 77;

  explicit End(std::shared_ptr<const credentials::Trust> trust, const std::string& labels, const std::string& peers = "10.0.0.0/8",
               std::size_t capacity = 64)
      : book(1000), engine(Engine::create(capacity, book).value()) {
    set_policy({});
    engine->set_trust(std::move(trust));
    engine->set_peers({policy::Prefix::parse(peers).value(), policy::Prefix::parse("fd00::/16").value()});
    engine->add_local(std::make_shared<const LocalIdentity>(kNumber, label_set(labels)));
    engine->on_event = [this](Event&& event) { events.push_back(std::move(event)); };
  }

  void set_policy(policy::Policy policy) { engine->set_policy(std::make_shared<const policy::Policy>(std::move(policy))); }

  Outcome handle(const Packet& packet, bool outgoing, std::uint32_t priority = kNumber) {
    const Answer answer =
        engine->handle({.point = 0, .outgoing = outgoing, .priority = priority, .mark = 5, .out_device = 3}, packet, packet.size(), now);
    Outcome outcome;
    outcome.drop = answer.drop;
    outcome.ruling = static_cast<Ruling>(answer.priority & kRulingMask);
    outcome.number = answer.priority & kNumberMask;
    outcome.packet = packet;
    if (answer.changed != nullptr) {
      outcome.packet.assign(answer.changed->view().begin(), answer.changed->view().end());
    }
    if (answer.proof != nullptr) {
      wire::PacketBuffer proof;
      wire::write_proof(*answer.proof, answer.tag, proof);
      outcome.proof.emplace(proof.view().begin(), proof.view().end());
    }
    return outcome;
  }
  Outcome out(const Packet& packet, std::uint32_t priority = kNumber) { return handle(packet, true, priority); }
  Outcome in(const Packet& packet, std::uint32_t priority = kNumber) { return handle(packet, false, priority); }

  [[nodiscard]] std::uint64_t refused(Reason reason) const { return engine->statistics().refused.at(static_cast<std::size_t>(reason)); }

  Book book;
  std::unique_ptr<Engine> engine;
  std::vector<Event> events;
  Now now{std::chrono::milliseconds(1'000'000), std::chrono::system_clock::now()};
};

inline wire::Segment segment(const Packet& packet) {
  return wire::Segment::parse(packet, packet.size()).value();
}

/// One connection from A to B.
struct Connection {
  wire::Ends ends{address("10.0.0.1"), address("10.0.0.2"), 40'000, 80};

  [[nodiscard]] wire::Ends back() const { return {ends.destination, ends.source, ends.destination_port, ends.source_port}; }
  [[nodiscard]] Packet syn(std::uint32_t sequence = 1000) const { return Draft{.ends = ends, .sequence = sequence, .data = {}}.bytes(); }
  [[nodiscard]] Packet syn_ack() const {
    return Draft{.ends = back(), .flags = wire::kSyn | wire::kAck, .sequence = 5000, .acknowledgement = 1001, .data = {}}.bytes();
  }
  [[nodiscard]] Packet data() const {
    return Draft{.ends = ends, .flags = wire::kAck | wire::kPsh, .sequence = 1001, .acknowledgement = 5001, .options = {}, .data = {'G'}}
        .bytes();
  }
};

inline std::shared_ptr<const credentials::Trust> psk_trust(const std::string& host, const std::string& secret) {
  credentials::TrustMaterial material;
  material.host_name = host;
  material.psk = {"psk", secret};
  auto trust = credentials::Trust::load(material, nullptr, std::chrono::system_clock::now());
  EXPECT_TRUE(trust) << (trust ? "" : trust.error().front().text());
  return *trust;
}

inline constexpr const char* kSecret = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n";

}  // namespace trireme::handshake
