// SPDX-License-Identifier: Apache-2.0
// The unit gate: which starts of units continue, and which sockets of earlier runs a unit gets
// back. The test is PID 1, so its sockets are those that systemd keeps or listens on.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <thread>
#include <tuple>

#include "systemd_support.hpp"
#include "trireme/base/file.hpp"
#include "trireme/systemd/socket_holders.hpp"

namespace trireme::systemd {
namespace {

using test::Pairs;
using test::Texts;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using workload::test::labels;
using workload::test::Process;
using workload::test::Sleeper;

class UnitGate : public test::WithSystemd {
 protected:
  /// The unit's cgroup with a process in it, which calls the gate.
  std::string start_in(const std::string& unit, const Sleeper& caller) {
    std::string path = make(unit);
    EXPECT_TRUE(tree_->place(path, caller.pid()));
    return path;
  }
  /// db.service is started by db.socket, which has an IP listener and is active.
  void add_db_with_socket() {
    systemd_->add("db.socket", {{"ActiveState", "active"},
                                {"Triggers", Texts{"db.service"}},
                                {"Listen", Pairs{{"Stream", "0.0.0.0:5432"}}}});
    systemd_->add("db.service", {{"TriggeredBy", Texts{"db.socket"}}});
  }
  /// What a run of db.service leaves behind.
  struct Remains {
    std::uint64_t cgroup = 0;
    Fd kept;  // by systemd
  };
  /// db.service runs, gives systemd a socket to keep and ends.
  Remains run_once() {
    systemd_->add("db.service", {{"FileDescriptorStoreMax", 8U}});
    registry_->on_change = [this](const workload::Workload& workload, bool ended) {
      if (ended) {
        units_->ended(workload);
      }
    };
    Remains remains;
    Sleeper caller;
    const std::string path = start_in("db.service", caller);
    EXPECT_EQ(gate("db.service", caller.pid()), "passes");
    remains.cgroup = id(path);
    remains.kept = listen_in(path);
    caller.stop();
    EXPECT_TRUE(tree_->remove(path));
    EXPECT_TRUE(await([&] { return registry_->find_cgroup(path) == nullptr; }));
    systemd_->add("db.service", {{"FileDescriptorStoreMax", 8U}, {"NFileDescriptorStore", 1U}});
    return remains;
  }
  [[nodiscard]] std::vector<std::uint64_t> former() const {
    const workload::Workload* workload = registry_->find_cgroup("/db.service");
    return workload == nullptr ? std::vector<std::uint64_t>() : workload->former;
  }
};

TEST_F(UnitGate, WhatSystemdDoesNotDescribeDoesNotStart) {
  with_systemd([&] {
    configure({"db.service"});
    const Sleeper caller;
    start_in("db.service", caller);
    systemd_->refuse("GetAll db.service", "no memory");
    EXPECT_EQ(gate("db.service", caller.pid()), "systemd: no memory");
    systemd_->resume("GetAll db.service");
    add_db_with_socket();
    systemd_->refuse("GetAll db.socket", "no memory");
    EXPECT_EQ(gate("db.service", caller.pid()), "systemd: no memory") << "of what starts it";
    EXPECT_TRUE(bus_->is_connected());
  });
}

TEST_F(UnitGate, ACallerOutsideTheUnitDoesNotStartIt) {
  with_systemd([&] {
    configure({"db.service"});
    const Sleeper caller;
    start_in("other.service", caller);
    EXPECT_EQ(gate("db.service", caller.pid()),
              "the caller is not in the cgroup of db.service but in /other.service");
    EXPECT_THAT(gate("db.service", 999'999), HasSubstr("/proc/999999/cgroup"));
    EXPECT_EQ(kernel_.enrolments, 0U);
  });
}

TEST_F(UnitGate, AUnitThatIsNotEnforcedDoesNotStart) {
  with_systemd([&] {
    kernel_.refuse_enrolment = true;
    look_after([&] { configure({"db.service"}); });
    const Sleeper caller;
    const std::string path = start_in("db.service", caller);
    EXPECT_EQ(gate("db.service", caller.pid()), "no memory for elements");
    kernel_.refuse_enrolment = false;
    EXPECT_EQ(gate("db.service", caller.pid()), "passes");
    EXPECT_TRUE(is_enforced(path));
  });
}

TEST_F(UnitGate, AUnitInAnotherNetworkThanItsSettingsSayDoesNotStart) {
  with_systemd([&] {
    configure({"db.service"});
    const Sleeper caller;
    start_in("db.service", caller);
    systemd_->add("db.service", {{"PrivateNetwork", true}});
    EXPECT_THAT(gate("db.service", caller.pid()), HasSubstr("not in the network namespace"));
    systemd_->add("db.service", {{"NetworkNamespacePath", "/run/netns/none"}});
    EXPECT_THAT(gate("db.service", caller.pid()), HasSubstr("not in the network namespace"));
    const Process away(true);
    const std::string network = "/proc/" + std::to_string(away.pid()) + "/ns/net";
    systemd_->add("db.service", {{"NetworkNamespacePath", network}});
    EXPECT_THAT(gate("db.service", caller.pid()), HasSubstr("not in the network namespace"));
    EXPECT_EQ(kernel_.enrolments, 1U) << "only its cgroup, when it was created";
  });
}

TEST_F(UnitGate, AUnitInTheNetworkOfItsSettingsIsEnforcedThere) {
  with_systemd([&] {
    look_after([&] { configure({"db.service"}); });
    const Process caller(true);
    const std::string path = make("db.service");
    ASSERT_TRUE(tree_->place(path, caller.pid()));
    const std::string network = "/proc/" + std::to_string(caller.pid()) + "/ns/net";
    systemd_->add("db.service", {{"PrivateNetwork", true}, {"NetworkNamespacePath", network}});
    EXPECT_EQ(gate("db.service", caller.pid()), "passes");
    EXPECT_EQ(kernel_.cgroups.at(id(path)).network, caller.network());
  });
}

TEST_F(UnitGate, WhatNoEntryMatchesStartsUnlessItsDropInExists) {
  with_systemd([&] {
    look_after([&] { configure({"db.service"}); });
    EXPECT_EQ(gate("web.service", 1), "passes");
    std::filesystem::create_directories("/etc/systemd/system/web@.service.d");
    ASSERT_TRUE(write_file("/etc/systemd/system/web@.service.d/50-trireme.conf", "[Unit]\n"));
    EXPECT_EQ(gate("web.service", 1), "passes") << "it is another unit's";
    EXPECT_THAT(gate("web@1.service", 1), HasSubstr("but its drop-in exists"));
  });
}

TEST_F(UnitGate, AHeldUnitWithoutAnEntryDoesNotStart) {
  with_systemd([&] {
    look_after([&] { configure({"db.service"}); });
    const Sleeper caller;
    start_in("db.service", caller);
    EXPECT_EQ(gate("db.service", caller.pid()), "passes");
    ASSERT_TRUE(registry_->hold("db.service", "alice", "test"));
    systemd_->add("db.service");
    look_after([&] { configure(std::vector<std::string>()); });
    EXPECT_THAT(gate("db.service", caller.pid()),
                AllOf(HasSubstr("is not enforced: ordered by alice"), HasSubstr(": test")));
    ASSERT_TRUE(registry_->end_hold("db.service", "alice"));
    configure(std::vector<std::string>());
    EXPECT_EQ(gate("db.service", caller.pid()), "passes");
  });
}

TEST_F(UnitGate, AUnitIsMatchedByTheAliasThatSystemdReports) {
  with_systemd([&] {
    look_after([&] { configure({"mysql.service"}); });
    const Sleeper caller;
    const std::string path = start_in("mariadb.service", caller);
    settle();
    EXPECT_FALSE(is_enforced(path)) << "the alias was made after the query";
    systemd_->add("mariadb.service", {{"Names", Texts{"mariadb.service", "mysql.service"}}});
    EXPECT_EQ(gate("mariadb.service", caller.pid()), "passes");
    EXPECT_TRUE(is_enforced(path));
  });
}

TEST_F(UnitGate, WithoutAnEntryItWaitsForTheQueryInProgress) {
  with_systemd([&] {
    systemd_->hold("ListUnits");
    configure({"db.service"});
    ASSERT_TRUE(await([&] { return systemd_->count("ListUnits") == 1; }));
    const Outcome outcome = call_gate("web.service", 1);
    ASSERT_TRUE(await([&] { return systemd_->count("GetAll web.service") == 1; }));
    ASSERT_TRUE(round_trip());
    EXPECT_FALSE(*outcome) << "the query may find that an entry matches it";
    systemd_->resume("ListUnits");
    EXPECT_EQ(outcome_of(outcome), "passes");
  });
}

TEST_F(UnitGate, ItWaitsForTheConnection) {
  with_systemd([&] {
    look_after([&] { configure({"db.service"}); });
    const Sleeper caller(false);
    start_in("db.service", caller);
    systemd_->leave();
    ASSERT_TRUE(await([&] { return !bus_->is_connected(); }));
    const Outcome outcome = call_gate("db.service", caller.pid());
    EXPECT_FALSE(*outcome);
    systemd_->come_back();
    EXPECT_EQ(outcome_of(outcome), "passes");
  });
}

TEST_F(UnitGate, ItRepeatsItsQueriesAfterALostConnection) {
  with_systemd([&] {
    look_after([&] { configure({"db.service"}); });
    add_db_with_socket();
    systemd_->add("db.socket");  // not active
    const Sleeper caller(false);
    start_in("db.service", caller);
    for (const char* call : {"GetAll db.service", "GetAll db.socket"}) {
      systemd_->hang_up_on(call);
      const Outcome outcome = call_gate("db.service", caller.pid());
      ASSERT_TRUE(await([&] { return !bus_->is_connected(); })) << call;
      EXPECT_FALSE(*outcome) << call;
      systemd_->resume(call);
      EXPECT_EQ(outcome_of(outcome), "passes") << "systemd re-executes itself, for example";
    }
  });
}

TEST_F(UnitGate, NobodyIsAnsweredAfterTheEnd) {
  with_systemd([&] {
    look_after([&] { configure({"db.service"}); });
    add_db_with_socket();
    for (const char* call : {"GetAll db.service", "GetAll db.socket", "ListUnits", "Reload"}) {
      systemd_->hold(call);
      const std::size_t before = systemd_->count(call);
      const Outcome outcome = call_gate("db.service", 1);
      systemd_->tell_reloading(false);
      if (std::string_view(call) == "Reload") {
        configure({"db.service", "web.service"});
      }
      ASSERT_TRUE(await([&] { return systemd_->count(call) > before; })) << call;
      units_.reset();
      systemd_->resume(call);
      ASSERT_TRUE(round_trip());
      EXPECT_FALSE(std::string_view(call).starts_with("GetAll") && *outcome) << call;
      begin();
      look_after([&] { configure({"db.service"}); });
    }
  });
}

TEST_F(UnitGate, AnActiveSocketOfTheUnitMustBeEnforcedWithItsLabels) {
  with_systemd([&] {
    add_db_with_socket();
    look_after([&] { configure({"db.service"}); });
    const Sleeper caller;
    start_in("db.service", caller);
    EXPECT_EQ(gate("db.service", caller.pid()),
              "its listeners belong to db.socket, which is not a workload");
    kernel_.refuse_enrolment = true;
    const std::string socket = make("db.socket");
    ASSERT_TRUE(await([&] { return registry_->find_cgroup(socket) != nullptr; }));
    EXPECT_EQ(gate("db.service", caller.pid()),
              "its listeners belong to db.socket, which is not enforced: no memory for elements");
    kernel_.refuse_enrolment = false;
    ASSERT_TRUE(units_->cgroup_born(socket));
    EXPECT_THAT(gate("db.service", caller.pid()),
                HasSubstr("the listeners of db.socket are not in its cgroup"));
    const Fd listener = listen_in(socket);
    EXPECT_EQ(gate("db.service", caller.pid()), "passes");
  });
}

TEST_F(UnitGate, ASocketOfSeveralUnitsHasTheLabelsOfOne) {
  with_systemd([&] {
    add_db_with_socket();
    systemd_->add("db.socket", {{"ActiveState", "active"},
                                {"Triggers", Texts{"web.service", "db.service"}},
                                {"Listen", Pairs{{"Stream", "0.0.0.0:5432"}}}});
    systemd_->add_loaded("db.socket");
    look_after([&] {
      configure_rules({{"db.service", labels({{"app", "db"}}), {}},
                       {"web.service", labels({{"app", "web"}}), {}}});
    });
    const std::string socket = make("db.socket");
    const Fd listener = listen_in(socket);
    const Sleeper caller;
    start_in("db.service", caller);
    EXPECT_EQ(gate("db.service", caller.pid()),
              "its listeners belong to db.socket, which has other labels: app=web");
  });
}

TEST_F(UnitGate, ASocketThatIsOnlyNowKnownBecomesAWorkload) {
  with_systemd([&] {
    look_after([&] { configure({"db.service"}); });
    const std::string socket = make("front.socket");
    const Fd listener = listen_in(socket);
    const Sleeper caller;
    start_in("db.service", caller);
    settle();
    EXPECT_EQ(registry_->find_cgroup(socket), nullptr) << "its name says nothing";
    systemd_->add("front.socket", {{"ActiveState", "active"},
                                   {"Triggers", Texts{"db.service"}},
                                   {"Listen", Pairs{{"Stream", "0.0.0.0:5432"}}}});
    systemd_->add("db.service", {{"TriggeredBy", Texts{"front.socket", "db.timer"}}});
    EXPECT_EQ(gate("db.service", caller.pid()), "passes");
    EXPECT_TRUE(is_enforced(socket));
  });
}

TEST_F(UnitGate, AListenerInTheNetworkOfItsSocketIsFoundThere) {
  with_systemd([&] {
    add_db_with_socket();
    const Process away(true);
    const std::string network = "/proc/" + std::to_string(away.pid()) + "/ns/net";
    systemd_->add("db.socket", {{"ActiveState", "active"},
                                {"Triggers", Texts{"db.service"}},
                                {"NetworkNamespacePath", network},
                                {"Listen", Pairs{{"Stream", "0.0.0.0:5432"}}}});
    systemd_->add_loaded("db.socket");
    look_after([&] { configure({"db.service"}); });
    const std::string socket = make("db.socket");
    ASSERT_TRUE(await([&] { return is_enforced(socket); }));
    const Sleeper caller;
    start_in("db.service", caller);
    const Fd elsewhere = listen_in(socket);
    EXPECT_THAT(gate("db.service", caller.pid()), HasSubstr("are not in its cgroup"));
    Fd listener;
    const auto there = kernel::Netns::at(network);
    ASSERT_TRUE(there);
    ASSERT_TRUE((*there)->within([&] { listener = listen_in(socket); }));
    EXPECT_EQ(gate("db.service", caller.pid()), "passes");
  });
}

TEST_F(UnitGate, SocketsThatSystemdKeptAreThoseOfTheNextRunIfNobodyElseHasThem) {
  with_systemd([&] {
    look_after([&] { configure({"db.service"}); });
    const Remains remains = run_once();
    const std::uint32_t inode = inode_of(remains.kept);
    const Sleeper caller;
    start_in("db.service", caller);
    EXPECT_EQ(gate("db.service", caller.pid()), "passes");
    EXPECT_THAT(unsure_, ElementsAre(inode)) << "the caller has to find out who has it";
    EXPECT_THAT(former(), IsEmpty());
    EXPECT_EQ(gate("db.service", caller.pid(), std::set<std::uint32_t>()), "passes");
    EXPECT_THAT(unsure_, IsEmpty());
    EXPECT_THAT(former(), IsEmpty()) << "another process has it";
    EXPECT_EQ(gate("db.service", caller.pid(), std::set<std::uint32_t>{inode}), "passes");
    EXPECT_THAT(unsure_, IsEmpty());
    EXPECT_THAT(former(), ElementsAre(remains.cgroup));
  });
}

TEST_F(UnitGate, AStartThatFailsLosesNoSockets) {
  with_systemd([&] {
    look_after([&] { configure({"db.service"}); });
    const Remains remains = run_once();
    Sleeper failed;
    const std::string path = start_in("db.service", failed);
    ASSERT_TRUE(await([&] { return is_enforced(path); }));
    failed.stop();
    ASSERT_TRUE(tree_->remove(path));
    ASSERT_TRUE(await([&] { return registry_->find_cgroup(path) == nullptr; }));
    const Sleeper caller;
    start_in("db.service", caller);
    EXPECT_EQ(gate("db.service", caller.pid(), std::set<std::uint32_t>{inode_of(remains.kept)}),
              "passes");
    EXPECT_THAT(former(), ElementsAre(remains.cgroup));
  });
}

TEST_F(UnitGate, MoreSocketsThanSystemdKeepsAreNotGivenBack) {
  with_systemd([&] {
    look_after([&] { configure({"db.service"}); });
    const Remains remains = run_once();
    systemd_->add("db.service", {{"FileDescriptorStoreMax", 8U}});
    const Sleeper caller;
    start_in("db.service", caller);
    EXPECT_EQ(gate("db.service", caller.pid(), std::set<std::uint32_t>{inode_of(remains.kept)}),
              "passes");
    EXPECT_THAT(unsure_, IsEmpty());
    EXPECT_THAT(former(), IsEmpty()) << "systemd says that it keeps none";
  });
}

TEST_F(UnitGate, SocketsOfARunWithOtherLabelsAreNotGivenBack) {
  with_systemd([&] {
    look_after([&] { configure({"db.service"}); });
    const Remains remains = run_once();
    look_after([&] { configure_rules({{"db.service", labels({{"app", "web"}}), {}}}); });
    const Sleeper caller;
    start_in("db.service", caller);
    EXPECT_EQ(gate("db.service", caller.pid(), std::set<std::uint32_t>{inode_of(remains.kept)}),
              "passes");
    EXPECT_THAT(former(), IsEmpty());
  });
}

TEST_F(UnitGate, SocketsThatNobodyKeptAreForgotten) {
  with_systemd([&] {
    look_after([&] { configure({"db.service"}); });
    Remains remains = run_once();
    const std::uint32_t inode = inode_of(remains.kept);
    remains.kept.reset();
    const Sleeper caller;
    start_in("db.service", caller);
    EXPECT_EQ(gate("db.service", caller.pid(), std::set<std::uint32_t>{inode}), "passes");
    EXPECT_THAT(former(), IsEmpty());
  });
}

TEST_F(UnitGate, SocketsOfUnitsThatKeepNoneAreNotRemembered) {
  with_systemd([&] {
    look_after([&] { configure({"db.service"}); });
    registry_->on_change = [this](const workload::Workload& workload, bool ended) {
      if (ended) {
        units_->ended(workload);
      }
    };
    Sleeper caller;
    const std::string path = start_in("db.service", caller);
    ASSERT_EQ(gate("db.service", caller.pid()), "passes");
    const Fd leaked = listen_in(path);
    caller.stop();
    ASSERT_TRUE(tree_->remove(path));
    ASSERT_TRUE(await([&] { return registry_->find_cgroup(path) == nullptr; }));
    systemd_->add("db.service", {{"FileDescriptorStoreMax", 8U}, {"NFileDescriptorStore", 1U}});
    const Sleeper next;
    start_in("db.service", next);
    EXPECT_EQ(gate("db.service", next.pid(), std::set<std::uint32_t>{inode_of(leaked)}), "passes");
    EXPECT_THAT(former(), IsEmpty());
  });
}

TEST_F(UnitGate, ASocketThatAnotherProcessHasIsNotThatOfPid1Alone) {
  with_systemd([&] {
    const Fd kept(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const Fd shared(::socket(AF_INET, SOCK_STREAM, 0));
    const std::set<std::uint32_t> both = {inode_of(kept), inode_of(shared)};
    EXPECT_EQ(held_by_init_alone(both), both);
    EXPECT_TRUE(std::ranges::includes(sockets_of_process(1), both));
    EXPECT_THAT(sockets_of_process(999'999), IsEmpty());
    {
      const Sleeper heir;  // has copies of both
      EXPECT_THAT(held_by_init_alone(both), IsEmpty());
    }
    // So is a thread with descriptors of its own, although its process has closed both.
    int ready[2];
    ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      std::atomic<bool> is_apart = false;
      std::thread([&] {
        ::unshare(CLONE_FILES);
        is_apart = true;
        is_apart.notify_one();
        while (true) {
          ::pause();
        }
      }).detach();
      is_apart.wait(false);
      ::close(kept.get());
      ::close(shared.get());
      std::ignore = ::write(ready[1], "", 1);
      while (true) {
        ::pause();
      }
    }
    char byte = 0;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    const auto of_process = sockets_of_process(static_cast<std::uint32_t>(child));
    EXPECT_FALSE(of_process.contains(inode_of(kept)) || of_process.contains(inode_of(shared)));
    EXPECT_THAT(held_by_init_alone(both), IsEmpty());
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    EXPECT_EQ(held_by_init_alone(both), both);
  });
}

}  // namespace
}  // namespace trireme::systemd
