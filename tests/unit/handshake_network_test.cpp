// SPDX-License-Identifier: Apache-2.0
// Bad networks: every allowed connection completes, delayed only by TCP's own repetitions, and no
// refused connection does.
#include "handshake_simulation.hpp"

namespace trireme::handshake {
namespace {

using std::chrono::milliseconds;

struct Networks : testing::Test {
  End client{psk_trust("client", kSecret), "app=web", "10.0.0.0/8", 16'384};
  End server{psk_trust("server", kSecret), "app=web", "10.0.0.0/8", 16'384};
  [[nodiscard]] std::string tallies() const {
    return "client:" + client.tally() + "; server:" + server.tally();
  }
  std::uint16_t number = 0;  // of a connection of its own for each simulation
};

TEST_F(Networks, APerfectOneTakesThreeTrips) {
  Simulation simulation(client, server);
  simulation.connect(++number);
  simulation.run();
  EXPECT_TRUE(simulation.result(number).answered);
  EXPECT_LE(simulation.result(number).took, milliseconds(5));
}

/// Each lost packet delays a connection by TCP's first timeout at most.
TEST_F(Networks, EachPacketMayBeLostInTurn) {
  for (const Kind kind :
       {Kind::hello, Kind::reply, Kind::proof, Kind::data, Kind::answer, Kind::other}) {
    for (const int times : {1, 3}) {
      Simulation simulation(client, server);
      simulation.network = [kind, times](Kind sent, int before) {
        return Fate{.lost = sent == kind && before < times};
      };
      simulation.connect(++number);
      simulation.run();
      EXPECT_TRUE(simulation.result(number).answered)
          << static_cast<int>(kind) << " lost " << times << " times";
      // PROOF is requested when data arrives, and again later.
      EXPECT_LE(simulation.result(number).took,
                milliseconds(kind == Kind::proof ? (times == 1 ? 10 : 310)
                                                 : (times == 1 ? 1'500 : 7'100)))
          << static_cast<int>(kind);
      EXPECT_FALSE(simulation.result(number).refused);
    }
  }
}

TEST_F(Networks, EachPacketMayComeTwice) {
  for (const Kind kind :
       {Kind::hello, Kind::reply, Kind::proof, Kind::data, Kind::answer, Kind::other}) {
    for (const int later : {1, 2, 3, 4, 5, 6, 7, 8, 50, 900}) {
      Simulation simulation(client, server);
      simulation.network = [kind, later](Kind sent, int /*before*/) {
        return Fate{.twice = sent == kind, .delay_of_second = milliseconds(later)};
      };
      simulation.connect(++number);
      simulation.run();
      EXPECT_TRUE(simulation.result(number).answered)
          << static_cast<int>(kind) << " again after " << later;
      EXPECT_LE(simulation.result(number).took, milliseconds(5));
      EXPECT_FALSE(simulation.result(number).refused)
          << static_cast<int>(kind) << " again after " << later;
    }
  }
}

TEST_F(Networks, EachPacketMayBeLate) {
  for (const Kind kind : {Kind::hello, Kind::reply, Kind::proof, Kind::data}) {
    for (const int delay : {5, 250, 1'100, 2'500, 4'000}) {
      Simulation simulation(client, server);
      simulation.network = [kind, delay](Kind sent, int before) {
        return Fate{.delay = milliseconds(sent == kind && before == 0 ? delay : 1)};
      };
      simulation.connect(++number);
      simulation.run();
      EXPECT_TRUE(simulation.result(number).answered)
          << static_cast<int>(kind) << " late by " << delay;
      EXPECT_LE(simulation.result(number).took, milliseconds(1'700))
          << static_cast<int>(kind) << " late by " << delay;
      EXPECT_FALSE(simulation.result(number).refused)
          << static_cast<int>(kind) << " late by " << delay;
    }
  }
}

TEST_F(Networks, RandomLossRepetitionAndOrderDelayButRefuseNobody) {
  for (const double loss : {0.01, 0.1, 0.3}) {
    std::mt19937 random(7);
    Simulation simulation(client, server);
    simulation.network = [&](Kind, int before) { return bad_fate(random, loss, before); };
    const auto count = static_cast<std::uint16_t>(cases(500, 5'000));
    for (std::uint16_t i = 0; i < count; i++) {
      simulation.connect(++number, milliseconds(i * 2));
    }
    simulation.run();
    EXPECT_EQ(simulation.count(&Simulation::Result::answered), count) << loss;
    EXPECT_EQ(simulation.count(&Simulation::Result::refused), 0U) << loss;
  }
}

TEST_F(Networks, NobodyThatPolicyRefusesGetsThroughABadOne) {
  End other(psk_trust("client", kSecret), "app=other", "10.0.0.0/8", 16'384);
  std::mt19937 random(8);
  Simulation simulation(other, server);
  simulation.network = [&](Kind, int before) { return bad_fate(random, 0.3, before); };
  constexpr std::uint16_t kNumber = 500;
  for (std::uint16_t i = 0; i < kNumber; i++) {
    simulation.connect(i, milliseconds(i * 2));
  }
  simulation.run();
  EXPECT_EQ(simulation.count(&Simulation::Result::connected), 0U);
  EXPECT_EQ(simulation.count(&Simulation::Result::delivered), 0U);
  EXPECT_EQ(simulation.count(&Simulation::Result::refused), kNumber)
      << "and each client is refused at once";
}

/// Both hosts rotate their trust while connections are in progress: add the new credential, offer
/// it, remove the old one.
TEST_F(Networks, ARotationOnABadNetworkFailsNobody) {
  const std::string both = std::string(kSecret) + kNextSecret;
  const std::string swapped = std::string(kNextSecret) + kSecret;
  std::mt19937 random(9);
  Simulation simulation(client, server);
  simulation.network = [&](Kind, int before) { return bad_fate(random, 0.1, before); };
  const int rotations = cases(4, 40);
  milliseconds when(500);
  bool forth = true;
  for (int i = 0; i < rotations; i++, forth = !forth) {
    // The old and the new credential overlap for longer than a handshake may take.
    for (const std::string& secrets : {both, swapped}) {
      const std::string offered = forth ? secrets : (secrets == both ? swapped : both);
      simulation.at(when,
                    [this, offered] { client.engine->set_trust(psk_trust("client", offered)); });
      simulation.at(when + milliseconds(150),
                    [this, offered] { server.engine->set_trust(psk_trust("server", offered)); });
      when += milliseconds(300);
    }
  }
  for (milliseconds at(0); at < when && number < 60'000; at += milliseconds(2)) {  // 500 a second
    simulation.connect(number++, at);
  }
  simulation.run();
  EXPECT_EQ(simulation.count(&Simulation::Result::answered), number) << tallies();
  EXPECT_EQ(simulation.count(&Simulation::Result::refused), 0U) << tallies();
}

TEST_F(Networks, ARotationOfCertificatesFailsNobody) {
  Fleet old_fleet("old");
  Fleet new_fleet("new");
  const auto client_old = old_fleet.issue("client");
  const auto client_new = new_fleet.issue("client");
  const auto server_old = old_fleet.issue("server");
  const auto server_new = new_fleet.issue("server");
  client.engine->set_trust(old_fleet.trust(client_old, {}, {&new_fleet}));
  server.engine->set_trust(old_fleet.trust(server_old, {}, {&new_fleet}));
  std::mt19937 random(10);
  Simulation simulation(client, server);
  simulation.network = [&](Kind, int before) { return bad_fate(random, 0.1, before); };
  const int rotations = cases(3, 40);
  constexpr milliseconds kApart(1'000);  // four verifications a second are allowed for a known peer
  milliseconds when = kApart;
  for (int i = 0; i < rotations; i++, when += kApart) {
    const bool fresh = i % 2 == 0;
    simulation.at(when, [&, fresh] {
      client.engine->set_trust(fresh ? new_fleet.trust(client_new, {}, {&old_fleet})
                                     : old_fleet.trust(client_old, {}, {&new_fleet}));
    });
    simulation.at(when + milliseconds(120), [&, fresh] {
      server.engine->set_trust(fresh ? new_fleet.trust(server_new, {}, {&old_fleet})
                                     : old_fleet.trust(server_old, {}, {&new_fleet}));
    });
  }
  for (milliseconds at(0); at < when && number < 60'000; at += milliseconds(4)) {
    simulation.connect(number++, at);
  }
  simulation.run();
  EXPECT_EQ(simulation.count(&Simulation::Result::answered), number) << tallies();
  EXPECT_EQ(simulation.count(&Simulation::Result::refused), 0U) << tallies();
}

TEST_F(Networks, ANewPolicyInTheMiddleRefusesWhatItForbids) {
  std::mt19937 random(11);
  Simulation simulation(client, server);
  simulation.network = [&](Kind, int before) { return bad_fate(random, 0.1, before); };
  policy::Policy nothing;
  nothing.baseline = policy::Baseline::none;
  constexpr std::uint16_t kNumber = 200;
  for (std::uint16_t i = 0; i < kNumber; i++) {
    simulation.connect(i, milliseconds(i * 2));
  }
  simulation.at(milliseconds(210), [&] { server.set_policy(nothing); });
  simulation.run();
  std::size_t later = 0;
  for (std::uint16_t i = 150; i < kNumber; i++) {  // begun after it
    later += simulation.result(i).delivered ? 1U : 0U;
  }
  EXPECT_EQ(later, 0U);
  EXPECT_GT(simulation.count(&Simulation::Result::delivered), 20U);
}

}  // namespace
}  // namespace trireme::handshake
