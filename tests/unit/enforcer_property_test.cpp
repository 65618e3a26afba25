// SPDX-License-Identifier: Apache-2.0
// Compares the evaluator with the kernel: random policies over labels, entities and networks (by
// CIDR and by DNS name). Each case is a datagram that is delivered or not.
#include <algorithm>
#include <random>

#include "enforcer_support.hpp"

namespace trireme::enforcer {
namespace {

using policy::Address;
using policy::Endpoint;
using policy::Entity;

constexpr std::uint16_t kFirstPort = 4001;
constexpr std::size_t kPorts = 4;
const std::vector<std::string> kAddresses = {"127.1.0.1", "127.1.2.1", "127.1.2.2", "127.3.0.1",
                                             "127.3.0.2"};

class EnforcerProperty : public EnforcerTest {
 protected:
  /// A socket of a workload or of an unlabeled process, bound to one of kAddresses.
  struct Socket {
    Fd fd;
    std::size_t owner = 0;  // index into labels_; 0: an unlabeled process
    Address address;
    std::uint16_t port = 0;
  };

  std::size_t pick(std::size_t count) {
    return std::uniform_int_distribution<std::size_t>(0, count - 1)(random_);
  }
  bool chance(std::size_t percent) { return pick(100) < percent; }

  static sockaddr_in at(const Address& address, std::uint16_t port) {
    sockaddr_in result = loopback(port);
    std::memcpy(&result.sin_addr, address.bytes.data(), sizeof result.sin_addr);
    return result;
  }

  Socket bound(const std::string& path, std::size_t owner, const std::string& text,
               std::uint16_t port) {
    Socket made{socket_in(path, SOCK_DGRAM), owner, Address::parse(text).value(), port};
    const sockaddr_in place = at(made.address, port);
    EXPECT_EQ(::bind(made.fd.get(), reinterpret_cast<const sockaddr*>(&place), sizeof place), 0)
        << text << " " << port;
    return made;
  }

  void populate() {
    const std::vector<std::vector<std::pair<const char*, const char*>>> sets = {
        {},
        {{"app", "a"}},
        {{"app", "a"}},
        {{"app", "b"}, {"env", "x"}},
        {{"app", "b"}, {"env", "y"}},
        {{"env", "x"}}};
    for (std::size_t owner = 0; owner < sets.size(); owner++) {
      policy::LabelSet labels;
      for (const auto& [key, value] : sets[owner]) {
        ASSERT_TRUE(labels.set(key, value));
      }
      const std::string path = owner == 0 ? "" : make("w" + std::to_string(owner));
      numbers_of_.push_back(owner == 0 ? 0 : enrol(path, labels));
      labels_.push_back(std::move(labels));
      for (std::size_t i = 0; i < kAddresses.size(); i++) {
        // Each owner has its own ports, so that each can bind to each address.
        sources_.push_back(
            bound(path, owner, kAddresses[i], static_cast<std::uint16_t>(5000 + owner)));
        for (std::size_t port = 0; port < kPorts; port++) {
          if ((i + port + owner) % 3 == 0) {
            targets_.push_back(bound(path, owner, kAddresses[i],
                                     static_cast<std::uint16_t>(kFirstPort + port + 10 * owner)));
          }
        }
      }
    }
  }

  policy::Peer peer() {
    static const std::vector<std::string> selectors = {
        "*", "app=a", "app=b", "env=x", "app in (a,b), !env", "env!=x", "app=a*"};
    if (chance(60)) {
      return selector(selectors[pick(selectors.size())]);
    }
    const std::array kinds = {Entity::Kind::host, Entity::Kind::world, Entity::Kind::network,
                              Entity::Kind::network};
    return Entity{kinds[pick(kinds.size())], pick(4)};
  }

  std::shared_ptr<const policy::Policy> random_policy() {
    policy::Policy made;
    made.mode = chance(10) ? policy::Mode::audit : policy::Mode::enforce;
    made.baseline = std::array{policy::Baseline::same_labels, policy::Baseline::any_common_label,
                               policy::Baseline::none}[pick(3)];
    const std::vector<std::pair<std::vector<const char*>, std::vector<std::string>>> networks = {
        {{"127.1.0.0/16"}, {}},
        {{"127.1.2.0/24", "127.3.0.2"}, {}},
        {{}, {"a.example.org"}},
        {{"127.3.0.0/16"}, {"*.example.org"}}};
    for (const auto& [cidrs, names] : networks) {
      policy::Network& network = made.networks.emplace_back();
      network.names = names;
      std::ranges::transform(cidrs, std::back_inserter(network.cidrs),
                             [](const char* cidr) { return policy::Prefix::parse(cidr).value(); });
    }
    for (std::size_t count = pick(8); count > 0; count--) {
      policy::Rule& rule = made.rules.emplace_back(allow(peer(), peer()));
      rule.action = chance(65) ? policy::Rule::Action::allow : policy::Rule::Action::deny;
      rule.mode = chance(20) ? policy::Mode::audit : policy::Mode::enforce;
      rule.log = chance(10);
      if (chance(50)) {
        const auto first = static_cast<std::uint16_t>(kFirstPort + pick(60));
        rule.ports.push_back({IPPROTO_UDP, first, static_cast<std::uint16_t>(first + pick(20))});
      }
    }
    return std::make_shared<const policy::Policy>(std::move(made));
  }

  Endpoint endpoint(const Socket& socket, const std::vector<std::size_t>& named) const {
    if (socket.owner == 0) {
      return {.kind = Endpoint::Kind::host, .address = socket.address, .named = named};
    }
    return {.kind = Endpoint::Kind::workload,
            .labels = &labels_[socket.owner],
            .workload = numbers_of_[socket.owner],
            .address = {}};
  }

  /// Sends a datagram. No datagram is a reply: sockets that send never receive.
  bool is_delivered(const Socket& from, const Socket& to) {
    const std::uint64_t mark = ++marks_;
    const sockaddr_in place = at(to.address, to.port);
    std::ignore = ::sendto(from.fd.get(), &mark, sizeof mark, 0,
                           reinterpret_cast<const sockaddr*>(&place), sizeof place);
    std::uint64_t received = 0;  // on lo it has arrived when sendto(2) returns
    return ::recv(to.fd.get(), &received, sizeof received, MSG_DONTWAIT) == sizeof received &&
           received == mark;
  }

  std::mt19937 random_{20261126};
  std::uint64_t marks_ = 0;
  std::vector<policy::LabelSet> labels_;
  std::vector<policy::Number> numbers_of_;
  std::vector<Socket> sources_;
  std::vector<Socket> targets_;
};

TEST_F(EnforcerProperty, TheKernelDeliversWhatTheEvaluatorAllows) {
  populate();
  ASSERT_TRUE(start());
  std::array<int, 2> seen{};
  for (int policies = 0; policies < 60 && !HasFailure(); policies++) {
    const auto made = random_policy();
    ASSERT_TRUE(apply(made));
    for (const char* name : {"a.example.org", "b.example.org"}) {
      if (chance(50)) {
        names::Answer answer{name,
                             {{Address::parse(kAddresses[pick(kAddresses.size())]).value(),
                               std::chrono::seconds(60)}}};
        ASSERT_TRUE(enforcer_->learn({std::move(answer)}));
      }
    }
    for (int flow = 0; flow < 60 && !HasFailure(); flow++) {
      const Socket& from = sources_[pick(sources_.size())];
      const Socket& to = targets_[pick(targets_.size())];
      if (from.owner == 0 && to.owner == 0) {
        continue;
      }
      const auto from_named = enforcer_->named_networks(from.address);
      const auto to_named = enforcer_->named_networks(to.address);
      const policy::Decision decision = policy::evaluate(
          *made, endpoint(from, from_named), endpoint(to, to_named), IPPROTO_UDP, to.port);
      const bool expected = decision.verdict != policy::Verdict::deny;
      ASSERT_EQ(is_delivered(from, to), expected)
          << "policy " << policies << ": " << from.owner << " at " << from.address.text() << " to "
          << to.owner << " at " << to.address.text() << " port " << to.port << ": "
          << policy::text(decision.reason);
      seen.at(expected ? 1 : 0)++;
    }
  }
  RecordProperty("cases", seen[0] + seen[1]);
  EXPECT_GE(seen[0] + seen[1], 2'000);
  EXPECT_GE(seen[0], 400);
  EXPECT_GE(seen[1], 400);
}

}  // namespace
}  // namespace trireme::enforcer
