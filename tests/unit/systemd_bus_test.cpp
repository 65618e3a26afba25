// SPDX-License-Identifier: Apache-2.0
// The connection to PID 1: who is accepted as PID 1, calls and signals, and what happens when the
// connection is lost.
#include "trireme/systemd/bus.hpp"

#include <gmock/gmock.h>

#include "systemd_fake.hpp"

namespace trireme::systemd {
namespace {

using test::BusTest;
using test::FakeManager;
using test::with_own_directories;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

/// Writes each call to a list, "NAME: what", and then calls `react` with "what".
struct BusRecorder final : Bus::Listener {
  BusRecorder(Bus& on, std::string called, std::vector<std::string>& list)
      : bus(on), name(std::move(called)), lines(list) {
    bus.add_listener(*this);
  }
  ~BusRecorder() override { bus.remove_listener(*this); }
  BusRecorder(const BusRecorder&) = delete;
  BusRecorder& operator=(const BusRecorder&) = delete;

  void job_removed(const std::string& job, const std::string& result) override {
    note("job " + job.substr(job.rfind('/') + 1) + " " + result);
  }
  void unit_new(const std::string& unit) override { note("unit " + unit); }
  void reloading(bool begins) override { note(begins ? "reloading" : "reloaded"); }
  void connected() override { note("connected"); }
  void disconnected() override { note("disconnected"); }

  Bus& bus;
  std::string name;
  std::vector<std::string>& lines;
  std::function<void(const std::string& what)> react;

 private:
  void note(const std::string& what) {
    lines.push_back(name + ": " + what);
    if (react) {
      react(what);
    }
  }
};

class BusConnection : public BusTest {
 protected:
  /// Why the connection fails; "connected" if it does not.
  std::string refusal() {
    const auto bus = Bus::connect(loop_, manager_->socket());
    return bus ? "connected" : bus.error().message;
  }
  /// Calls Reload. The outcome is written to the list when it is known.
  void call(std::vector<std::string>& outcomes) {
    bus_->send(bus_->manager_call("Reload"), [&](const Result<sd_bus_message*>& reply) {
      outcomes.push_back(reply ? "done" : reply.error().message);
    });
  }
  [[nodiscard]] bool await_line(const std::vector<std::string>& lines, const std::string& line) {
    return await([&] { return std::ranges::find(lines, line) != lines.end(); });
  }
};

TEST_F(BusConnection, NobodyListens) {
  manager_->leave();
  EXPECT_EQ(refusal(), "cannot connect to systemd at " + manager_->socket());
}

TEST_F(BusConnection, ASocketOfAnotherUserIsNotThatOfPid1) {
  manager_ = std::make_unique<FakeManager>("", 65534);
  EXPECT_THAT(refusal(), HasSubstr("cannot connect to systemd"));
  EXPECT_EQ(manager_->count("Get"), 0U) << "it was asked something";
}

TEST_F(BusConnection, TheFirstQueryFails) {
  manager_->refuse("Get", "no such property");
  EXPECT_EQ(refusal(), "cannot query systemd: no such property");
  manager_->answer_nothing("Get");
  EXPECT_THAT(refusal(), HasSubstr("cannot query systemd"));
  manager_->hang_up_on("Get");
  EXPECT_THAT(refusal(), HasSubstr("cannot query systemd"));
}

TEST_F(BusConnection, WhereSystemdDoesNotRun) {
  ASSERT_TRUE(with_own_directories([this] {
    FakeManager manager("/run/systemd/private");
    std::filesystem::remove("/run/systemd/system");  // what sd_booted(3) checks
    const auto bus = Bus::connect(loop_);
    ASSERT_FALSE(bus);
    EXPECT_EQ(bus.error().message, "systemd is not running");
    EXPECT_EQ(manager.count("Get"), 0U);
  }));
}

TEST_F(BusConnection, WhereSystemdRunsWithoutAnySocket) {
  ASSERT_TRUE(with_own_directories([this] {
    const auto bus = Bus::connect(loop_);
    ASSERT_FALSE(bus);
    EXPECT_THAT(bus.error().message, HasSubstr("at /run/systemd/private or over the system bus"));
  }));
}

TEST_F(BusConnection, OnThePrivateSocketNothingNeedsToBeSubscribed) {
  manager_->set_cgroup_root("/machine.slice/vm");
  connect();
  EXPECT_TRUE(bus_->is_connected());
  EXPECT_EQ(bus_->cgroup_root(), "/machine.slice/vm");
  EXPECT_EQ(manager_->count("Hello"), 0U);
  EXPECT_EQ(manager_->count("Subscribe"), 0U);
}

TEST_F(BusConnection, TheSystemBusIsUsedWithoutAPrivateSocket) {
  ASSERT_TRUE(with_own_directories([this] {
    std::filesystem::create_directories("/run/dbus");
    FakeManager manager("/run/dbus/system_bus_socket");
    manager.set_cgroup_root("/payload");
    auto bus = Bus::connect(loop_);
    ASSERT_TRUE(bus) << bus.error().text();
    EXPECT_EQ((*bus)->cgroup_root(), "/payload");
    EXPECT_EQ(manager.count("Subscribe"), 1U) << "without it, systemd sends no signals there";
    std::vector<std::string> lines;
    const BusRecorder recorder(**bus, "one", lines);
    manager.tell_new("db.service");
    EXPECT_TRUE(await_line(lines, "one: unit db.service"));
  }));
}

TEST_F(BusConnection, CallsGetTheirOwnAnswers) {
  connect();
  std::vector<std::string> outcomes;
  manager_->refuse("Reload", "Refusing to reload, not enough space.");
  call(outcomes);
  ASSERT_TRUE(await([&] { return outcomes.size() == 1; }));
  manager_->refuse("Reload", "");
  call(outcomes);
  ASSERT_TRUE(await([&] { return outcomes.size() == 2; }));
  manager_->resume("Reload");
  call(outcomes);
  ASSERT_TRUE(await([&] { return outcomes.size() == 3; }));
  EXPECT_THAT(outcomes, ElementsAre("systemd: Refusing to reload, not enough space",
                                    "systemd: org.freedesktop.DBus.Error.Failed", "done"));
}

TEST_F(BusConnection, CallsWithoutAnAnswerEndWithTheConnection) {
  connect();
  manager_->hold("Reload");
  std::vector<std::string> lines;
  bool was_connected = true;
  const BusRecorder recorder(*bus_, "one", lines);
  bus_->send(bus_->manager_call("Reload"), [&](const Result<sd_bus_message*>& reply) {
    EXPECT_FALSE(reply);
    was_connected = bus_->is_connected();
    lines.emplace_back("the call has failed");
  });
  ASSERT_TRUE(await([&] { return manager_->count("Reload") == 1; }));
  manager_->hang_up();
  ASSERT_TRUE(await_line(lines, "one: connected"));
  EXPECT_THAT(lines, ElementsAre("the call has failed", "one: disconnected", "one: connected"));
  EXPECT_FALSE(was_connected) << "whoever repeats the call must know that it has to wait";
  manager_->resume("Reload");
  call(lines);
  EXPECT_TRUE(await_line(lines, "done")) << "the new connection can be used";
}

TEST_F(BusConnection, WithoutAConnectionCallsFailAtOnce) {
  connect();
  std::vector<std::string> lines;
  const BusRecorder recorder(*bus_, "one", lines);
  manager_->leave();
  ASSERT_TRUE(await_line(lines, "one: disconnected"));
  EXPECT_FALSE(bus_->is_connected());
  EXPECT_EQ(bus_->manager_call("Reload"), nullptr);
  std::vector<std::string> outcomes;
  call(outcomes);
  EXPECT_THAT(outcomes, ElementsAre("not connected to systemd"));
}

TEST_F(BusConnection, ItIsRestoredHoweverOftenThatFails) {
  connect();
  std::vector<std::string> lines;
  const BusRecorder recorder(*bus_, "one", lines);
  manager_->set_cgroup_root("/elsewhere");
  manager_->refuse("Get", "not yet");
  manager_->hang_up();
  ASSERT_TRUE(await([&] { return manager_->count("Get") >= 3; })) << "it gave up";
  EXPECT_THAT(lines, ElementsAre("one: disconnected"));
  manager_->leave();
  manager_->resume("Get");
  manager_->come_back();
  ASSERT_TRUE(await_line(lines, "one: connected"));
  EXPECT_THAT(lines, ElementsAre("one: disconnected", "one: connected"));
  EXPECT_EQ(bus_->cgroup_root(), "/elsewhere");
  EXPECT_EQ(manager_->connections(), 1U);
}

TEST_F(BusConnection, NobodyIsCalledAfterItsEnd) {
  connect();
  manager_->hold("Reload");
  std::vector<std::string> outcomes;
  call(outcomes);
  ASSERT_TRUE(await([&] { return manager_->count("Reload") == 1; }));
  bus_.reset();
  manager_->resume("Reload");
  connect();
  ASSERT_TRUE(round_trip());
  EXPECT_THAT(outcomes, IsEmpty());
}

TEST_F(BusConnection, SignalsOfAnotherFormAreIgnored) {
  connect();
  std::vector<std::string> lines;
  const BusRecorder recorder(*bus_, "one", lines);
  manager_->signal("JobRemoved", "s", "7");
  manager_->signal("UnitNew", "u", 7U);
  manager_->signal("Reloading", "s", "yes");
  manager_->signal("StartupFinished", "");
  manager_->signal("JobRemoved", "uoss", 7U, "/org/freedesktop/systemd1/job/7", "a.scope", "done");
  manager_->tell_new("b.service");
  manager_->tell_reloading(true);
  manager_->tell_reloading(false);
  ASSERT_TRUE(await_line(lines, "one: reloaded"));
  EXPECT_THAT(lines, ElementsAre("one: job 7 done", "one: unit b.service", "one: reloading",
                                 "one: reloaded"));
}

TEST_F(BusConnection, AListenerThatAnotherRemovesDuringASignalIsNotCalled) {
  connect();
  const std::pair<const char*, std::function<void()>> cases[] = {
      {"job 7 done",
       [&] {
         manager_->signal("JobRemoved", "uoss", 7U, "/org/freedesktop/systemd1/job/7", "a.scope",
                          "done");
       }},
      {"unit b.service", [&] { manager_->tell_new("b.service"); }},
      {"reloading", [&] { manager_->tell_reloading(true); }},
      {"disconnected", [&] { manager_->hang_up(); }},
      {"connected", [&] { manager_->hang_up(); }},
  };
  for (const auto& [what, happens] : cases) {
    std::vector<std::string> lines;
    BusRecorder first(*bus_, "first", lines);
    auto second = std::make_unique<BusRecorder>(*bus_, "second", lines);
    const BusRecorder third(*bus_, "third", lines);
    first.react = [&, expected = std::string(what)](const std::string& seen) {
      if (seen == expected) {
        second.reset();
      }
    };
    happens();
    ASSERT_TRUE(await_line(lines, "third: " + std::string(what)));
    EXPECT_THAT(lines, Contains("first: " + std::string(what)));
    EXPECT_THAT(lines, Not(Contains("second: " + std::string(what))));
    ASSERT_TRUE(await([&] { return bus_->is_connected(); }));
  }
}

TEST_F(BusConnection, AListenerThatIsAddedDuringASignalWaitsForTheNextOne) {
  connect();
  std::vector<std::string> lines;
  std::unique_ptr<BusRecorder> second;
  BusRecorder first(*bus_, "first", lines);
  first.react = [&](const std::string& /*what*/) {
    second = second ? std::move(second) : std::make_unique<BusRecorder>(*bus_, "second", lines);
  };
  manager_->tell_new("a.service");
  manager_->tell_new("b.service");
  ASSERT_TRUE(await_line(lines, "second: unit b.service"));
  EXPECT_THAT(lines, ElementsAre("first: unit a.service", "first: unit b.service",
                                 "second: unit b.service"));
}

}  // namespace
}  // namespace trireme::systemd
