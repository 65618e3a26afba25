// SPDX-License-Identifier: Apache-2.0
// The daemon's objects for units, with a fake systemd as PID 1.
#pragma once

#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "systemd_fake.hpp"
#include "trireme/systemd/units.hpp"
#include "workload_support.hpp"

namespace trireme::systemd::test {

/// Each test runs in a process that is PID 1, because UnitSource looks at PID 1's network namespace
/// and at its sockets.
class WithSystemd : public workload::test::CgroupTest {
 protected:
  /// Runs `test` in a process that is PID 1, with empty file systems at /etc and /run.
  template <typename Test>
  void with_systemd(Test test) {
    const pid_t outer = ::fork();
    if (outer == 0) {
      const pid_t init = ::unshare(CLONE_NEWPID) == 0 ? ::fork() : -1;
      if (init == 0) {
        ::_exit(is_alone() ? run(test) : kCannot);
      }
      int status = 0;
      ::_exit(init > 0 && ::waitpid(init, &status, 0) == init && WIFEXITED(status)
                  ? WEXITSTATUS(status)
                  : kCannot);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(outer, &status, 0), outer);
    if (WIFEXITED(status) && WEXITSTATUS(status) == kCannot) {
      GTEST_SKIP() << "cannot make namespaces";
    }
    EXPECT_EQ(status, 0) << "see the failures above";
  }
  /// Creates the daemon's objects, as after its start.
  void begin() {
    units_.reset();
    events_.reset();
    bus_.reset();
    auto events = workload::CgroupEvents::create(loop_, *tree_, *registry_, kernel_, "/s.slice");
    ASSERT_TRUE(events);
    events_ = std::move(*events);
    auto bus = Bus::connect(loop_);
    ASSERT_TRUE(bus) << bus.error().text();
    bus_ = std::move(*bus);
    units_ = std::make_unique<UnitSource>(loop_, *tree_, *registry_, *events_, bus_.get(),
                                          "/usr/bin/trirectl");
    events_->add_source(*units_);
    ASSERT_TRUE(events_->start());
  }
  /// Entries of identity.toml, all with the label app=db.
  void configure(const std::vector<std::string>& names) {
    std::vector<config::UnitRule> rules;
    for (const std::string& name : names) {
      rules.push_back({name, workload::test::labels({{"app", "db"}}), {}});
    }
    configure_rules(std::move(rules));
  }
  void configure_rules(std::vector<config::UnitRule> rules) {
    auto host = std::make_shared<config::Host>();
    host->units = std::move(rules);
    units_->configure(host);
  }
  [[nodiscard]] bool is_enforced(const std::string& path) const {
    const workload::Workload* workload = registry_->find_cgroup(path);
    return workload != nullptr && workload->state == workload::State::enforced;
  }
  /// How many queries of all units have begun.
  [[nodiscard]] std::size_t looks() { return systemd_->count("ListUnitFiles"); }
  /// Waits until at least one more query than `before` has been made and none is pending.
  [[nodiscard]] bool await_look(std::size_t before) {
    const bool looked = await([&] { return looks() > before; });
    settle();
    return looked;
  }
  /// Calls `what` and waits until the query that it starts has finished.
  template <typename What>
  void look_after(What what) {
    const std::size_t before = looks();
    what();
    ASSERT_TRUE(await_look(before));
  }
  /// Waits until so many of these calls have arrived and none is pending; false if there are more.
  [[nodiscard]] bool await_count(const std::string& call, std::size_t count) {
    return await([&] { return systemd_->count(call) >= count; }) && round_trip() &&
           systemd_->count(call) == count;
  }
  /// Waits until the status contains this text, or does not contain it any more.
  [[nodiscard]] bool await_status(const std::string& text, bool contains = true) {
    return await([&] { return (units_->status().find(text) != std::string::npos) == contains; });
  }
  /// Runs the loop for so long.
  void pass(std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    EXPECT_TRUE(await([end] { return std::chrono::steady_clock::now() >= end; }));
  }
  [[nodiscard]] bool round_trip() { return round_trip_on(loop_, *bus_); }

  /// Calls the unit gate. The outcome is written when it is known: "passes", or the error.
  using Outcome = std::shared_ptr<std::optional<std::string>>;
  Outcome call_gate(const std::string& unit, std::uint32_t pid,
                    std::optional<std::set<std::uint32_t>> alone = {}) {
    auto outcome = std::make_shared<std::optional<std::string>>();
    unsure_.clear();
    units_->gate(unit, pid, std::move(alone),
                 [this, outcome](const Result<std::set<std::uint32_t>>& unsure) {
                   EXPECT_FALSE(*outcome) << "`done` is called once";
                   *outcome = unsure ? "passes" : unsure.error().message;
                   unsure_ = unsure.value_or(std::set<std::uint32_t>());
                 });
    return outcome;
  }
  std::string outcome_of(const Outcome& outcome) {
    EXPECT_TRUE(await([&] { return outcome->has_value(); })) << "no outcome";
    return outcome->value_or("");
  }
  std::string gate(const std::string& unit, std::uint32_t pid,
                   std::optional<std::set<std::uint32_t>> alone = {}) {
    return outcome_of(call_gate(unit, pid, std::move(alone)));
  }
  /// A listener that the test, as PID 1, opens in this cgroup.
  Fd listen_in(const std::string& path) {
    EXPECT_TRUE(tree_->place(path, 1));
    Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    const void* raw = &address;
    EXPECT_EQ(::bind(listener.get(), static_cast<const sockaddr*>(raw), sizeof address), 0);
    EXPECT_EQ(::listen(listener.get(), 4), 0);
    EXPECT_TRUE(tree_->place("/", 1));
    return listener;
  }
  static std::uint32_t inode_of(const Fd& fd) {
    struct stat status {};
    EXPECT_EQ(::fstat(fd.get(), &status), 0);
    return static_cast<std::uint32_t>(status.st_ino);
  }
  static std::string lasting(const std::string& unit) {
    return "/etc/systemd/system/" + unit + ".d/50-trireme.conf";
  }
  static std::string runtime(const std::string& unit) {
    return "/run/systemd/system/" + unit + ".d/50-trireme.conf";
  }
  static bool exists(const std::string& path) { return std::filesystem::exists(path); }

  workload::test::FakeEnforcement kernel_;
  std::unique_ptr<FakeManager> systemd_;
  std::unique_ptr<workload::Registry> registry_;
  std::unique_ptr<workload::CgroupEvents> events_;
  std::unique_ptr<Bus> bus_;
  std::unique_ptr<UnitSource> units_;
  std::set<std::uint32_t> unsure_;  // the last result of the gate

 private:
  static constexpr int kCannot = 77;

  static bool is_alone() {
    return ::unshare(CLONE_NEWNS) == 0 &&
           ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           ::mount("proc", "/proc", "proc", 0, nullptr) == 0 &&
           ::mount("trireme-test", "/etc", "tmpfs", 0, nullptr) == 0 &&
           ::mount("trireme-test", "/run", "tmpfs", 0, nullptr) == 0;
  }
  template <typename Test>
  int run(Test test) {
    std::filesystem::create_directories("/etc/systemd/system");
    std::filesystem::create_directories("/run/systemd/system");
    loop_ = nullptr;  // an event loop cannot be used after fork()
    EXPECT_GE(sd_event_new(&loop_), 0);
    systemd_ = std::make_unique<FakeManager>(Bus::kPrivateSocket);
    registry_ = std::make_unique<workload::Registry>(*tree_, kernel_);
    begin();
    if (!HasFatalFailure()) {
      test();
    }
    units_.reset();
    events_.reset();
    bus_.reset();
    registry_.reset();
    systemd_.reset();
    std::fflush(nullptr);
    return HasFailure() ? 1 : 0;
  }
};

}  // namespace trireme::systemd::test
