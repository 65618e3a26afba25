// SPDX-License-Identifier: Apache-2.0
// What uses the network and is no workload: who is the client, what is proposed, what is denied.
#include <gmock/gmock.h>
#include <netinet/in.h>

#include "../../src/daemon/unmanaged.hpp"

namespace trireme::daemon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Kind = SocketOwner::Kind;

constexpr const char* kHere = "127.0.0.1";

SocketOwner owner(Kind kind, const std::string& name, const char* app) {
  SocketOwner made{.kind = kind, .name = name};
  EXPECT_TRUE(made.labels.set("app", app));
  return made;
}
const SocketOwner& shop() {
  static const SocketOwner made = owner(Kind::unit, "shop.service", "shop");
  return made;
}
const SocketOwner& db() {
  static const SocketOwner made = owner(Kind::container, "db", "db");
  return made;
}

class FindUnmanaged : public ::testing::Test {
 protected:
  void listen(const SocketOwner& by, std::uint16_t port, std::uint8_t protocol = IPPROTO_TCP,
              std::uint64_t network = 0) {
    add(by, network, protocol, kHere, port, kHere, 0);
  }
  void add(const SocketOwner& by, std::uint64_t network, std::uint8_t protocol, const char* local,
           std::uint16_t local_port, const char* remote, std::uint16_t remote_port) {
    OwnedSocket socket;
    socket.owner = by;
    socket.network = network;
    socket.socket.protocol = protocol;
    socket.socket.local = policy::Address::parse(local).value();
    socket.socket.local_port = local_port;
    socket.socket.remote = policy::Address::parse(remote).value();
    socket.socket.remote_port = remote_port;
    sockets_.push_back(socket);
  }
  /// Both sockets of a connection in one network namespace.
  void connect(const SocketOwner& client, std::uint16_t client_port, const SocketOwner& server,
               std::uint16_t port) {
    add(client, 0, IPPROTO_TCP, kHere, client_port, kHere, port);
    add(server, 0, IPPROTO_TCP, kHere, port, kHere, client_port);
  }
  Unmanaged find(bool has_handshakes = true) {
    return find_unmanaged(sockets_, addresses_, policy_, has_handshakes);
  }
  static std::vector<std::string> texts(const Unmanaged& found) {
    std::vector<std::string> texts;
    for (const policy::SeenFlow& flow : found.denied) {
      texts.push_back(std::to_string(flow.count) + " " + flow.from.text() + " " + flow.to.text() +
                      " " + std::to_string(flow.port));
    }
    return texts;
  }

  std::vector<OwnedSocket> sockets_;
  AddressesByNetwork addresses_;
  policy::Policy policy_;
};

TEST_F(FindUnmanaged, OnlyWhatListensOrConnectsIsACandidate) {
  const SocketOwner workload = owner(Kind::workload, "web.scope", "web");
  listen(shop(), 80);
  listen(shop(), 53, IPPROTO_UDP);
  listen(shop(), 50000, IPPROTO_UDP);  // a client's
  listen(workload, 81);
  listen({}, 22);
  add(db(), 0, IPPROTO_TCP, "10.0.0.1", 40000, "192.0.2.1", 443);
  const Unmanaged found = find();
  ASSERT_THAT(found.candidates, SizeIs(2));
  EXPECT_EQ(found.candidates[0].owner.name, "shop.service");
  EXPECT_THAT(found.candidates[0].listens, ElementsAre("tcp/80", "udp/53"));
  EXPECT_EQ(found.candidates[0].connects, 0U);
  EXPECT_EQ(found.candidates[1].owner.name, "db");
  EXPECT_THAT(found.candidates[1].listens, IsEmpty());
  EXPECT_EQ(found.candidates[1].connects, 1U);
}

TEST_F(FindUnmanaged, APortIsAClientsWhereItsNetworkNamespaceSaysSo) {
  listen(shop(), 2000, IPPROTO_UDP);
  sockets_.back().ephemeral = {.first = 1024, .last = 30000};
  listen(db(), 40000, IPPROTO_UDP);
  sockets_.back().ephemeral = {.first = 1024, .last = 30000};
  const Unmanaged found = find();
  ASSERT_THAT(found.candidates, SizeIs(1));
  EXPECT_EQ(found.candidates[0].owner.name, "db");
}

TEST(Ephemeral, IsReadFromTheFile) {
  const auto text = [](const std::string& file) {
    const EphemeralPorts ports = ephemeral_ports(file);
    return std::to_string(ports.first) + "-" + std::to_string(ports.last);
  };
  EXPECT_EQ(text("1024\t65535\n"), "1024-65535");
  for (const char* file : {"", "x", "1024", "1024\t70000\n", "2000\t1000\n", "0\t10\n"}) {
    EXPECT_EQ(text(file), "32768-60999") << file;
  }
}

TEST_F(FindUnmanaged, AConnectionIsCountedOnceFromItsClient) {
  listen(db(), 5432);
  connect(shop(), 40000, db(), 5432);
  connect(shop(), 40001, db(), 5432);
  const Unmanaged found = find();
  EXPECT_EQ(found.connections, 2U);
  EXPECT_THAT(texts(found), ElementsAre("2 app=shop app=db 5432"));
  EXPECT_EQ(found.candidates[0].connects, 2U);
  EXPECT_EQ(found.candidates[1].connects, 0U);
}

TEST_F(FindUnmanaged, WithoutAListenerItIsStillCountedOnce) {
  connect(shop(), 40000, db(), 5432);
  EXPECT_EQ(find().connections, 1U);
  listen(db(), 5432);
  listen(shop(), 40000);
  EXPECT_EQ(find().connections, 1U);
}

TEST_F(FindUnmanaged, EqualLabelsAndItselfAreNotDenied) {
  SocketOwner twin = owner(Kind::unit, "shop-2.service", "shop");
  listen(twin, 80);
  listen(shop(), 81);
  connect(shop(), 40000, twin, 80);
  connect(shop(), 40001, shop(), 81);
  const Unmanaged found = find();
  EXPECT_EQ(found.connections, 1U) << "not those of a candidate with itself";
  EXPECT_THAT(found.denied, IsEmpty());
}

TEST_F(FindUnmanaged, UnlabeledProcessesAndOthersAreDenied) {
  addresses_[0] = {policy::Address::parse("10.0.0.1").value()};
  listen(shop(), 80);
  connect({}, 40000, shop(), 80);
  add(shop(), 0, IPPROTO_TCP, "10.0.0.1", 80, "192.0.2.7", 1234);
  add(shop(), 0, IPPROTO_TCP, "10.0.0.1", 41000, "10.0.0.1", 25);
  connect({}, 40001, {}, 90);
  EXPECT_THAT(texts(find()),
              ::testing::UnorderedElementsAre("1 @host app=shop 80", "1 192.0.2.7 app=shop 80",
                                              "1 app=shop @host 25"));
}

TEST_F(FindUnmanaged, LoopbackAddressesOfTwoNamespacesAreTwo) {
  listen(db(), 80, IPPROTO_TCP, 7);
  add(shop(), 0, IPPROTO_TCP, kHere, 40000, kHere, 80);
  add(db(), 7, IPPROTO_TCP, kHere, 80, kHere, 40000);
  EXPECT_EQ(find().connections, 2U) << "not the two ends of one";
}

TEST_F(FindUnmanaged, AnUnlabeledProcessIsTheHostOnlyInItsOwnNetworkNamespace) {
  listen(db(), 80, IPPROTO_TCP, 7);
  add({}, 0, IPPROTO_TCP, "172.17.0.1", 40000, "172.17.0.2", 80);
  add(db(), 7, IPPROTO_TCP, "172.17.0.2", 80, "172.17.0.1", 40000);
  EXPECT_THAT(texts(find()), ElementsAre("1 172.17.0.1 app=db 80"));
}

TEST_F(FindUnmanaged, WithoutHandshakesLabelsEndWithTheNetworkNamespace) {
  SocketOwner twin = owner(Kind::container, "shop", "shop");
  listen(twin, 80, IPPROTO_TCP, 7);
  add(shop(), 0, IPPROTO_TCP, "172.17.0.1", 40000, "172.17.0.2", 80);
  add(twin, 7, IPPROTO_TCP, "172.17.0.2", 80, "172.17.0.1", 40000);
  EXPECT_THAT(find().denied, IsEmpty()) << "the baseline allows equal labels";
  EXPECT_THAT(texts(find(false)), ElementsAre("1 app=shop app=shop 80"));
  connect(shop(), 40001, owner(Kind::unit, "shop-2.service", "shop"), 81);
  EXPECT_THAT(find(false).denied, SizeIs(1)) << "one namespace needs no handshake";
}

TEST_F(FindUnmanaged, DockersResolverIsPartOfAContainer) {
  add(db(), 7, IPPROTO_UDP, kHere, 40000, "127.0.0.11", 53);
  EXPECT_EQ(find().connections, 0U);
  add(shop(), 0, IPPROTO_UDP, kHere, 40000, "127.0.0.11", 53);
  EXPECT_EQ(find().connections, 1U) << "on the host it is an address like others";
}

TEST(Resolver, IsOfContainersAlone) {
  const policy::Address resolver = policy::Address::parse("127.0.0.11").value();
  EXPECT_TRUE(is_to_resolver(7, resolver));
  EXPECT_FALSE(is_to_resolver(0, resolver));
  EXPECT_FALSE(is_to_resolver(7, policy::Address::parse("127.0.0.53").value()));
}

TEST_F(FindUnmanaged, RulesInForceCountEvenInAuditMode) {
  listen(db(), 5432);
  connect(shop(), 40000, db(), 5432);
  policy_.mode = policy::Mode::audit;
  EXPECT_THAT(find().denied, SizeIs(1)) << "as if it was enforced";
}

TEST(Survey, SaysWhatItHasNotLookedAt) {
  EXPECT_THAT(notes_on({}), IsEmpty());
  EXPECT_THAT(notes_on({.unread = 3, .unsearched = 1}),
              ElementsAre("the sockets of 3 network namespaces were not listed: reading took more "
                          "than 2 s",
                          "the network namespaces of 1 cgroup were not looked for: reading took "
                          "more than 2 s"));
  EXPECT_THAT(notes_on({.cut = 2, .unopened = 1}),
              ElementsAre("the network namespaces of 2 cgroups may be missing: not all of their "
                          "threads were looked at",
                          "the sockets of 1 network namespace were not listed: its processes have "
                          "ended, or cannot be looked at"));
  EXPECT_FALSE(ReadingTime().is_over());
  EXPECT_TRUE(ReadingTime(std::chrono::seconds(0)).is_over());
}

TEST(Lines, MakeACandidateAWorkload) {
  EXPECT_EQ(lines_for(shop()), "[[unit]]\nname = \"shop.service\"\nlabels = { app = \"shop\" }\n");
  EXPECT_EQ(lines_for(db()), "docker run --label app=db ...\n");
  SocketOwner service = owner(Kind::compose, "shop/db", "shop");
  service.project = "shop";
  service.service = "db";
  ASSERT_TRUE(service.labels.set("tier", "db"));
  EXPECT_EQ(lines_for(service),
            "services:\n  db:\n    labels:\n      app: \"shop\"\n      tier: \"db\"\n");
}

TEST(Lines, ALabelValueIsValidWhateverTheNameIs) {
  EXPECT_EQ(label_value("systemd-networkd"), "systemd-networkd");
  EXPECT_EQ(label_value("a b\n\"c\"=,\xff"), "a-b--c----");
  EXPECT_THAT(label_value(std::string(200, 'x')), SizeIs(63));
  policy::LabelSet labels;
  EXPECT_TRUE(labels.set("app", label_value("a b\n\"c\"=,\xff")));
  EXPECT_TRUE(labels.set("app", label_value(std::string(200, '*'))));
}

}  // namespace
}  // namespace trireme::daemon
