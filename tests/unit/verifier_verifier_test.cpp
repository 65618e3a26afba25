// SPDX-License-Identifier: Apache-2.0
#include "trireme/verifier/verifier.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <functional>
#include <future>
#include <thread>

#include "kernel_support.hpp"
#include "trireme/kernel/queue.hpp"
#include "trireme/verifier/identities.hpp"

namespace trireme::verifier {
namespace {

class PointQueues : public kernel::NamespaceTest {};

policy::LabelSet labels(const std::string& value) {
  policy::LabelSet set;
  EXPECT_TRUE(set.set("app", value));
  return set;
}

std::string scratch_file() {
  return testing::TempDir() + "trireme-identities-" + std::to_string(::getpid()) + ".json";
}

handshake::RemoteIdentity identity(const credentials::Trust& trust, const std::string& value) {
  handshake::RemoteIdentity result;
  result.labels = labels(value);
  const std::string encoded = result.labels.encode();
  result.hash = credentials::sha256(
      {{reinterpret_cast<const std::uint8_t*>(encoded.data()), encoded.size()}});
  result.peer = trust
                    .verify(wire::CredentialType::local,
                            trust.credential(wire::CredentialType::local), credentials::Time())
                    .value();
  return result;
}

TEST(Identities, GivesOneNumberToOneIdentity) {
  policy::Numbers numbers;
  Identities book(scratch_file(), numbers);
  const auto trust = credentials::Trust::local().value();
  const auto web = book.enter(identity(*trust, "web"));
  const auto again = book.enter(identity(*trust, "web"));
  const auto db = book.enter(identity(*trust, "db"));
  ASSERT_TRUE(web && again && db);
  EXPECT_EQ(web->number, again->number);
  EXPECT_NE(web->number, db->number);
  EXPECT_EQ(book.find(db->number)->labels, labels("db"));
  EXPECT_EQ(book.find(db->number + 1), nullptr);
}

TEST(Identities, OutliveTheDaemonInTheirFile) {
  const std::string file = scratch_file();
  const auto trust = credentials::Trust::local().value();
  policy::Number number = 0;
  {
    policy::Numbers numbers;
    Identities book(file, numbers);
    number = book.enter(identity(*trust, "web"))->number;
    ASSERT_TRUE(book.save());
  }
  policy::Numbers numbers;
  Identities book(file, numbers);
  const auto next = credentials::Trust::local().value();  // new at each start
  EXPECT_EQ(book.load(*next, std::chrono::system_clock::now()).value(), 1U);
  ASSERT_NE(book.find(number), nullptr);
  EXPECT_EQ(book.find(number)->labels, labels("web"));
  EXPECT_FALSE(numbers.take(number)) << "the number is in use";
  EXPECT_EQ(::unlink(file.c_str()), 0);
}

/// A Trust that counts verifications, calls a function in each, and can reject everything.
class SlowTrust final : public credentials::Trust {
 public:
  explicit SlowTrust(std::shared_ptr<const Trust> real) : real_(std::move(real)) {}
  bool has(credentials::CredentialType type) const override { return real_->has(type); }
  credentials::Bytes credential(credentials::CredentialType type) const override {
    return real_->credential(type);
  }
  const credentials::Digest& hash(credentials::CredentialType type) const override {
    return real_->hash(type);
  }
  const credentials::OwnCredential& answer(const credentials::Peer& peer) const override {
    return real_->answer(peer);
  }
  std::optional<credentials::CredentialType> offered() const override { return real_->offered(); }
  const credentials::LabelConstraints& constraints() const override { return real_->constraints(); }
  credentials::Time expires() const override { return real_->expires(); }
  bool is_current(credentials::Time now) const override { return real_->is_current(now); }
  std::optional<Error> doubt(credentials::Time now) const override { return real_->doubt(now); }
  std::string description() const override { return real_->description(); }
  bool plausible(credentials::CredentialType type, credentials::Bytes credential) const override {
    return real_->plausible(type, credential);
  }
  tl::expected<std::shared_ptr<const credentials::Peer>, credentials::Distrust> verify(
      credentials::CredentialType type, credentials::Bytes credential,
      credentials::Time now) const override {
    verified++;
    on_verify();
    if (until) {
      auto peer = std::make_shared<credentials::Peer>(**real_->verify(type, credential, now));
      peer->not_after = *until;
      return now <= *until
                 ? tl::expected<std::shared_ptr<const credentials::Peer>, credentials::Distrust>(
                       std::move(peer))
                 : tl::unexpected(credentials::Distrust::expired);
    }
    return believes ? real_->verify(type, credential, now)
                    : tl::unexpected(credentials::Distrust::revoked);
  }

  std::function<void()> on_verify = [] {};
  bool believes = true;
  std::optional<credentials::Time> until;
  mutable int verified = 0;

 private:
  std::shared_ptr<const Trust> real_;
};

TEST(Identities, AreVerifiedOnceForAHostAndNobodyWaits) {
  policy::Numbers numbers;
  Identities book(scratch_file(), numbers);
  const auto local = credentials::Trust::local().value();
  SlowTrust trust(local);
  const policy::Number web = book.enter(identity(*local, "web"))->number;
  book.enter(identity(*local, "db"));
  bool entered = false;
  trust.on_verify = [&] {
    // The packet path must not wait: if the book's lock were held, this would block forever.
    entered = std::async(std::launch::async, [&] {
                return book.enter(identity(*local, "new")) != nullptr;
              }).get();
  };
  book.set_trust(trust, std::chrono::system_clock::now());
  EXPECT_TRUE(entered);
  EXPECT_EQ(trust.verified, 1);
  EXPECT_EQ(book.size(), 3U);
  EXPECT_NE(book.find(web), nullptr);
  trust.on_verify = [] {};
  trust.believes = false;
  book.set_trust(trust, std::chrono::system_clock::now());
  EXPECT_EQ(book.size(), 0U);
  EXPECT_TRUE(numbers.take(web)) << "its number is free again";
}

TEST(Identities, OfOneHostLeaveRoomForOthers) {
  policy::Numbers numbers;
  Identities book(scratch_file(), numbers);
  const auto local = credentials::Trust::local().value();
  auto elsewhere = std::make_shared<credentials::Peer>(*identity(*local, "web").peer);
  elsewhere->type = wire::CredentialType::psk;
  elsewhere->hash[0] ^= 1U;
  const auto of_greedy = [&](const std::string& value) {
    handshake::RemoteIdentity made = identity(*local, value);
    made.peer = elsewhere;
    return made;
  };
  int entered = 0;
  while (entered < 10'000 && book.enter(of_greedy("label" + std::to_string(entered))) != nullptr) {
    entered++;
  }
  EXPECT_EQ(entered, 4'096);
  for (int i = 0; i < 5'000; i++) {
    EXPECT_NE(book.enter(identity(*local, "label" + std::to_string(i))), nullptr)
        << "this host's own identities have no limit";
  }
  book.prune({}, std::chrono::steady_clock::now() + std::chrono::hours(1));
  EXPECT_NE(book.enter(of_greedy("later")), nullptr);
}

TEST(Identities, OfACertificateThatHasExpiredStayWhatTheyWere) {
  const std::string file = scratch_file();
  const auto now = std::chrono::system_clock::now();
  SlowTrust trust(credentials::Trust::local().value());
  trust.until = std::chrono::floor<std::chrono::seconds>(now);
  policy::Number number = 0;
  {
    policy::Numbers numbers;
    Identities book(file, numbers);
    handshake::RemoteIdentity web = identity(trust, "web");
    web.peer = trust
                   .verify(wire::CredentialType::local,
                           trust.credential(wire::CredentialType::local), *trust.until)
                   .value();
    number = book.enter(web)->number;
    book.set_trust(trust, now + std::chrono::hours(1));
    EXPECT_NE(book.find(number), nullptr);
    ASSERT_TRUE(book.save());
  }
  policy::Numbers numbers;
  Identities book(file, numbers);
  EXPECT_EQ(book.load(trust, now + std::chrono::hours(1)).value(), 1U);
  EXPECT_NE(book.find(number), nullptr);
  EXPECT_EQ(::unlink(file.c_str()), 0);
}

TEST(Identities, AreForgottenWhenNobodyNeedsThem) {
  policy::Numbers numbers;
  Identities book(scratch_file(), numbers);
  const auto trust = credentials::Trust::local().value();
  const policy::Number unused = book.enter(identity(*trust, "unused"))->number;
  const policy::Number flows = book.enter(identity(*trust, "flows"))->number;
  const auto held = book.enter(identity(*trust, "held"));
  const auto now = std::chrono::steady_clock::now();
  book.prune({flows}, now);
  EXPECT_NE(book.find(unused), nullptr) << "too young";
  book.prune({flows}, now + std::chrono::hours(1));
  EXPECT_EQ(book.find(unused), nullptr);
  EXPECT_NE(book.find(flows), nullptr);
  EXPECT_NE(book.find(held->number), nullptr);
  EXPECT_TRUE(numbers.take(unused));
}

/// Keeps the threads busy with messages of every kind, for the thread sanitizer.
TEST(Verifier, TakesMessagesWhileItServesAPoint) {
  if (::geteuid() != 0 || ::unshare(CLONE_NEWNET) != 0) {
    GTEST_SKIP() << "cannot create a network namespace";
  }
  policy::Numbers numbers;
  Identities book(scratch_file(), numbers);
  handshake::Proved proved(1, 64);
  auto verifier = Verifier::start(2, book, proved);
  ASSERT_TRUE(verifier) << verifier.error().text();
  (*verifier)->set_policy(std::make_shared<const policy::Policy>());
  (*verifier)->set_trust(credentials::Trust::local().value());
  for (int round = 0; round < 20; round++) {
    auto sockets = PointSockets::open((*verifier)->threads());
    // The threads may still be closing the sockets of the previous round.
    for (int i = 0; !sockets && i < 500; i++) {
      std::this_thread::yield();
      sockets = PointSockets::open((*verifier)->threads());
    }
    ASSERT_TRUE(sockets) << sockets.error().text();
    (*verifier)->add_point(7, std::move(*sockets));
    (*verifier)->open_queues();
    for (policy::Number number = 16; number < 40; number++) {
      (*verifier)->add_local(
          std::make_shared<const handshake::LocalIdentity>(number, labels(std::to_string(number))),
          handshake::kHome);
    }
    (*verifier)->set_policy(std::make_shared<const policy::Policy>());
    (*verifier)->set_trust(credentials::Trust::local().value());
    (*verifier)->set_peers({}, {});
    EXPECT_EQ((*verifier)->statistics().packets, 0U);
    EXPECT_TRUE((*verifier)->take_events().empty());
    for (policy::Number number = 16; number < 40; number++) {
      (*verifier)->remove_local(number);
    }
    (*verifier)->remove_point(7);
  }
}

/// The threads do not know any workload right after the start.
TEST_F(PointQueues, KeepPacketsUntilTheyAreOpened) {
  kernel::NftBatch batch(kernel::kTestTable);
  batch.add_table();
  batch.add_chain("output", kernel::NftBaseChain{NF_INET_LOCAL_OUT, 0});
  kernel::NftRule request;
  request.meta(NFT_META_L4PROTO, 0).equal(0, kernel::NftBytes::u8(IPPROTO_TCP));
  const auto mechanism = kernel::probe_queue();
  ASSERT_TRUE(mechanism) << mechanism.error().text();
  batch.add_rule("output", request.queue(*mechanism, abi::kFirstQueue));
  commit(std::move(batch));
  policy::Numbers numbers;
  Identities book(scratch_file(), numbers);
  handshake::Proved proved(1, 64);
  auto verifier = Verifier::start(1, book, proved);
  ASSERT_TRUE(verifier) << verifier.error().text();
  auto sockets = PointSockets::open(1);
  ASSERT_TRUE(sockets) << sockets.error().text();
  (*verifier)->set_trust(credentials::Trust::local().value());
  (*verifier)->add_point(7, std::move(*sockets));

  const Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_in to{.sin_family = AF_INET,
                       .sin_port = htons(9),
                       .sin_addr = {htonl(INADDR_LOOPBACK)},
                       .sin_zero = {}};
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), -1);
  // Each call waits for the thread, so it would have read its queue by now if it did so at all.
  for (int i = 0; i < 3; i++) {
    (*verifier)->set_policy(std::make_shared<const policy::Policy>());
  }
  EXPECT_EQ((*verifier)->statistics().packets, 0U);
  (*verifier)->open_queues();
  for (int i = 0; i < kernel::kPatience && (*verifier)->statistics().packets == 0; i++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_GE((*verifier)->statistics().packets, 1U) << "the packet has waited in the queue";
}

TEST(Verifier, TakesEveryQueueOrNone) {
  if (::geteuid() != 0 || ::unshare(CLONE_NEWNET) != 0) {
    GTEST_SKIP() << "cannot create a network namespace";
  }
  const auto first = PointSockets::open(2);
  ASSERT_TRUE(first) << first.error().text();
  EXPECT_FALSE(PointSockets::open(2)) << "another daemon has them";
}

}  // namespace
}  // namespace trireme::verifier
