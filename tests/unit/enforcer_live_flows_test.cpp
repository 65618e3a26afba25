// SPDX-License-Identifier: Apache-2.0
// Flows that are alive while policy, workloads or the daemon change.
#include <netinet/tcp.h>
#include <sys/wait.h>

#include <csignal>

#include "enforcer_support.hpp"

namespace trireme::enforcer {
namespace {

using LiveFlows = EnforcerTest;

TEST_F(LiveFlows, ARevokedFlowEndsAndAnAllowedOneGoesOn) {
  const std::string web = make("web");
  const std::string db = make("db");
  const Fd listener = listen_in(db);
  const Fd same = listen_in(web);
  enrol(web, labelled("app", "web"));
  enrol(db, labelled("app", "db"));
  open(policy_of({allow(selector("app=web"), selector("app=db"))}));
  enrol(web, labelled("app", "web"));
  enrol(db, labelled("app", "db"));
  ASSERT_TRUE(start());
  const Connection revoked = connection(web, listener);
  const Connection kept = connection(web, same);
  EXPECT_TRUE(passes(revoked.client, revoked.server));
  EXPECT_EQ(flows_with(kAuthorised), 2U);
  EXPECT_EQ(enforcer_->revoke(), 0U) << "policy allows both";
  ASSERT_TRUE(apply(std::make_shared<policy::Policy>()));
  EXPECT_FALSE(passes(revoked.client, revoked.server)) << "the gate decides by itself";
  EXPECT_EQ(enforcer_->revoke(), 1U);
  EXPECT_EQ(flows_with(kAuthorised), 1U);
  EXPECT_TRUE(is_ended(revoked.client)) << "and both ends hear of it";
  EXPECT_TRUE(is_ended(revoked.server));
  EXPECT_TRUE(passes(kept.client, kept.server));
  EXPECT_TRUE(passes(kept.server, kept.client));
}

TEST_F(LiveFlows, AFlowOfAnEarlierDaemonSpeaksForNoNewcomer) {
  const std::string a = make("a");
  const std::string b = make("b");
  const Fd listener = listen_in(a);
  enrol(a, labelled("app", "web"));
  enrol(b, labelled("app", "web"));
  ASSERT_TRUE(start());
  const Connection old = connection(b, listener);
  EXPECT_TRUE(passes(old.client, old.server));
  ASSERT_EQ(flows_with(kAuthorised), 1U);
  // The daemon has gone, somebody took the table and the records away; a later one gives the same
  // numbers to others.
  open(std::make_shared<policy::Policy>());
  delete_table();
  EXPECT_EQ(enforcer_->revoke(), 1U) << "before numbers are given";
  EXPECT_EQ(flows_with(kFlowBits), 0U);
  EXPECT_EQ(enrol(a, labelled("app", "x")), policy::kFirstNumber);
  EXPECT_EQ(enrol(b, labelled("app", "y")), policy::kFirstNumber + 1);
  ASSERT_TRUE(start());
  EXPECT_FALSE(passes(old.client, old.server));
  EXPECT_EQ(flows_with(kAuthorised), 0U);
}

TEST_F(LiveFlows, AFlushLeavesNothingThatCouldSpeak) {
  const std::string a = make("a");
  const Fd listener = listen_in(a);
  const Fd plain = listen_in("");
  enrol(a, labelled("app", "web"));
  ASSERT_TRUE(start());
  const Connection own = connection(a, listener);
  const Connection others = connection("", plain);
  EXPECT_EQ(flows_with(kAuthorised), 1U);
  const auto flushed = flush(*tree_, base_);
  ASSERT_TRUE(flushed) << flushed.error().text();
  EXPECT_TRUE(flushed->table);
  EXPECT_EQ(flows_with(kFlowBits), 0U);
  EXPECT_FALSE(*kernel::NftSocket::open()->table_exists(kTable));
  EXPECT_TRUE(passes(own.client, own.server)) << "everything passes again";
  const auto again = flush(*tree_, base_);
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->table);
}

/// A process listens and talks before it becomes a workload.
class NewWorkload : public EnforcerTest {
 protected:
  void start_with_child() {
    path_ = make("late");
    child_ = ::fork();
    if (child_ == 0) {
      ::pause();
      ::_exit(0);
    }
    ASSERT_TRUE(tree_->place(path_, static_cast<std::uint32_t>(
                                        child_)));  // a cgroup without a process has no old sockets
    listener_ = listen_in(path_);
    ASSERT_TRUE(start());
  }
  void TearDown() override {
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
    EnforcerTest::TearDown();
  }

  std::string path_;
  pid_t child_ = -1;
  Fd listener_;
};

TEST_F(NewWorkload, ItsConnectionsAreJudgedAnew) {
  start_with_child();
  const Connection in = connection("", listener_);
  const Fd plain = listen_in("");
  const Connection out = connection(path_, plain);
  const Connection others = connection("", plain);
  enrol(path_, labelled("app", "web"));
  EXPECT_FALSE(passes(in.client, in.server));
  EXPECT_FALSE(passes(out.client, out.server));
  EXPECT_EQ(enforcer_->settle(), 2U);
  EXPECT_EQ(enforcer_->settle(), 0U) << "once";
  EXPECT_TRUE(is_ended(in.client));
  EXPECT_TRUE(is_ended(in.server));
  EXPECT_TRUE(is_ended(out.client));
  EXPECT_TRUE(is_ended(out.server));
  EXPECT_TRUE(passes(others.client, others.server)) << "nobody's business";
}

TEST_F(NewWorkload, AHandshakeUnderWayIsJudgedAnew) {
  start_with_child();
  const int seconds = 30;
  ASSERT_EQ(::setsockopt(listener_.get(), IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds),
            0);
  const Fd client = socket_in("");
  ASSERT_EQ(connect(client, port_of(listener_)), 0)
      << "the client is connected, the listener has a request and no socket yet";
  EXPECT_FALSE(readable(listener_, 0));
  enrol(path_, labelled("app", "web"));
  // The segment that ends the handshake meets a request, and is judged at its listener.
  EXPECT_EQ(::send(client.get(), "x", 1, MSG_NOSIGNAL), 1);
  EXPECT_FALSE(readable(listener_, 300));
}

TEST_F(NewWorkload, WhatFailedIsTriedAgain) {
  start_with_child();
  const Connection in = connection("", listener_);
  enrol(path_, labelled("app", "web"));
  {
    const Powerless powerless;
    EXPECT_FALSE(enforcer_->settle());
  }
  EXPECT_FALSE(readable(in.client, 0)) << "not ended yet";
  EXPECT_EQ(enforcer_->settle(), 1U);
  EXPECT_TRUE(is_ended(in.client));
}

TEST_F(NewWorkload, ItsDatagramsAreJudgedAnew) {
  start_with_child();
  const Fd server = socket_in(path_, SOCK_DGRAM);
  const sockaddr_in any = loopback(0);
  ASSERT_EQ(::bind(server.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any), 0);
  const Fd client = socket_in("", SOCK_DGRAM);
  ASSERT_EQ(connect(client, port_of(server)), 0);
  EXPECT_TRUE(passes(client, server));
  enrol(path_, labelled("app", "web"));
  EXPECT_EQ(enforcer_->settle(), 1U);
  EXPECT_FALSE(passes(client, server));
}

/// However many cgroups a user makes below the workload's, sockets are looked through once.
TEST_F(NewWorkload, DatagramsFromCgroupsBelowItAreJudgedAnew) {
  start_with_child();
  std::string path = path_;
  for (int i = 0; i < 3; i++) {
    path += "/below";
    ASSERT_TRUE(tree_->create(path));
  }
  const Fd server = socket_in(path, SOCK_DGRAM);
  const Fd others = socket_in("", SOCK_DGRAM);
  const sockaddr_in any = loopback(0);
  for (const Fd* socket : {&server, &others}) {
    ASSERT_EQ(::bind(socket->get(), reinterpret_cast<const sockaddr*>(&any), sizeof any), 0);
  }
  const Fd client = socket_in("", SOCK_DGRAM);
  const Fd second = socket_in("", SOCK_DGRAM);
  ASSERT_EQ(connect(client, port_of(server)), 0);
  ASSERT_EQ(connect(second, port_of(others)), 0);
  EXPECT_TRUE(passes(client, server));
  EXPECT_TRUE(passes(second, others));
  enrol(path_, labelled("app", "web"));
  EXPECT_EQ(enforcer_->settle(), 1U) << "and no others";
  EXPECT_FALSE(passes(client, server));
  EXPECT_TRUE(passes(second, others));
}

}  // namespace
}  // namespace trireme::enforcer
