// SPDX-License-Identifier: Apache-2.0
// The world as the control socket carries it.
#include "trireme/control/world.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trireme::control {
namespace {

using nlohmann::json;
using policy::Address;
using policy::World;

std::shared_ptr<World> example() {
  auto world = std::make_shared<World>();
  world->networks = {{.name = "this host",
                      .addresses = {{Address::parse("10.0.0.7").value(), 24}},
                      .named = {{Address::parse("192.0.2.1").value(), {"a.example", "b.example"}},
                                {Address::parse("2001:db8::1").value(), {"a.example"}}}},
                     {.name = "web", .addresses = {{Address::parse("172.17.0.2").value(), 32}}},
                     {.name = "db",
                      .addresses = {},
                      .named = {{Address::parse("192.0.2.2").value(), {"c.example"}}}}};
  world->residents = {{.name = "web", .labels = {}, .number = 17, .networks = {1, 0}},
                      {.name = "shut",
                       .labels = {},
                       .state = World::State::quarantined,
                       .reason = "why",
                       .networks = {},
                       .unprovable = "too large"}};
  EXPECT_TRUE(world->residents[0].labels.set("app", "web"));
  EXPECT_TRUE(world->residents[0].labels.set_of_host("zone", "eu"));
  world->peers = {policy::Prefix::parse("10.0.0.0/24").value()};
  world->has_handshakes = false;
  world->seen_names = {{"deb.example.org", Address::parse("192.0.2.3").value()}};
  return world;
}

Result<World> sent(const std::shared_ptr<const World>& world) {
  WorldReader reader;
  auto next = world_events(world);
  while (const auto event = next()) {
    reader.add(json::parse(event->dump()));
  }
  return reader.read(json::parse(world_result(*world).dump()));
}

TEST(ControlWorld, ArrivesAsItWasSent) {
  const auto world = example();
  const auto read = sent(world);
  ASSERT_TRUE(read) << read.error().text();
  ASSERT_EQ(read->networks.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(read->networks[i].name, world->networks[i].name);
    EXPECT_EQ(read->networks[i].named, world->networks[i].named);
    ASSERT_EQ(read->networks[i].addresses.size(), world->networks[i].addresses.size());
  }
  EXPECT_EQ(read->networks[0].addresses[0].address.text(), "10.0.0.7");
  EXPECT_EQ(read->networks[0].addresses[0].length, 24);
  ASSERT_EQ(read->residents.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    const World::Resident& there = read->residents[i];
    const World::Resident& here = world->residents[i];
    EXPECT_EQ(std::tie(there.name, there.labels, there.number, there.state, there.reason,
                       there.networks, there.unprovable),
              std::tie(here.name, here.labels, here.number, here.state, here.reason, here.networks,
                       here.unprovable));
  }
  EXPECT_EQ(read->peers, world->peers);
  EXPECT_FALSE(read->has_handshakes);
  EXPECT_EQ(read->seen_names, world->seen_names);
}

TEST(ControlWorld, WhatIsNotOneIsAnError) {
  const auto world = example();
  const json result = world_result(*world);
  const json resident = *world_events(world)();
  const auto is_read = [](const json& event, const json& head) {
    WorldReader reader;
    reader.add(event);
    return reader.read(head).has_value();
  };
  EXPECT_TRUE(is_read(resident, result));
  json other = resident;
  other["resident"]["networks"] = {3};
  EXPECT_FALSE(is_read(other, result)) << "there are three networks";
  other = resident;
  other["resident"]["state"] = "well";
  EXPECT_FALSE(is_read(other, result));
  EXPECT_FALSE(is_read({{"something", "else"}}, result));
  EXPECT_FALSE(is_read(nullptr, result));
  for (const char* key : {"networks", "peers", "handshakes", "seen_names"}) {
    json lacking = result;
    lacking.erase(key);
    EXPECT_FALSE(is_read(resident, lacking)) << key;
  }
  json empty = result;
  empty["networks"] = json::array();
  EXPECT_FALSE(is_read({{"named", {}}}, empty));
  json bad = result;
  bad["peers"] = {"10.0.0.300"};
  EXPECT_FALSE(is_read(resident, bad));
}

TEST(ControlWorld, WithoutADaemonThisHostsAddressesAreKnown) {
  const World world = world_without_daemon();
  ASSERT_EQ(world.networks.size(), 1U);
  EXPECT_TRUE(world.residents.empty());
  EXPECT_TRUE(world.peers.empty());
}

}  // namespace
}  // namespace trireme::control
