// SPDX-License-Identifier: Apache-2.0
// Which element of the set `refused` explains a logged packet.
#include "trireme/enforcer/refused_ends.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <chrono>
#include <set>
#include <tuple>

namespace trireme::enforcer {
namespace {

constexpr abi::Number kWeb = 20;
constexpr abi::Number kDb = 21;
constexpr std::chrono::seconds kLife(5);  // of an element
constexpr abi::Number kRemote = 90;       // an identity that another host proved

kernel::LoggedPacket packet(bool input, bool loopback, std::uint16_t port = 443) {
  kernel::LoggedPacket made;
  made.prefix = "deny";
  made.input = input;
  made.loopback = loopback;
  made.protocol = IPPROTO_TCP;
  made.tuple.source = *policy::Address::parse(loopback ? "127.0.0.1" : "10.0.0.1");
  made.tuple.destination = *policy::Address::parse(loopback ? "127.0.0.1" : "192.0.2.1");
  made.tuple.destination_port = port;
  return made;
}

RefusedKey key(abi::Number source, abi::Number destination, std::uint16_t port = 443) {
  return {source, destination, IPPROTO_TCP, port};
}

/// `refused`: the elements that policy refuses.
RefusedEnds::Known knowing(std::set<RefusedKey> refused = {}) {
  return {.is_here = [](abi::Number number) { return number == kWeb || number == kDb; },
          .refuses = [refused = std::move(refused)](
                         const RefusedKey& key,
                         const kernel::LoggedPacket&) { return refused.contains(key); }};
}

TEST(RefusedEnds, AnElementExplainsOnePacket) {
  RefusedEnds ends;
  ends.add(key(kWeb, abi::kNoNumber));
  EXPECT_FALSE(ends.take(packet(false, false, 80), knowing())) << "another port";
  EXPECT_EQ(ends.take(packet(false, false), knowing()), key(kWeb, abi::kNoNumber));
  EXPECT_FALSE(ends.take(packet(false, false), knowing()));
}

TEST(RefusedEnds, ThisHostsEndMustBeOneOfThisHost) {
  for (const auto& [bad, input, loopback] :
       {std::tuple(key(abi::kNoNumber, kWeb), false, false),  // of a packet that arrives
        std::tuple(key(kWeb, abi::kNoNumber), true, false),   // of a packet that leaves
        std::tuple(key(kRemote, abi::kNoNumber), false, false),
        std::tuple(key(abi::kQuarantine, kWeb), true, false),
        std::tuple(key(abi::kHost, kWeb), true, false), std::tuple(key(kWeb, kDb), true, false),
        std::tuple(key(kWeb, abi::kNoNumber), true, true)}) {
    RefusedEnds ends;
    ends.add(bad);
    EXPECT_FALSE(ends.take(packet(input, loopback), knowing()))
        << bad.source << " " << bad.destination;
  }
  for (const auto& [good, input, loopback] :
       {std::tuple(key(kRemote, kWeb), true, false), std::tuple(key(kWeb, kRemote), false, false),
        std::tuple(key(abi::kQuarantine, abi::kNoNumber), false, false),
        std::tuple(key(abi::kHost, kWeb), true, true), std::tuple(key(kWeb, kDb), false, true)}) {
    RefusedEnds ends;
    ends.add(good);
    EXPECT_EQ(ends.take(packet(input, loopback), knowing()), good);
  }
}

/// Nobody is in quarantine here, but another workload's packet to the same port was refused for it.
TEST(RefusedEnds, AnotherWorkloadsQuarantineIsNotLent) {
  const RefusedKey quarantined = key(abi::kQuarantine, abi::kNoNumber);
  const RefusedKey denied = key(kWeb, abi::kNoNumber);
  for (int order = 0; order < 2; order++) {
    RefusedEnds ends;
    ends.add(order == 0 ? quarantined : denied);
    ends.add(order == 0 ? denied : quarantined);
    EXPECT_EQ(ends.take(packet(false, false), knowing({denied})), denied);
    EXPECT_EQ(ends.take(packet(false, false), knowing({denied})), quarantined);
  }
}

TEST(RefusedEnds, WhatPolicyRefusesAtTheseAddressesComesFirst) {
  const RefusedKey web = key(kWeb, abi::kNoNumber);
  const RefusedKey db = key(kDb, abi::kNoNumber);
  for (const RefusedKey& refused : {web, db}) {
    RefusedEnds ends;
    ends.add(web);
    ends.add(db);
    EXPECT_EQ(ends.take(packet(false, false), knowing({refused})), refused);
  }
}

TEST(RefusedEnds, ProtocolsWithoutPortsHaveNone) {
  RefusedEnds ends;
  ends.add({kWeb, abi::kNoNumber, IPPROTO_ICMP, 0x1234});  // not a port
  kernel::LoggedPacket ping = packet(false, false, 0);
  ping.protocol = IPPROTO_ICMP;
  EXPECT_TRUE(ends.take(ping, knowing()));
}

TEST(ReportedEnds, AnElementIsReportedOnceAsLongAsItLives) {
  using namespace std::chrono_literals;
  ReportedEnds reported(kLife);
  const ReportedEnds::Time added{100s};
  EXPECT_FALSE(reported.contains(key(kWeb, kDb), added));
  reported.add(key(kWeb, kDb), added);
  EXPECT_TRUE(reported.contains(key(kWeb, kDb), added));
  // The kernel counts in clock ticks, so the time is not the same in each listing.
  EXPECT_TRUE(reported.contains(key(kWeb, kDb), added - 10ms));
  EXPECT_TRUE(reported.contains(key(kWeb, kDb), added + 10ms));
  EXPECT_FALSE(reported.contains(key(kDb, kWeb), added));
  reported.forget(added + kLife - 1ms);
  EXPECT_TRUE(reported.contains(key(kWeb, kDb), added)) << "to the end of its life";
}

TEST(ReportedEnds, ALaterElementIsAnotherRefusal) {
  using namespace std::chrono_literals;
  ReportedEnds reported(kLife);
  const ReportedEnds::Time added{100s};
  reported.add(key(kWeb, kDb), added);
  const auto later = added + kLife + 10ms;
  EXPECT_FALSE(reported.contains(key(kWeb, kDb), later));
  reported.add(key(kWeb, kDb), later);
  EXPECT_TRUE(reported.contains(key(kWeb, kDb), later));
  reported.forget(later + 2 * kLife);
  EXPECT_FALSE(reported.contains(key(kWeb, kDb), later)) << "forgotten";
}

}  // namespace
}  // namespace trireme::enforcer
