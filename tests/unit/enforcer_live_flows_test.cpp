// SPDX-License-Identifier: Apache-2.0
// Open flows while policy, workloads or the daemon change.
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
  enrol(web, labeled("app", "web"));
  enrol(db, labeled("app", "db"));
  open(policy_of({allow(selector("app=web"), selector("app=db"))}));
  enrol(web, labeled("app", "web"));
  enrol(db, labeled("app", "db"));
  ASSERT_TRUE(start());
  const Connection revoked = connection(web, listener);
  const Connection kept = connection(web, same);
  EXPECT_TRUE(passes(revoked.client, revoked.server));
  EXPECT_EQ(flows_with(abi::kAuthorized), 2U);
  EXPECT_EQ(enforcer_->revoke(), 0U) << "policy allows both";
  ASSERT_TRUE(apply(std::make_shared<policy::Policy>()));
  EXPECT_FALSE(passes(revoked.client, revoked.server)) << "the gate blocks it without revoke()";
  EXPECT_EQ(enforcer_->revoke(false), 1U);
  EXPECT_FALSE(is_ended(revoked.client)) << "it is not known yet who stays a workload";
  EXPECT_FALSE(passes(revoked.client, revoked.server));
  EXPECT_EQ(enforcer_->revoke(), 0U);
  EXPECT_EQ(flows_with(abi::kAuthorized), 1U);
  EXPECT_TRUE(is_ended(revoked.client)) << "both processes get an error";
  EXPECT_TRUE(is_ended(revoked.server));
  EXPECT_TRUE(passes(kept.client, kept.server));
  EXPECT_TRUE(passes(kept.server, kept.client));
}

TEST_F(LiveFlows, AFlowOfAnEarlierDaemonSpeaksForNoNewcomer) {
  const std::string a = make("a");
  const std::string b = make("b");
  const Fd listener = listen_in(a);
  enrol(a, labeled("app", "web"));
  enrol(b, labeled("app", "web"));
  ASSERT_TRUE(start());
  const Connection old = connection(b, listener);
  EXPECT_TRUE(passes(old.client, old.server));
  ASSERT_EQ(flows_with(abi::kAuthorized), 1U);
  // The daemon ended, and the table and the records were removed. A later daemon gives the same
  // numbers to other workloads.
  open(std::make_shared<policy::Policy>());
  delete_table();
  EXPECT_EQ(enforcer_->revoke(), 1U) << "before numbers are assigned";
  EXPECT_EQ(flows_with(abi::kFlowBits), 0U);
  EXPECT_EQ(enrol(a, labeled("app", "x")), abi::kFirstNumber);
  EXPECT_EQ(enrol(b, labeled("app", "y")), abi::kFirstNumber + 1);
  ASSERT_TRUE(start());
  EXPECT_FALSE(passes(old.client, old.server));
  EXPECT_EQ(flows_with(abi::kAuthorized), 0U);
}

TEST_F(LiveFlows, AFlushLeavesNothingThatCouldSpeak) {
  const std::string a = make("a");
  const Fd listener = listen_in(a);
  const Fd plain = listen_in("");
  enrol(a, labeled("app", "web"));
  ASSERT_TRUE(start());
  const Connection own = connection(a, listener);
  const Connection others = connection("", plain);
  EXPECT_EQ(flows_with(abi::kAuthorized), 1U);
  const auto flushed = flush(*tree_, base_);
  ASSERT_TRUE(flushed) << flushed.error().text();
  EXPECT_TRUE(flushed->table);
  EXPECT_EQ(flows_with(abi::kFlowBits), 0U);
  EXPECT_FALSE(*kernel::NftSocket::open()->table_exists(abi::kTable));
  EXPECT_TRUE(passes(own.client, own.server)) << "everything passes again";
  const auto again = flush(*tree_, base_);
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->table);
}

/// A process has sockets and connections before its cgroup becomes a workload.
class NewWorkload : public EnforcerTest {
 protected:
  void start_with_child() {
    path_ = make("late");
    child_ = ::fork();
    if (child_ == 0) {
      ::pause();
      ::_exit(0);
    }
    // reevaluate_new() ignores a cgroup without processes.
    ASSERT_TRUE(tree_->place(path_, static_cast<std::uint32_t>(child_)));
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
  enrol(path_, labeled("app", "web"));
  EXPECT_FALSE(passes(in.client, in.server));
  EXPECT_FALSE(passes(out.client, out.server));
  EXPECT_EQ(enforcer_->reevaluate_new(), 2U);
  EXPECT_EQ(enforcer_->reevaluate_new(), 0U) << "only once";
  EXPECT_TRUE(is_ended(in.client));
  EXPECT_TRUE(is_ended(in.server));
  EXPECT_TRUE(is_ended(out.client));
  EXPECT_TRUE(is_ended(out.server));
  EXPECT_TRUE(passes(others.client, others.server)) << "no workload is involved";
}

/// Quarantine drops what its connections carry and ends none: nobody knows yet who may keep them.
TEST_F(NewWorkload, ItsConnectionsAreJudgedWhenItLeavesQuarantine) {
  start_with_child();
  const Connection in = connection("", listener_);
  ASSERT_TRUE(quarantine(ref(path_)));
  ASSERT_TRUE(enforcer_->reevaluate_new());
  EXPECT_FALSE(is_ended(in.client));
  enrol(path_, labeled("app", "web"));
  ASSERT_TRUE(enforcer_->reevaluate_new());
  EXPECT_TRUE(is_ended(in.client));
  EXPECT_TRUE(is_ended(in.server));
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
  enrol(path_, labeled("app", "web"));
  // The segment that completes the handshake meets a half-open request and is judged at its
  // listener.
  EXPECT_EQ(::send(client.get(), "x", 1, MSG_NOSIGNAL), 1);
  EXPECT_FALSE(readable(listener_, 300));
}

TEST_F(NewWorkload, WhatFailedIsTriedAgain) {
  start_with_child();
  const Connection in = connection("", listener_);
  enrol(path_, labeled("app", "web"));
  {
    const Powerless powerless;
    EXPECT_FALSE(enforcer_->reevaluate_new());
  }
  EXPECT_FALSE(readable(in.client, 0)) << "not closed yet";
  EXPECT_EQ(enforcer_->reevaluate_new(), 1U);
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
  enrol(path_, labeled("app", "web"));
  EXPECT_EQ(enforcer_->reevaluate_new(), 1U);
  EXPECT_FALSE(passes(client, server));
}

/// Sockets are listed once, however many cgroups a user creates below the workload's.
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
  enrol(path_, labeled("app", "web"));
  EXPECT_EQ(enforcer_->reevaluate_new(), 1U) << "and no others";
  EXPECT_FALSE(passes(client, server));
  EXPECT_TRUE(passes(second, others));
}

TEST_F(NewWorkload, WhoIsReleasedKeepsNoConnectionThatItsLabelsAllowed) {
  start_with_child();
  const std::string web = make("web");
  const policy::Number number = enrol(path_, labeled("app", "web"));
  enrol(web, labeled("app", "web"));
  ASSERT_TRUE(enforcer_->reevaluate_new());
  const Connection in = connection(web, listener_);
  EXPECT_TRUE(passes(in.client, in.server));
  ASSERT_TRUE(end(ref(path_), number));
  EXPECT_FALSE(passes(in.client, in.server)) << "it is @host's now";
  EXPECT_TRUE(enforcer_->reevaluate_new());
  EXPECT_TRUE(is_ended(in.client)) << "both processes get an error";
  EXPECT_TRUE(is_ended(in.server));
}

/// Both ends are @host's when it is released, so no policy ends its connections. Stands for one to
/// another network namespace, whose enforcement point would keep the labels.
TEST_F(NewWorkload, WhoIsReleasedKeepsNoConnectionInWhichItProvedLabels) {
  start_with_child();
  const Connection in = connection("", listener_);
  const Fd plain = listen_in("");
  const Connection others = connection("", plain);
  ASSERT_TRUE(end(ref(path_), enrol(path_, labeled("app", "web"))));
  EXPECT_TRUE(enforcer_->reevaluate_new());
  EXPECT_TRUE(passes(in.client, in.server)) << "nothing was proved";
  common_->is_proved = [](const handshake::FlowKey& key) {
    return key.role == handshake::Role::server;
  };
  ASSERT_TRUE(end(ref(path_), enrol(path_, labeled("app", "web"))));
  EXPECT_TRUE(enforcer_->reevaluate_new());
  EXPECT_TRUE(is_ended(in.client));
  EXPECT_TRUE(is_ended(in.server));
  EXPECT_TRUE(passes(others.client, others.server)) << "of a process that was no workload";
}

TEST_F(NewWorkload, AuditModeEndsNoConnectionOfWhoIsReleased) {
  auto audit = std::make_shared<policy::Policy>();
  audit->mode = policy::Mode::audit;
  open(audit);
  start_with_child();
  const Connection in = connection("", listener_);
  common_->is_proved = [](const handshake::FlowKey& /*key*/) { return true; };
  ASSERT_TRUE(end(ref(path_), enrol(path_, labeled("app", "web"))));
  EXPECT_TRUE(enforcer_->reevaluate_new());
  EXPECT_TRUE(passes(in.client, in.server));
}

/// After the last workload of a network namespace no rules are left there.
TEST_F(NewWorkload, WithoutRulesNoConnectionWithProvedLabelsIsLeft) {
  start_with_child();
  const Connection in = connection("", listener_);
  common_->is_proved = [](const handshake::FlowKey& key) {
    return key.role == handshake::Role::client;
  };
  ASSERT_TRUE(end(ref(path_), enrol(path_, labeled("app", "web"))));
  ASSERT_TRUE(enforcer_->remove());
  EXPECT_TRUE(is_ended(in.client));
  EXPECT_TRUE(is_ended(in.server));
}

/// The entry of a flow with tokens stays: a new one would have no label, and what the client sends
/// to a workload would reach a process that is none.
TEST_F(NewWorkload, DatagramsWithTokensDoNotReachWhoIsReleased) {
  open(policy_of({allow(policy::Entity{policy::Entity::Kind::host, 0}, selector("app=web"))}));
  start_with_child();
  const policy::Number number = enrol(path_, labeled("app", "web"));
  const Fd server = socket_in(path_, SOCK_DGRAM);
  const sockaddr_in any = loopback(0);
  ASSERT_EQ(::bind(server.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any), 0);
  const Fd client = socket_in("", SOCK_DGRAM);
  ASSERT_EQ(connect(client, port_of(server)), 0);
  EXPECT_TRUE(passes(client, server));
  ASSERT_EQ(flows_with(abi::kAuthorized), 1U);
  auto conntrack = kernel::Conntrack::open();
  std::vector<kernel::TrackedFlow> flows;
  ASSERT_TRUE(conntrack && conntrack->each([&flows](const kernel::TrackedFlow& flow) {
    flows.push_back(flow);
  }));
  for (const kernel::TrackedFlow& flow : flows) {
    EXPECT_TRUE(conntrack->set_label_bits(flow, abi::kToken));
  }
  ASSERT_TRUE(end(ref(path_), number));
  EXPECT_TRUE(enforcer_->reevaluate_new());
  EXPECT_EQ(flows_with(abi::kToken), 1U);
  EXPECT_EQ(flows_with(abi::kAuthorized), 0U);
}

}  // namespace
}  // namespace trireme::enforcer
