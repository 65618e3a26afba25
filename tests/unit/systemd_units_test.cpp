// SPDX-License-Identifier: Apache-2.0
// Units as workloads where systemd answers in part only, or is made to say much: a systemd of the
// test's own behind the private socket, in a mount namespace.
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <mutex>
#include <thread>

#include "trireme/systemd/units.hpp"
#include "workload_support.hpp"

namespace trireme::systemd {
namespace {

using workload::State;
using workload::test::labels;

/// What of PID 1 the daemon uses. Knows units by any of their names.
class FakeSystemd {
 public:
  FakeSystemd() {
    listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = "/run/systemd/private"};
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
              0);
    EXPECT_EQ(::listen(listener_.get(), 4), 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~FakeSystemd() {
    ends_ = true;
    thread_.join();
  }
  FakeSystemd(const FakeSystemd&) = delete;
  FakeSystemd& operator=(const FakeSystemd&) = delete;

  void add(const std::string& id, const std::set<std::string>& names) {
    const std::lock_guard lock(mutex_);
    for (const std::string& name : names) {
      units_[name] = {id, names};
    }
  }
  /// Calls about this unit fail; of the empty name, those for lists.
  void fail_about(const std::string& name, bool fails = true) {
    const std::lock_guard lock(mutex_);
    fails ? (void)failing_.insert(name) : (void)failing_.erase(name);
  }
  void tell_new(const std::string& name) {
    const std::lock_guard lock(mutex_);
    news_.push_back(name);
  }
  [[nodiscard]] unsigned looks() const { return looks_; }

 private:
  struct Unit {
    std::string id;
    std::set<std::string> names;
  };

  void serve() {
    while (!ends_) {
      const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd < 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        continue;
      }
      sd_bus* bus = nullptr;
      sd_id128_t id{};
      sd_id128_randomize(&id);
      sd_bus_new(&bus);
      sd_bus_set_fd(bus, fd, fd);
      sd_bus_set_server(bus, 1, id);
      sd_bus_add_filter(bus, nullptr, on_message, this);
      if (sd_bus_start(bus) >= 0) {
        converse(bus);
      }
      sd_bus_close_unref(bus);
    }
  }
  void converse(sd_bus* bus) {
    while (!ends_) {
      const int rc = sd_bus_process(bus, nullptr);
      if (rc < 0) {
        return;
      }
      if (rc == 0) {
        emit(bus);
        sd_bus_wait(bus, 2'000);
      }
    }
  }
  void emit(sd_bus* bus) {
    const std::lock_guard lock(mutex_);
    for (const std::string& name : std::exchange(news_, {})) {
      sd_bus_emit_signal(bus, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                         "UnitNew", "so", name.c_str(), "/org/freedesktop/systemd1/unit/x");
    }
  }
  static int on_message(sd_bus_message* call, void* self, sd_bus_error* /*error*/) {
    return static_cast<FakeSystemd*>(self)->answer(call);
  }
  int answer(sd_bus_message* call) {
    const std::string member =
        sd_bus_message_get_member(call) == nullptr ? "" : sd_bus_message_get_member(call);
    const std::lock_guard lock(mutex_);
    if (member == "Get") {
      return sd_bus_reply_method_return(call, "v", "s", "");
    }
    if (member == "ListUnitFiles") {
      looks_++;
    }
    if (member == "ListUnitFiles" || member == "ListUnits") {
      if (failing_.contains("")) {
        return sd_bus_reply_method_errorf(call, "org.freedesktop.DBus.Error.NoMemory", "no");
      }
      return member == "ListUnits" ? sd_bus_reply_method_return(call, "a(ssssssouso)", 0)
                                   : sd_bus_reply_method_return(call, "a(ss)", 0);
    }
    if (member == "GetAll") {
      return answer_about(call);
    }
    return member == "Reload" ? sd_bus_reply_method_return(call, "") : 0;
  }
  int answer_about(sd_bus_message* call) {
    char* decoded = nullptr;
    sd_bus_path_decode(sd_bus_message_get_path(call), "/org/freedesktop/systemd1/unit", &decoded);
    const std::string name = decoded == nullptr ? "" : decoded;
    std::free(decoded);
    if (failing_.contains(name)) {
      return sd_bus_reply_method_errorf(call, "org.freedesktop.DBus.Error.NoMemory", "no memory");
    }
    const auto known = units_.find(name);
    const Unit unit = known == units_.end() ? Unit{name, {name}} : known->second;
    const char* state = known == units_.end() ? "not-found" : "loaded";
    sd_bus_message* reply = nullptr;
    sd_bus_message_new_method_return(call, &reply);
    sd_bus_message_open_container(reply, 'a', "{sv}");
    sd_bus_message_append(reply, "{sv}{sv}", "Id", "s", unit.id.c_str(), "LoadState", "s", state);
    sd_bus_message_open_container(reply, 'e', "sv");
    sd_bus_message_append(reply, "s", "Names");
    sd_bus_message_open_container(reply, 'v', "as");
    sd_bus_message_open_container(reply, 'a', "s");
    for (const std::string& each : unit.names) {
      sd_bus_message_append(reply, "s", each.c_str());
    }
    for (int i = 0; i < 4; i++) {
      sd_bus_message_close_container(reply);
    }
    const int rc = sd_bus_send(sd_bus_message_get_bus(call), reply, nullptr);
    sd_bus_message_unref(reply);
    return rc < 0 ? rc : 1;
  }

  Fd listener_;
  std::mutex mutex_;
  std::map<std::string, Unit> units_;
  std::set<std::string> failing_;
  std::vector<std::string> news_;
  std::atomic<unsigned> looks_ = 0;
  std::atomic<bool> ends_ = false;
  std::thread thread_;
};

class UnitsTest : public workload::test::CgroupTest {
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
    EXPECT_EQ(status, 0) << "what has failed is above";
  }
  /// A daemon, as it is after its start.
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
  void configure(const std::vector<const char*>& names) {
    auto identity = std::make_shared<policy::Identity>();
    for (const char* name : names) {
      identity->units.push_back({name, labels({{"app", "db"}}), {}});
    }
    units_->configure(identity);
  }
  [[nodiscard]] bool is_enforced(const std::string& path) const {
    const workload::Workload* workload = registry_->find_cgroup(path);
    return workload != nullptr && workload->state == State::enforced;
  }
  /// Looks have been made, one more than before at least, and none is under way.
  [[nodiscard]] bool await_look(unsigned before) {
    const bool looked = await([&] { return systemd_->looks() > before; });
    settle();
    return looked;
  }
  /// What is begun with `what` is seen to the end.
  template <typename What>
  void look_after(What what) {
    const unsigned before = systemd_->looks();
    what();
    ASSERT_TRUE(await_look(before));
  }

  workload::test::FakeEnforcement kernel_;
  std::unique_ptr<FakeSystemd> systemd_;
  std::unique_ptr<workload::Registry> registry_;
  std::unique_ptr<workload::CgroupEvents> events_;
  std::unique_ptr<Bus> bus_;
  std::unique_ptr<UnitSource> units_;

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
    loop_ = nullptr;  // none goes with a fork
    EXPECT_GE(sd_event_new(&loop_), 0);
    systemd_ = std::make_unique<FakeSystemd>();
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

 protected:
  /// mariadb.service runs, and is a workload by an entry that names it mysql.service; its cgroup.
  std::string enforce_by_alias() {
    systemd_->add("mariadb.service", {"mariadb.service", "mysql.service"});
    look_after([&] { configure({"mysql.service"}); });
    std::string path = make("mariadb.service");
    EXPECT_TRUE(await([&] { return is_enforced(path); }));
    return path;
  }
};

TEST_F(UnitsTest, WhatSystemdDoesNotAnswerAboutStaysAsItWas) {
  with_systemd([&] {
    const std::string path = enforce_by_alias();
    ASSERT_TRUE(is_enforced(path));
    systemd_->fail_about("mysql.service");
    look_after([&] { configure({"mysql.service", "other.service"}); });
    EXPECT_TRUE(is_enforced(path));
    EXPECT_THAT(units_->status(), ::testing::HasSubstr("nothing new is known of mysql.service"));
    const std::string again = make("sub.slice/mariadb.service");
    EXPECT_TRUE(await([&] { return is_enforced(again); })) << "its names are known";
    // It is asked again by itself, until there is an answer.
    EXPECT_TRUE(await_look(systemd_->looks()));
    systemd_->fail_about("mysql.service", false);
    EXPECT_TRUE(await([&] { return units_->status().find("nothing new") == std::string::npos; }));
    const unsigned before = systemd_->looks();
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    EXPECT_TRUE(await([&] { return std::chrono::steady_clock::now() > end; }));
    EXPECT_EQ(systemd_->looks(), before) << "all is known";
  });
}

TEST_F(UnitsTest, WhatIsNotKnownReleasesNobody) {
  with_systemd([&] {
    const std::string path = enforce_by_alias();
    ASSERT_TRUE(is_enforced(path));
    // A restart: nothing but the record is known.
    systemd_->fail_about("mysql.service");
    begin();
    look_after([&] { configure({"mysql.service"}); });
    EXPECT_TRUE(is_enforced(path));
    // The entry has gone, in the same moment in which systemd is silent about all.
    systemd_->fail_about("");
    look_after([&] { configure({"other.service"}); });
    EXPECT_TRUE(is_enforced(path)) << "it may be other.service";
    systemd_->fail_about("", false);
    systemd_->fail_about("mysql.service", false);
    EXPECT_TRUE(await([&] { return registry_->find_cgroup(path) == nullptr; }))
        << "it is nobody's, which is known now";
  });
}

TEST_F(UnitsTest, NewsLeadToALookAtOnceAndThenNowAndThen) {
  with_systemd([&] {
    look_after([&] { configure({"db*.service"}); });
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));
    look_after([&] { systemd_->tell_new("db1.service"); });
    const unsigned before = systemd_->looks();
    const auto began = std::chrono::steady_clock::now();
    unsigned sent = 0;
    EXPECT_TRUE(await([&] {
      systemd_->tell_new("db" + std::to_string(++sent) + ".service");
      return std::chrono::steady_clock::now() - began > std::chrono::milliseconds(3500);
    }));
    EXPECT_GT(sent, 50U);
    EXPECT_GE(systemd_->looks() - before, 1U);
    EXPECT_LE(systemd_->looks() - before, 4U);
    const unsigned last = systemd_->looks();
    systemd_->tell_new("db-last.service");
    EXPECT_TRUE(await_look(last));
    // A unit is a workload by its name, whenever systemd is looked at.
    systemd_->tell_new("db-new.service");
    const std::string path = make("db-new.service");
    EXPECT_TRUE(await([&] { return is_enforced(path); }));
  });
}

}  // namespace
}  // namespace trireme::systemd
