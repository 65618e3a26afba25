// SPDX-License-Identifier: Apache-2.0
#include "handshake_support.hpp"

namespace trireme::handshake {
namespace {

TEST(Engine, AuthorizesBothEndsByProof) {
  End client(psk_trust("a", kSecret), "app=web");
  End server(psk_trust("b", kSecret), "app=web");
  const Connection connection;
  const Outcome asked = client.out(connection.syn());
  ASSERT_TRUE(asked.passes());
  EXPECT_EQ(asked.ruling, abi::Ruling::pass);
  EXPECT_GT(segment(asked.packet).payload_size(), 0U);
  const Outcome received = server.in(asked.packet);
  ASSERT_EQ(received.ruling, abi::Ruling::pass)
      << (server.events.empty() ? "" : text(server.events.back().reason));
  EXPECT_EQ(segment(received.packet).payload_size(), 0U) << "HELLO is removed here";
  const Outcome replied = server.out(connection.syn_ack());
  ASSERT_EQ(replied.ruling, abi::Ruling::pass);
  EXPECT_GT(segment(replied.packet).payload_size(), 0U);
  const Outcome verified = client.in(replied.packet);
  ASSERT_EQ(verified.ruling, abi::Ruling::authorize)
      << (client.events.empty() ? "" : text(client.events.back().reason));
  EXPECT_GE(verified.number, 1000U);
  EXPECT_EQ(segment(verified.packet).payload_size(), 0U) << "REPLY is removed here";
  ASSERT_TRUE(verified.proof);
  EXPECT_TRUE(is_kept_back(server.in(connection.data()))) << "data before PROOF";
  const Outcome proved = server.in(*verified.proof);
  ASSERT_EQ(proved.ruling, abi::Ruling::authorize);
  EXPECT_GE(proved.number, 1000U);
  EXPECT_FALSE(segment(proved.packet).proof()) << "PROOF is removed here";
  EXPECT_EQ(segment(proved.packet).sequence(), 1001U);
  EXPECT_EQ(segment(proved.packet).acknowledgement(), 5001U);
  EXPECT_EQ(server.in(connection.data()).ruling, abi::Ruling::authorize)
      << "data right behind PROOF";
  EXPECT_TRUE(client.events.empty());
  EXPECT_EQ(server.events.size(), 0U);
}

TEST(Engine, FinishesWhatIsUnderWayAndBeginsNothing) {
  End client(psk_trust("a", kSecret), "app=web");
  End server(psk_trust("b", kSecret), "app=web");
  const Connection proving = Connection::number(1);
  const Exchange said = exchange(client, server, proving);
  ASSERT_FALSE(said.proof.empty());
  const Connection asked = Connection::number(2);
  const Outcome hello = client.out(asked.syn());
  ASSERT_TRUE(server.in(hello.packet).passes());
  const Connection late = Connection::number(3);
  const Outcome late_hello = client.out(late.syn());
  EXPECT_TRUE(server.engine->awaits_proof(server.now.monotonic));
  EXPECT_FALSE(client.engine->awaits_proof(client.now.monotonic)) << "no PROOF is awaited";

  client.engine->finish();
  server.engine->finish();
  EXPECT_TRUE(client.out(Connection::number(4).syn()).drop) << "TCP repeats it";
  EXPECT_TRUE(server.in(late_hello.packet).drop);
  EXPECT_TRUE(server.out(asked.syn_ack()).drop) << "its PROOF would arrive at the next daemon";
  EXPECT_EQ(server.in(said.proof).ruling, abi::Ruling::authorize);
  EXPECT_FALSE(server.engine->awaits_proof(server.now.monotonic));
  EXPECT_EQ(server.in(proving.data()).ruling, abi::Ruling::authorize);
  EXPECT_TRUE(client.events.empty()) << "nothing was refused";
  EXPECT_TRUE(server.events.empty());
}

TEST(Engine, ReportsWhereAHandshakeDied) {
  End client(psk_trust("client", kSecret), "app=web");
  End server(psk_trust("server", kSecret), "app=web");
  const auto deaths = [](End& end) {
    std::vector<std::string> found;
    end.tick();
    for (const Event& event : end.events) {
      EXPECT_EQ(event.reason, Reason::no_answer);
      found.push_back(event.detail);
    }
    end.events.clear();
    return found;
  };
  EXPECT_EQ(client.engine->next_tick(), std::nullopt);
  // The first gets no answer, PROOF of the second is lost, the third completes, and the last ones
  // are abandoned without a repetition.
  ASSERT_TRUE(client.out(Connection::number(1).syn()).passes());
  ASSERT_TRUE(client.out(Connection::number(1).syn()).passes());
  ASSERT_FALSE(exchange(client, server, Connection::number(2)).proof.empty());
  ASSERT_TRUE(server.out(Connection::number(2).syn_ack()).passes());
  ASSERT_TRUE(connects(client, server, Connection::number(3)));
  ASSERT_TRUE(client.out(Connection::number(4).syn()).passes());
  ASSERT_FALSE(exchange(client, server, Connection::number(5)).proof.empty());
  EXPECT_EQ(client.engine->next_tick(), client.now.monotonic + std::chrono::seconds(130));
  EXPECT_EQ(server.engine->next_tick(), server.now.monotonic + std::chrono::seconds(70));
  for (End* end : {&client, &server}) {
    end->pass_time(std::chrono::seconds(69));
    EXPECT_TRUE(deaths(*end).empty());
    end->pass_time(std::chrono::seconds(62));
  }
  EXPECT_EQ(deaths(client), std::vector<std::string>{"HELLO was repeated, but no SYN-ACK came"});
  EXPECT_EQ(deaths(server), std::vector<std::string>{"REPLY was repeated, but no PROOF came"});
  EXPECT_EQ(client.refused(Reason::no_answer), 1U);
  EXPECT_EQ(client.engine->next_tick(), std::nullopt);
}

TEST(Engine, AwaitsNoProofThatDoesNotComeSoon) {
  End client(psk_trust("a", kSecret), "app=web");
  End server(psk_trust("b", kSecret), "app=web");
  ASSERT_FALSE(exchange(client, server, Connection{}).proof.empty());
  ASSERT_TRUE(server.engine->awaits_proof(server.now.monotonic));
  EXPECT_FALSE(server.engine->awaits_proof(server.now.monotonic + std::chrono::milliseconds(250)));
}

}  // namespace
}  // namespace trireme::handshake
