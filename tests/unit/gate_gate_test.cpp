// SPDX-License-Identifier: Apache-2.0
// The gate with real sockets: which connections over lo are allowed.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <netinet/in.h>

#include <linux/tcp.h>

#include <gmock/gmock.h>

#include <chrono>
#include <thread>

#include "gate_support.hpp"

namespace trireme::gate {
namespace {

class Families : public GateTest, public ::testing::WithParamInterface<int> {};
INSTANTIATE_TEST_SUITE_P(Gate, Families, ::testing::Values(AF_INET, AF_INET6),
                         [](const auto& tried) {
                           return tried.param == AF_INET ? "IPv4" : "IPv6";
                         });

TEST_P(Families, BaselineLetsSameLabelsTalkAndNobodyElse) {
  const std::string a = workload("a", "web");
  const std::string b = workload("b", "web");
  const std::string other = workload("c", "db");
  EXPECT_TRUE(talks(a, b, GetParam()));
  EXPECT_TRUE(talks(a, a, GetParam()));
  EXPECT_TRUE(talks(plain_, plain_, GetParam()));
  for (const auto& [from, to] : {std::pair{a, other}, {other, a}, {plain_, a}, {a, plain_}}) {
    EXPECT_FALSE(talks(from, to, GetParam())) << from << " to " << to;
  }
  for (const bool connected : {true, false}) {
    EXPECT_TRUE(exchanges(a, b, GetParam(), connected));
    EXPECT_TRUE(exchanges(plain_, plain_, GetParam(), connected));
    for (const auto& [from, to] : {std::pair{a, other}, {other, a}, {plain_, a}, {a, plain_}}) {
      EXPECT_FALSE(exchanges(from, to, GetParam(), connected)) << from << " to " << to;
    }
  }
}

TEST_P(Families, RuleOpensItsDirectionAndPortsOnly) {
  const std::string web = workload("web", "web");
  const std::string db = workload("db", "db");
  const Fd open_port = listen_in(db, GetParam());
  const Fd shut_port = listen_in(db, GetParam());
  policy::Policy policy;
  policy.rules.push_back(allow(workloads("app=web"), workloads("app=db"),
                               {{IPPROTO_TCP, port_of(open_port), port_of(open_port)}}));
  load(policy);
  const Connection made = connect_from(web, open_port);
  ASSERT_TRUE(made.server.valid());
  EXPECT_TRUE(passes(made.client, made.server));
  EXPECT_TRUE(passes(made.server, made.client)) << "the answer of the server";
  EXPECT_FALSE(connect_from(web, shut_port).server.valid());
  EXPECT_FALSE(talks(db, web, GetParam()));
}

TEST_P(Families, AnswerComesBackToWhoAsked) {
  const std::string web = workload("web", "web");
  const std::string db = workload("db", "db");
  policy::Policy policy;
  policy.rules.push_back(allow(workloads("app=web"), workloads("app=db")));
  load(policy);
  EXPECT_TRUE(talks(web, db, GetParam()));
  EXPECT_FALSE(talks(db, web, GetParam())) << "db may answer web, but not connect to it";
  for (const bool connected : {true, false}) {
    EXPECT_TRUE(exchanges(web, db, GetParam(), connected));
    EXPECT_FALSE(exchanges(db, web, GetParam(), connected));
  }
}

TEST_P(Families, HostByRule) {
  const std::string web = workload("web", "web");
  policy::Policy policy;
  policy.rules.push_back(allow(host(), workloads("app=web")));
  load(policy);
  EXPECT_TRUE(talks(plain_, web, GetParam()));
  EXPECT_TRUE(exchanges(plain_, web, GetParam(), false));
  EXPECT_FALSE(talks(web, plain_, GetParam()));
}

/// If a [[network]] contains some addresses of this host, verdicts about @host depend on the
/// address.
TEST_F(GateTest, HostAtAnAddressOfANetwork) {
  const std::string web = workload("web", "web");
  policy::Policy policy;
  const auto prefix = policy::Prefix::parse("127.0.0.1/32");
  ASSERT_TRUE(prefix);
  policy.networks.push_back({.name = "here", .cidrs = {*prefix}, .names = {}, .where = {}});
  policy.rules.push_back(allow(
      workloads("app=web"), policy::Entity{.kind = policy::Entity::Kind::network, .network = 0}));
  load(policy);
  EXPECT_TRUE(talks(web, plain_, AF_INET));
  EXPECT_FALSE(talks(web, plain_, AF_INET6));
}

TEST_F(GateTest, NobodyOutsideTheTreeReachesAWorkload) {
  const std::string web = workload("web", "web");
  policy::Policy policy;
  policy.rules.push_back(allow(host(), workloads("app=web")));
  load(policy);
  EXPECT_TRUE(talks(plain_, web));
  EXPECT_FALSE(talks(home_, web)) << "its socket is not in a cgroup of the gate's tree";
  EXPECT_TRUE(talks(home_, plain_)) << "neither end is a workload";
  EXPECT_GT(gate_->refusals().value_or(Refusals{}).unstamped, 0U);
}

TEST_F(GateTest, PriorityOfTheSocketIsNoStamp) {
  const std::string a = workload("a", "web");
  const std::string b = workload("b", "web");
  const Fd listener = listen_in(b);
  for (const std::string& from : {plain_, home_}) {
    const Fd client = socket_in(from, AF_INET, SOCK_STREAM);
    const int forged = static_cast<int>(0xe7000000U | numbers_.at(a));
    ASSERT_EQ(::setsockopt(client.get(), SOL_SOCKET, SO_PRIORITY, &forged, sizeof forged), 0);
    if (from == plain_) {
      EXPECT_NE(connect(client, port_of(listener)), 0);
    }
  }
  const Connection made = connect_from(a, listener);
  const int plain = 6;
  ASSERT_EQ(::setsockopt(made.client.get(), SOL_SOCKET, SO_PRIORITY, &plain, sizeof plain), 0);
  EXPECT_TRUE(passes(made.client, made.server)) << "a priority for quality of service";
}

TEST_F(GateTest, DeepestCgroupDecides) {
  const std::string outer = workload("outer", "web");
  std::string path = "outer";
  for (int level = 0; level < 8; level++) {
    path += "/n";
    make(path);
  }
  const std::string inner = workload(path, "db");
  const std::string beneath = make(path + "/below");
  const std::string between = make("outer/n/side");
  const std::string db = workload("db", "db");
  EXPECT_TRUE(talks(inner, db));
  EXPECT_TRUE(talks(beneath, db));
  EXPECT_TRUE(talks(between, outer));
  EXPECT_FALSE(talks(inner, outer));
  EXPECT_FALSE(talks(between, db));
}

TEST_F(GateTest, SocketThatOutlivesItsWorkloadIsRefused) {
  const std::string a = workload("a", "web");
  const std::string b = workload("b", "web");
  policy::Policy policy;
  policy.rules.push_back(allow(host(), workloads("app=web")));
  policy.rules.push_back(allow(workloads("app=web"), host()));
  load(policy);
  const Fd listener = listen_in(a);
  const Connection made = connect_from(b, listener);
  ASSERT_TRUE(passes(made.client, made.server));
  const Fd spare = socket_in(a, AF_INET, SOCK_STREAM);

  const std::uint64_t gone = id(a);
  ASSERT_TRUE(tree_->remove(a)) << "the test still has its sockets";
  must(gate_->end(gone));
  EXPECT_FALSE(passes(made.client, made.server));
  EXPECT_FALSE(passes(made.server, made.client));
  EXPECT_NE(connect_from(plain_, listener).error, 0);
  EXPECT_NE(connect(spare, port_of(listen_in(plain_))), 0) << "it does not become @host";
}

TEST_P(Families, ConnectionThatItsWorkloadClosedEndsAtTheOtherEndToo) {
  const std::string a = workload("a", "web");
  const std::string b = workload("b", "web");
  const Fd listener = listen_in(b, GetParam());
  Connection made = connect_from(a, listener);
  ASSERT_TRUE(passes(made.client, made.server));
  made.client.reset();
  const std::uint64_t gone = id(a);
  ASSERT_TRUE(tree_->remove(a)) << "the connection still has the cgroup";
  must(gate_->end(gone));
  const std::uint64_t before = gate_->refusals().value_or(Refusals{}).ended;
  ASSERT_EQ(::shutdown(made.server.get(), SHUT_WR), 0);
  tcp_info info{};
  socklen_t size = sizeof info;
  EXPECT_TRUE(readable(made.server, 1000));
  ASSERT_EQ(::getsockopt(made.server.get(), IPPROTO_TCP, TCP_INFO, &info, &size), 0);
  EXPECT_EQ(info.tcpi_state, BPF_TCP_CLOSE) << "its FIN was acknowledged";
  EXPECT_EQ(gate_->refusals().value_or(Refusals{}).ended, before);
}

TEST_P(Families, ConnectionThatIsHeldTakesNoDataWhenItsSendingDirectionIsClosed) {
  const std::string a = workload("a", "web");
  const std::string b = workload("b", "web");
  const Fd listener = listen_in(b, GetParam());
  const Connection made = connect_from(a, listener);
  ASSERT_EQ(::shutdown(made.client.get(), SHUT_WR), 0);
  ASSERT_TRUE(passes(made.server, made.client));
  const std::uint64_t gone = id(a);
  ASSERT_TRUE(tree_->remove(a));
  must(gate_->end(gone));
  EXPECT_FALSE(passes(made.server, made.client));
}

/// Connections of a process that ended still deliver what was written, on lo and on other devices.
class Closed : public GateTest {
 protected:
  void SetUp() override {
    GateTest::SetUp();
    if (HasFatalFailure() || IsSkipped()) {
      return;
    }
    a_ = workload("a", "web");
    b_ = workload("b", "web");
    made_ = connection_from(a_);
  }
  /// Writes as much as the socket accepts; `written_` is the number of bytes.
  Connection connection_from(const std::string& path) {
    const Fd listener = listen_in(b_);
    const int small = 4096;
    ::setsockopt(listener.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    Connection made = connect_from(path, listener);
    EXPECT_EQ(made.error, 0);
    const std::array<char, 10'000> piece{};
    written_ = 0;
    for (ssize_t sent = 0; sent >= 0; written_ += static_cast<std::size_t>(sent)) {
      sent = ::send(made.client.get(), piece.data(), piece.size(), MSG_DONTWAIT);
      if (sent < 0) {
        break;
      }
    }
    EXPECT_GT(written_, 4U * small) << "more than fits the receive buffer";
    return made;
  }
  /// Removes the cgroup, as happens when the last process of a workload ends.
  void end() {
    const std::uint64_t gone = id(a_);
    ASSERT_TRUE(tree_->remove(a_));
    must(gate_->end(gone));
  }
  /// The number of bytes that arrive, and whether the connection ends.
  std::pair<std::size_t, bool> arrived() {
    std::array<char, 65'536> buffer{};
    std::size_t total = 0;
    while (readable(made_.server, 1500)) {
      const ssize_t got = ::recv(made_.server.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got <= 0) {
        return {total, got == 0};
      }
      total += static_cast<std::size_t>(got);
    }
    return {total, false};
  }
  std::string a_, b_;
  Connection made_;
  std::size_t written_ = 0;
};

TEST_F(Closed, ConnectionDeliversWhatWasWritten) {
  made_.client.reset();
  end();
  EXPECT_EQ(arrived(), std::pair(written_, true));
}

TEST_F(Closed, ConnectionThatIsHeldDeliversNothing) {
  end();
  const auto [bytes, ended] = arrived();
  EXPECT_LT(bytes, written_);
  EXPECT_FALSE(ended);
}

TEST_F(Closed, ConnectionThatWasUsedAfterTheEndDeliversNothing) {
  const auto before = arrived().first;
  EXPECT_EQ(before, written_);
  end();
  EXPECT_FALSE(passes(made_.client, made_.server));
  made_.client.reset();
  EXPECT_EQ(arrived(), std::pair(std::size_t{0}, false));
}

TEST_F(Closed, ConnectionOfAQuarantinedWorkloadDeliversNothing) {
  made_.client.reset();
  must(gate_->set(id(a_), abi::kQuarantine));
  end();
  const auto [bytes, ended] = arrived();
  EXPECT_LT(bytes, written_);
  EXPECT_FALSE(ended);
}

/// A process that closes the socket after the removal is not the workload's, and TCP may still hold
/// data that this process wrote.
TEST_F(Closed, ConnectionThatSomebodyElseClosesDeliversNothing) {
  EXPECT_EQ(arrived().first, written_);
  end();
  ASSERT_EQ(::send(made_.client.get(), "secret", 6, MSG_MORE), 6)
      << "TCP holds back less than a segment";
  made_.client.reset();
  EXPECT_EQ(arrived(), std::pair(std::size_t{0}, false));
}

TEST_F(Closed, ConnectionThatSomebodyElseClosesWithAFullWindowDeliversNothing) {
  end();
  made_.client.reset();
  const auto [bytes, ended] = arrived();
  EXPECT_LT(bytes, written_);
  EXPECT_FALSE(ended);
}

TEST_F(Closed, ConnectionThatSomebodyElseFinishesDeliversNothing) {
  EXPECT_EQ(arrived().first, written_);
  end();
  ASSERT_EQ(::send(made_.client.get(), "secret", 6, MSG_MORE), 6);
  ASSERT_EQ(::shutdown(made_.client.get(), SHUT_WR), 0);
  EXPECT_EQ(arrived(), std::pair(std::size_t{0}, false));
  made_.client.reset();
  EXPECT_EQ(arrived(), std::pair(std::size_t{0}, false));
}

/// A process that has the socket can exhaust the memory that the kernel allows for its storage.
TEST_F(Closed, ConnectionWithoutRoomForAMarkDeliversNothing) {
  EXPECT_EQ(arrived().first, written_);
  end();
  tcp_md5sig key{};
  auto& peer = reinterpret_cast<sockaddr_in&>(key.tcpm_addr);
  peer.sin_family = AF_INET;
  key.tcpm_keylen = 1;
  std::uint32_t keys = 0;
  do {
    peer.sin_addr.s_addr = htonl(0xc6336400U + ++keys);
  } while (::setsockopt(made_.client.get(), IPPROTO_TCP, TCP_MD5SIG, &key, sizeof key) == 0);
  if (errno != ENOMEM) {
    GTEST_SKIP() << "the kernel has no TCP_MD5SIG";
  }
  ASSERT_EQ(::send(made_.client.get(), "secret", 6, 0), 6);
  made_.client.reset();
  EXPECT_EQ(arrived(), std::pair(std::size_t{0}, false));
}

/// The workload shut down one direction, and another process still has the socket.
TEST_F(Closed, ConnectionThatIsHeldTakesNoData) {
  ASSERT_EQ(::shutdown(made_.client.get(), SHUT_WR), 0);
  end();
  const auto [bytes, ended] = arrived();
  EXPECT_LT(bytes, written_);
  EXPECT_FALSE(ended);
  EXPECT_FALSE(passes(made_.server, made_.client));
}

/// A cgroup below that of a workload has no number of its own.
TEST_F(Closed, ConnectionFromBelowTheWorkloadIsTheWorkloads) {
  const std::string below = make("a/below");
  made_ = connection_from(below);
  ASSERT_TRUE(tree_->remove(below));
  end();
  made_.client.reset();
  const auto [bytes, ended] = arrived();
  EXPECT_LT(bytes, written_);
  EXPECT_FALSE(ended);
}

TEST_F(Closed, ConnectionIsRememberedByALaterDaemon) {
  EXPECT_EQ(arrived().first, written_);
  end();
  ASSERT_EQ(::send(made_.client.get(), "secret", 6, MSG_MORE), 6);
  made_.client.reset();
  open({});
  EXPECT_EQ(arrived(), std::pair(std::size_t{0}, false));
}

TEST_F(GateTest, SocketsOfAnEarlierRunAreTheNextOnesWhereItIsSaid) {
  const std::string first = workload("first", "web");
  const std::string client = workload("client", "web");
  const Fd listener = listen_in(first);
  const std::uint64_t gone = id(first);
  ASSERT_TRUE(tree_->remove(first));
  must(gate_->end(gone));
  const std::string second = workload("second", "web");
  EXPECT_NE(connect_from(client, listener).error, 0) << "no daemon has given it a number";

  must(gate_->adopt(gone, numbers_.at(second)));
  const Connection made = connect_from(client, listener);
  EXPECT_EQ(made.error, 0);
  EXPECT_TRUE(passes(made.client, made.server));
  EXPECT_NE(connect_from(plain_, listener).error, 0);
  must(gate_->end(gone));
  EXPECT_FALSE(passes(made.client, made.server)) << "it ends when the service is started again";
}

TEST_F(GateTest, WhatHasNoSocketIsNotAdopted) {
  const std::uint64_t nobody = 1;
  must(gate_->adopt(nobody, abi::kFirstNumber));
  EXPECT_FALSE(gate_->number(nobody));
}

TEST_F(GateTest, KnowsWhetherItIsAttached) {
  const std::string a = workload("a", "web");
  const Fd listener = listen_in(a);
  EXPECT_NE(connect_from(plain_, listener).error, 0);
  EXPECT_TRUE(gate_->is_attached().value_or(false));
  const Fd top(::open(tree_->absolute(top_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::array<std::uint32_t, 8> ids{};
  std::uint32_t count = ids.size();
  ASSERT_EQ(bpf_prog_query(top.get(), BPF_CGROUP_INET_INGRESS, 0, nullptr, ids.data(), &count), 0);
  ASSERT_EQ(count, 1U);
  const Fd judge(bpf_prog_get_fd_by_id(ids[0]));
  ASSERT_EQ(bpf_prog_detach2(judge.get(), top.get(), BPF_CGROUP_INET_INGRESS), 0);
  EXPECT_EQ(connect_from(plain_, listener).error, 0);
  EXPECT_FALSE(gate_->is_attached().value_or(true));
  must(gate_->attach());
  EXPECT_TRUE(gate_->is_attached().value_or(false));
  EXPECT_NE(connect_from(plain_, listener).error, 0);
}

/// The kernel reports when the last socket of a removed cgroup is gone.
TEST_F(GateTest, NumberLastsAsLongAsTheLastSocket) {
  if (::access("/sys/kernel/btf/vmlinux", R_OK) != 0) {
    GTEST_SKIP() << "the kernel has no BTF";
  }
  const std::string a = workload("a", "web");
  Fd left = socket_in(a, AF_INET, SOCK_STREAM);
  const std::uint64_t gone = id(a);
  ASSERT_TRUE(tree_->remove(a));
  must(gate_->end(gone));
  const auto known = [&] {
    const auto numbers = gate_->numbers();
    return numbers && numbers->contains(gone);
  };
  EXPECT_TRUE(known());
  left.reset();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (known() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();  // the kernel frees cgroups asynchronously
  }
  EXPECT_FALSE(known());
  must(gate_->end(gone));
  EXPECT_FALSE(known()) << "a late event does not restore the number";
}

TEST_F(GateTest, ReleasedCgroupIsAnybodyAgain) {
  const std::string a = workload("a", "web");
  const Fd listener = listen_in(a);
  EXPECT_NE(connect_from(plain_, listener).error, 0);
  must(gate_->release(id(a)));
  EXPECT_TRUE(connect_from(plain_, listener).server.valid());
}

TEST_F(GateTest, QuarantineShutsAllBelowItAndOpensForWhoIsKnown) {
  const std::string slice = make("slice");
  must(gate_->set(id(slice), abi::kQuarantine));
  const std::string unknown = make("slice/unknown");
  const std::string known = workload("slice/known", "web");
  const std::string other = workload("other", "web");
  EXPECT_FALSE(talks(unknown, plain_));
  EXPECT_FALSE(talks(plain_, unknown));
  EXPECT_FALSE(talks(unknown, unknown));
  EXPECT_TRUE(talks(known, other));
}

TEST_F(GateTest, ReloadEndsWhatTheNewPolicyDoesNotAllow) {
  const std::string web = workload("web", "web");
  const std::string db = workload("db", "db");
  policy::Policy open;
  open.rules.push_back(allow(workloads("app=web"), workloads("app=db")));
  load(open);
  const Fd listener = listen_in(db);
  const Connection made = connect_from(web, listener);
  ASSERT_TRUE(passes(made.client, made.server));

  prepare({});
  EXPECT_TRUE(passes(made.client, made.server)) << "a packet passes if either policy allows it";
  must(gate_->finish());
  EXPECT_FALSE(passes(made.client, made.server));
  EXPECT_FALSE(passes(made.server, made.client));
  EXPECT_NE(connect_from(web, listener).error, 0);

  prepare(open);
  must(gate_->cancel());
  EXPECT_NE(connect_from(web, listener).error, 0) << "the canceled policy does not apply";
}

TEST_F(GateTest, AuditModeCountsAndLetsPass) {
  const std::string web = workload("web", "web");
  const std::string db = workload("db", "db");
  const std::string quarantined = make("quarantined");
  must(gate_->set(id(quarantined), abi::kQuarantine));
  policy::Policy policy;
  policy.mode = policy::Mode::audit;
  load(policy);
  EXPECT_TRUE(talks(web, db));
  EXPECT_TRUE(exchanges(plain_, db));
  EXPECT_GT(gate_->refusals().value_or(Refusals{}).audited, 0U);
  EXPECT_FALSE(talks(quarantined, plain_)) << "quarantine does not depend on the policy";
  load({});
  EXPECT_FALSE(talks(web, db));
}

TEST_F(GateTest, LaterDaemonTakesOver) {
  const std::string a = workload("a", "web");
  const std::string b = workload("b", "web");
  const Fd listener = listen_in(b);
  const Connection made = connect_from(a, listener);
  const std::uint64_t ended = id(make("ended"));
  must(gate_->set(ended, abi::kFirstNumber + 99));
  must(gate_->end(ended));

  EXPECT_FALSE(Gate::open(tree_->absolute(top_))) << "only one daemon can control a tree";
  gate_.reset();
  EXPECT_TRUE(passes(made.client, made.server)) << "the kernel goes on without a daemon";
  EXPECT_NE(connect_from(plain_, listener).error, 0);

  open({});
  EXPECT_TRUE(passes(made.client, made.server));
  EXPECT_NE(connect_from(plain_, listener).error, 0);
  const auto numbers = gate_->numbers();
  ASSERT_TRUE(numbers);
  EXPECT_EQ(numbers->at(ended), abi::kEnded);
  EXPECT_EQ(numbers->at(id(a)), numbers_.at(a));
}

TEST_F(GateTest, NoSecondGateBelowTheFirst) {
  make("inner");
  const auto inner = Gate::open(tree_->absolute(top_ + "/inner"));
  ASSERT_FALSE(inner);
  EXPECT_THAT(inner.error().message, ::testing::HasSubstr("a part of"));
}

/// A SO_REUSEPORT group whose classic BPF program selects a random member: nf_tables may look up
/// another member than the one that TCP selects.
TEST_F(GateTest, GroupOfListenersIsJudgedAtTheOneThatGetsIt) {
  const std::string web = workload("web", "web");
  const std::string friendly = workload("friendly", "web");
  const std::string stranger = workload("stranger", "db");
  const Fd first = listen_in(friendly);
  const Fd second = listen_in(stranger, AF_INET, port_of(first));
  const Fd third = listen_in(plain_, AF_INET, port_of(first));
  std::array code = {sock_filter{BPF_LD | BPF_W | BPF_ABS, 0, 0,
                                 static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM)},
                     sock_filter{BPF_ALU | BPF_MOD | BPF_K, 0, 0, 3},
                     sock_filter{BPF_RET | BPF_A, 0, 0, 0}};
  const sock_fprog program{.len = code.size(), .filter = code.data()};
  ASSERT_EQ(
      ::setsockopt(first.get(), SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program), 0);
  int reached = 0;
  for (int i = 0; i < 60; i++) {
    const Fd client = socket_in(web, AF_INET, SOCK_STREAM);
    const timeval brief{.tv_sec = 0, .tv_usec = 20'000};
    ::setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &brief, sizeof brief);
    std::ignore = connect(client, port_of(first));
    for (const Fd* listener : {&first, &second, &third}) {
      while (readable(*listener, 0)) {
        const Fd server(::accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC));
        EXPECT_EQ(listener, &first) << "a connection of web";
        reached++;
      }
    }
  }
  EXPECT_GT(reached, 0);
}

/// Docker's resolver answers in containers. A process on the host with its address has no
/// privilege.
TEST_F(GateTest, ResolverIsNoneInTheDaemonsOwnNetwork) {
  const std::string web = workload("web", "web");
  const auto asks = [&](bool stream) {
    const int type = stream ? SOCK_STREAM : SOCK_DGRAM;
    const Fd resolver = socket_in(plain_, AF_INET, type);
    const Fd client = socket_in(web, AF_INET, type);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(0x7f00000b);
    auto* const raw = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(resolver.get(), raw, size), 0);
    EXPECT_EQ(::getsockname(resolver.get(), raw, &size), 0);
    if (!stream) {
      return ::connect(client.get(), raw, size) == 0 && passes(client, resolver);
    }
    EXPECT_EQ(::listen(resolver.get(), 8), 0);
    return ::connect(client.get(), raw, size) == 0;
  };
  EXPECT_FALSE(asks(true));
  EXPECT_FALSE(asks(false));
  ASSERT_EQ(::unshare(CLONE_NEWNET), 0);  // like that of a container
  bring_lo_up();
  EXPECT_TRUE(asks(true));
  EXPECT_TRUE(asks(false));
}

TEST_F(GateTest, SaysWhenNumbersRunOut) {
  constexpr std::uint32_t kRoom = 16;
  gate_.reset();
  must(Gate::detach(tree_->absolute(top_)));
  auto small = Gate::open(tree_->absolute(top_), kRoom);
  ASSERT_TRUE(small) << small.error().text();
  gate_ = std::move(*small);
  load({});
  must(gate_->attach());
  must(gate_->quarantine_births({.docker = true, .podman = true}));
  must(gate_->look_through());
  constexpr std::uint32_t kReserved = 2;
  for (std::uint64_t id = 1; id <= kRoom - kReserved; id++) {
    must(gate_->set(1'000'000 + id, abi::kFirstNumber));
  }
  EXPECT_FALSE(gate_->set(1, abi::kFirstNumber));
  must(gate_->set(1'000'001, abi::kFirstNumber + 1));  // needs no new entry
  for (std::uint64_t id = 1; id <= kReserved; id++) {
    must(gate_->set(id, abi::kQuarantine));  // quarantine must always succeed
  }
  EXPECT_FALSE(gate_->set(kReserved + 1, abi::kQuarantine));
  Status looked = gate_->look_through();
  ASSERT_FALSE(looked);
  EXPECT_THAT(looked.error().message, ::testing::HasSubstr("16 of 16"));
  if (gate_->births().state != Births::State::absent) {
    make("docker-" + std::string(64, 'a') + ".scope");
    looked = gate_->look_through();
    ASSERT_FALSE(looked);
    EXPECT_THAT(looked.error().message,
                ::testing::HasSubstr("1 new container was not quarantined"));
  }
}

/// No allowed packet is lost while cgroups are enrolled and removed and the policy is reloaded
/// under load.
TEST_F(GateTest, ChangesOfOthersDisturbNobody) {
  const std::string a = workload("a", "web");
  const std::string b = workload("b", "web");
  const Fd listener = listen_in(b);
  const Connection made = connect_from(a, listener);
  for (int i = 0; i < 50; i++) {
    const std::string other = workload("other", "app" + std::to_string(i));
    EXPECT_TRUE(passes(made.client, made.server)) << i;
    if (i % 5 == 0) {
      prepare({});
      EXPECT_TRUE(passes(made.server, made.client)) << i;
      must(gate_->finish());
    }
    must(gate_->change(compiler_->remove(numbers_.at(other))));
    labels_.erase(numbers_.at(other));
    must(gate_->release(id(other)));
    EXPECT_TRUE(passes(made.server, made.client)) << i;
  }
}

}  // namespace
}  // namespace trireme::gate
