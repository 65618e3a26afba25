// SPDX-License-Identifier: Apache-2.0
// Two hosts and an attacker between them who repeats, changes, mixes and forges packets of both
// carriers: no crash, exactly one verdict for each packet, no action before a question is answered,
// and no flow authorized as proved unless its own client began it. The input is a list of events of
// a few bytes each.
#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "fuzz_support.hpp"
#include "trireme/credentials/trust.hpp"
#include "trireme/handshake/engine.hpp"
#include "trireme/handshake/proved_flows.hpp"
#include "trireme/wire/control.hpp"
#include "trireme/wire/datagram.hpp"

namespace {

using namespace trireme;
using namespace trireme::handshake;
using Packet = std::vector<std::uint8_t>;

constexpr policy::Number kWorkload = 77;
constexpr policy::Number kFirstPeer = 1000;
constexpr std::size_t kMostPackets = 128;  // that the attacker remembers

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : left_(data, size) {}
  [[nodiscard]] bool empty() const { return left_.empty(); }
  std::uint8_t take() {
    if (left_.empty()) {
      return 0;
    }
    const std::uint8_t first = left_.front();
    left_ = left_.subspan(1);
    return first;
  }
  Packet take(std::size_t size) {
    const auto taken = left_.first(std::min(size, left_.size()));
    left_ = left_.subspan(taken.size());
    return {taken.begin(), taken.end()};
  }

 private:
  std::span<const std::uint8_t> left_;
};

std::shared_ptr<const credentials::Trust> trust_of(const std::string& host) {
  credentials::TrustMaterial material;
  material.host_name = host;
  material.psk = {"psk", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n"};
  auto trust = credentials::Trust::load(material, nullptr, std::chrono::system_clock::now());
  fuzz::require(trust.has_value(), "the secret is valid");
  return *trust;
}

std::shared_ptr<const LocalIdentity> workload(const std::string& app) {
  policy::LabelSet labels;
  fuzz::require(labels.set("app", app).has_value(), "the label is valid");
  return std::make_shared<const LocalIdentity>(kWorkload, labels);
}

class Book final : public IdentityBook {
 public:
  std::shared_ptr<const RemoteIdentity> enter(const RemoteIdentity& identity) override {
    auto& known = known_[identity.hash];
    if (known == nullptr) {
      RemoteIdentity numbered = identity;
      numbered.number = kFirstPeer + static_cast<policy::Number>(known_.size());
      known = std::make_shared<const RemoteIdentity>(std::move(numbered));
    }
    return known;
  }
  [[nodiscard]] std::shared_ptr<const RemoteIdentity> find(policy::Number number) const override {
    for (const auto& [hash, identity] : known_) {
      if (identity->number == number) {
        return identity;
      }
    }
    return nullptr;
  }

 private:
  std::map<credentials::Digest, std::shared_ptr<const RemoteIdentity>> known_;
};

/// A TCP segment without checksums, which the engine does not check.
Packet segment(const wire::Ends& ends, std::uint8_t flags, std::uint32_t sequence,
               std::uint32_t acknowledgement) {
  Packet packet = {0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0, 0};
  packet.insert(packet.end(), ends.source.bytes.begin(), ends.source.bytes.begin() + 4);
  packet.insert(packet.end(), ends.destination.bytes.begin(), ends.destination.bytes.begin() + 4);
  const auto put = [&](std::uint32_t value, unsigned size) {
    for (unsigned i = size; i-- > 0;) {
      packet.push_back(static_cast<std::uint8_t>(value >> 8U * i));
    }
  };
  put(ends.source_port, 2);
  put(ends.destination_port, 2);
  put(sequence, 4);
  put(acknowledgement, 4);
  put(0x60U, 1);
  put(flags, 1);
  put(64'240, 2);
  put(0, 4);           // checksum, urgent pointer
  put(0x020405b4, 4);  // MSS
  return packet;
}

Packet datagram(const wire::Ends& ends, std::span<const std::uint8_t> data) {
  wire::PacketBuffer out;
  wire::write_datagram(ends, 0, 0, data, out);
  return {out.view().begin(), out.view().end()};
}

wire::Ends back(const wire::Ends& ends) {
  return {ends.destination, ends.source, ends.destination_port, ends.source_port};
}

std::optional<wire::Ends> ends_of(const Packet& packet) {
  if (wire::is_datagram(packet, packet.size())) {
    const auto parsed = wire::Datagram::parse(packet, packet.size());
    return parsed ? std::optional(parsed->ends()) : std::nullopt;
  }
  const auto parsed = wire::Segment::parse(packet, packet.size());
  return parsed ? std::optional(parsed->ends()) : std::nullopt;
}

/// True if the packet has a token that an application would receive, or with which a host begins a
/// handshake: in a SYN, or in a datagram for a port.
bool has_token(const Packet& packet) {
  if (wire::is_datagram(packet, packet.size())) {
    const auto parsed = wire::Datagram::parse(packet, packet.size());
    return parsed && parsed->ends().destination_port != 0 && wire::is_control(parsed->payload());
  }
  const auto parsed = wire::Segment::parse(packet, packet.size());
  return parsed && (parsed->flags() & (wire::kSyn | wire::kAck)) == wire::kSyn &&
         wire::control_message(parsed->payload()) != 0;
}

struct Host {
  explicit Host(const std::string& name)
      : address(policy::Address::parse(name == "a" ? "10.0.0.1" : "10.0.0.2").value()),
        engine(Engine::create(32, book, proved).value()) {
    static const std::map<std::string, std::shared_ptr<const credentials::Trust>> trusts = {
        {"a", trust_of("a")}, {"b", trust_of("b")}};
    engine->set_policy(std::make_shared<const policy::Policy>());
    engine->set_trust(trusts.at(name));
    engine->set_peers({policy::Prefix::parse("10.0.0.0/8").value()});
    engine->add_local(workload("web"));
  }

  policy::Address address;
  Book book;
  Proved proved{1, 32};
  std::unique_ptr<Engine> engine;
  std::map<std::uint32_t, std::pair<Packet, bool>> waiting;  // packet, and true if outgoing
  std::set<wire::Ends> began;                                // flows that it began as the client
  std::uint32_t last = 0;
};

class World {
 public:
  void happens(Input& input);

 private:
  [[nodiscard]] static std::uint32_t flags(std::uint8_t of) {
    constexpr std::array<std::uint32_t, 8> kFlags = {
        abi::kFresh,   abi::kReplies, abi::kTakenOver,      abi::kRenew,
        abi::kDecided, abi::kAnyNat,  abi::kDestinationNat, 0};
    std::uint32_t all = 0;
    for (unsigned i = 0; i < kFlags.size(); i++) {
      all |= (of >> i & 1U) != 0 ? kFlags.at(i) : 0;
    }
    return all;
  }
  [[nodiscard]] Host& host(std::uint8_t of) { return *hosts_.at(of & 1U); }
  /// True if the host with the client's address has sent HELLO in the flow.
  [[nodiscard]] bool is_begun(const wire::Ends& ends) const {
    return std::ranges::any_of(hosts_, [&](const auto& each) {
      return each->address == ends.source && each->began.contains(ends);
    });
  }
  [[nodiscard]] Host& other(const Host& than) {
    return than.address == hosts_[0]->address ? *hosts_[1] : *hosts_[0];
  }
  /// One of a few flows between the two hosts, begun by `from`.
  [[nodiscard]] wire::Ends flow(Host& from, std::uint8_t of) {
    return {from.address, other(from).address, static_cast<std::uint16_t>(1'024 + (of >> 1U & 3U)),
            80};
  }
  void leave(Host& from, const Packet& packet, std::uint32_t priority) {
    give(from, packet, true, priority);
  }
  /// Delivers to the host that has the destination address, except packets with its own address as
  /// the source, which the kernel drops.
  void arrive(const Packet& packet, std::uint32_t priority) {
    const auto ends = ends_of(packet);
    for (const auto& each : hosts_) {
      if (!ends || (ends->destination == each->address && ends->source != each->address)) {
        give(*each, packet, false, priority);
      }
    }
  }
  void give(Host& to, const Packet& packet, bool outgoing, std::uint32_t priority);
  void perform(Host& at, const Actions& actions);
  void settle(Host& at, const PacketVerdict& verdict);
  void remember(const Packet& packet) {
    if (packets_.size() < kMostPackets) {
      packets_.push_back(packet);
    }
  }
  [[nodiscard]] Packet packet(std::uint8_t of) const {
    return packets_.empty() ? Packet{} : packets_.at(of % packets_.size());
  }

  std::array<std::unique_ptr<Host>, 2> hosts_ = {std::make_unique<Host>("a"),
                                                 std::make_unique<Host>("b")};
  std::vector<Packet> packets_;
  Now now_{std::chrono::milliseconds(1'000'000), std::chrono::system_clock::now()};
  TcpState socket_ = TcpState::open;
};

void World::give(Host& to, const Packet& packet, bool outgoing, std::uint32_t priority) {
  PacketFacts facts{.point = kHome,
                    .outgoing = outgoing,
                    .priority = priority,
                    .out_device = 3,
                    .in_device = 4,
                    .id = ++to.last};
  to.waiting[facts.id] = {packet, outgoing};
  const Actions* actions = &to.engine->handle(facts, packet, packet.size(), now_);
  for (int asked = 0; actions->asks() && !actions->is_awaited(); asked++) {
    fuzz::require(asked < 3 && actions->all().empty(),
                  "each question is asked once, before any action");
    const Question& question = actions->question();
    const Translation same{question.ends, question.ends};
    if (question.about == Question::About::socket) {
      facts.socket = TcpSocket{socket_, 1};
    } else {
      (question.about == Question::About::departure ? facts.departure : facts.translation) = same;
    }
    actions = &to.engine->handle(facts, packet, packet.size(), now_);
  }
  const bool is_awaited = actions->is_awaited();
  const Question question = actions->question();
  perform(to, *actions);
  if (is_awaited) {
    fuzz::require(!to.waiting.contains(facts.id),
                  "the packet has its verdict before the actions continue");
    const bool asks = question.about != Question::About::nothing;
    perform(to, to.engine->go_on(asks ? std::optional(Translation{question.ends, question.ends})
                                      : std::nullopt));
  }
}

void World::perform(Host& at, const Actions& actions) {
  const std::vector<Action> all(actions.all().begin(), actions.all().end());
  for (const Action& action : all) {
    if (const auto* verdict = std::get_if<PacketVerdict>(&action)) {
      settle(at, *verdict);
    } else if (const auto* control = std::get_if<ControlDatagram>(&action)) {
      remember(datagram(control->ends, control->data));
      if (static_cast<wire::Message>(wire::control_message(control->data)) ==
          wire::Message::hello) {
        at.began.insert(control->ends);
      }
    } else if (const auto* own = std::get_if<OwnSegment>(&action)) {
      wire::PacketBuffer out;
      if (!own->refusal.empty()) {
        wire::write_refusal(own->segment, own->refusal, out);
      } else if (own->proof) {
        wire::write_proof(own->segment, *own->proof, out);
      } else {
        wire::write_syn_ack(own->segment, out);
      }
      remember({out.view().begin(), out.view().end()});
    }
  }
}

void World::settle(Host& at, const PacketVerdict& verdict) {
  const auto found = at.waiting.extract(verdict.id);
  fuzz::require(!found.empty(), "a packet has exactly one verdict");
  auto [packet, leaves] = found.mapped();
  const auto ends = ends_of(packet);
  fuzz::require(verdict.drop || ends, "a packet that cannot be parsed is dropped");
  const auto ruling = static_cast<abi::Ruling>(verdict.priority & abi::kCodeMask);
  if (verdict.drop || ruling == abi::Ruling::refuse) {
    return;
  }
  if (ruling == abi::Ruling::authorize && (verdict.priority & abi::kNumberMask) >= kFirstPeer) {
    fuzz::require(is_begun(*ends) || is_begun(back(*ends)),
                  "a proved flow was begun by its own client");
  }
  fuzz::require(ruling != abi::Ruling::meet, "no rendezvous without a known request");
  if (verdict.changed != nullptr) {
    packet.assign(verdict.changed->view().begin(), verdict.changed->view().end());
  }
  if (!leaves) {
    fuzz::require(!has_token(packet), "no token reaches an application");
    return;
  }
  if (has_token(packet)) {
    at.began.insert(*ends_of(packet));
  }
  remember(packet);
}

void World::happens(Input& input) {
  const std::uint8_t what = input.take();
  const std::uint8_t which = input.take();
  Host& here = host(which);
  const wire::Ends ends = flow(here, which);
  constexpr std::array<std::uint8_t, 5> kData = {'q', 'u', 'e', 'r', 'y'};
  switch (what % 12) {
    case 0:
      return leave(here, segment(ends, wire::kSyn, 1'000, 0), kWorkload);
    case 1:
      return leave(other(here), segment(back(ends), wire::kSyn | wire::kAck, 5'000, 1'001),
                   kWorkload);
    case 2:
      return leave(here, segment(ends, wire::kAck, 1'001, 5'001), kWorkload | flags(input.take()));
    case 3:
      return leave(here, datagram(ends, kData), kWorkload | flags(input.take()));
    case 4:
      return leave(other(here), datagram(back(ends), kData), kWorkload | flags(input.take()));
    case 5:
      return arrive(packet(which), kWorkload | flags(input.take()));
    case 6: {
      Packet changed = packet(which);
      const std::size_t place = input.take() * std::size_t{256} + input.take();
      const std::size_t at = place % std::max<std::size_t>(changed.size(), 1);
      if (!changed.empty()) {
        changed[at] =
            static_cast<std::uint8_t>(changed[at] ^ std::max<std::uint8_t>(input.take(), 1));
      }
      return arrive(changed, kWorkload | flags(input.take()));
    }
    case 7: {
      Packet mixed = packet(which);
      const Packet end = packet(input.take());
      const std::size_t at = std::min<std::size_t>(input.take(), mixed.size());
      mixed.resize(at);
      if (end.size() > at) {
        mixed.insert(mixed.end(), end.begin() + static_cast<std::ptrdiff_t>(at), end.end());
      }
      return arrive(mixed, kWorkload | flags(input.take()));
    }
    case 8: {
      now_.monotonic += std::chrono::milliseconds(which * 20);
      now_.wall += std::chrono::milliseconds(which * 20);
      for (const auto& each : hosts_) {
        do {
          perform(*each, each->engine->tick(now_));
        } while (each->engine->next_tick() && *each->engine->next_tick() <= now_.monotonic);
      }
      return;
    }
    case 9:
      socket_ = static_cast<TcpState>(which % 4);
      return;
    case 10: {
      const std::uint8_t change = input.take();
      if (change % 4 == 0) {
        here.engine->remove_local(kWorkload);
      } else if (change % 4 == 1) {
        here.engine->add_local(workload("web"));
      } else {
        policy::Policy policy;
        policy.mode = change % 4 == 2 ? policy::Mode::enforce : policy::Mode::audit;
        here.engine->set_policy(std::make_shared<const policy::Policy>(policy));
      }
      return;
    }
    default:
      return arrive(input.take(which), kWorkload | flags(input.take()));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  World world;
  constexpr int kMost = 200;
  for (int i = 0; i < kMost && !input.empty(); i++) {
    world.happens(input);
  }
  return 0;
}
