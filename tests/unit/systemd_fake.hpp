// SPDX-License-Identifier: Apache-2.0
// A fake of the part of PID 1 that trireme uses: org.freedesktop.systemd1 on a Unix socket like
// /run/systemd/private. A thread of the test serves it, because Bus::connect() blocks until it is
// answered. The test says what the fake knows and how it answers.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/systemd/bus.hpp"

namespace trireme::systemd::test {

/// The value of a unit's property. The types on D-Bus, in this order: b, u, s, as, a(ss).
using Texts = std::vector<std::string>;
using Pairs = std::vector<std::pair<std::string, std::string>>;
using UnitProperties =
    std::map<std::string, std::variant<bool, std::uint32_t, std::string, Texts, Pairs>>;

/// The functions may be called from any thread. Each returns when the fake's thread has done it.
class FakeManager {
 private:
  /// Calls `what` on the fake's thread and returns its result.
  template <typename What>
  auto in_thread(What what) {
    // Shared, because this may return while the thread is still in the call of the task.
    const auto task = std::make_shared<std::packaged_task<decltype(what())()>>(std::move(what));
    auto done = task->get_future();
    {
      const std::lock_guard lock(mutex_);
      tasks_.emplace_back([task] { (*task)(); });
    }
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(wake_.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
    return done.get();
  }

 public:
  /// Answers a call, on the fake's thread. Returns a negative errno value on failure, else 1.
  using Answer = std::function<int(sd_bus_message* call)>;

  /// A StartTransientUnit.
  struct Start {
    std::string unit;
    std::string mode;
    /// In order, with the type on D-Bus before the value: ("TasksMax", "t 100").
    std::vector<std::pair<std::string, std::string>> properties;
    std::uint32_t pid = 0;  // the first of PIDs
    std::uint32_t job = 0;  // the id of its job
  };

  /// Listens on this socket; if none is given, on one in a new directory. The kernel reports
  /// `owner` as the user behind the socket.
  explicit FakeManager(std::string socket = {}, uid_t owner = 0)
      : socket_(std::move(socket)), owner_(owner) {
    if (socket_.empty()) {
      std::string pattern =
          (std::filesystem::temp_directory_path() / "trireme-systemd-XXXXXX").string();
      EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
      directory_ = pattern;
      socket_ = directory_ + "/private";
    }
    wake_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    thread_ = std::thread([this] { serve(); });
    come_back();
  }
  ~FakeManager() {
    in_thread([this] { sd_event_exit(loop_, 0); });
    thread_.join();
    if (!directory_.empty()) {
      std::filesystem::remove_all(directory_);
    }
  }
  FakeManager(const FakeManager&) = delete;
  FakeManager& operator=(const FakeManager&) = delete;

  [[nodiscard]] const std::string& socket() const { return socket_; }

  // What it knows.

  /// A unit, which is found by its id and by every other name in the property Names. Properties
  /// that are not given: Id and Names from the id; LoadState "loaded"; ActiveState "inactive".
  /// Replaces an earlier unit with this id. Units that were not added are "not-found".
  void add(const std::string& id, UnitProperties properties = {}) {
    properties.try_emplace("Id", id);
    properties.try_emplace("Names", Texts{id});
    properties.try_emplace("LoadState", "loaded");
    properties.try_emplace("ActiveState", "inactive");
    in_thread([&] {
      if (const auto* names = std::get_if<Texts>(&properties.at("Names"))) {
        for (const std::string& name : *names) {
          id_by_name_[name] = id;
        }
      }
      id_by_name_[id] = id;
      units_[id] = std::move(properties);
    });
  }
  /// A unit file, for the answer to ListUnitFiles.
  void add_file(const std::string& path) {
    in_thread([&] { files_.push_back(path); });
  }
  /// A unit in memory, for the answer to ListUnits.
  void add_loaded(const std::string& name, const std::string& load_state = "loaded") {
    in_thread([&] { loaded_.emplace_back(name, load_state); });
  }
  /// The property ControlGroup of the manager.
  void set_cgroup_root(const std::string& path) {
    in_thread([&] { cgroup_root_ = path; });
  }

  // How it answers. `call` is the name of a method, or "GetAll UNIT".

  void answer(const std::string& call, Answer how) {
    in_thread([&] { answers_[call] = std::move(how); });
  }
  /// Answers the call with an error. Without a text, the error has only a name.
  void refuse(const std::string& call, const std::string& text) {
    answer(call, [text](sd_bus_message* message) {
      sd_bus_error error{};
      error.name = "org.freedesktop.DBus.Error.Failed";
      error.message = text.empty() ? nullptr : text.c_str();
      return sd_bus_reply_method_error(message, &error) < 0 ? -EIO : 1;
    });
  }
  /// Answers the call with an empty message, which is a wrong answer to most calls.
  void answer_nothing(const std::string& call) {
    answer(call, [](sd_bus_message* message) {
      return sd_bus_reply_method_return(message, "") < 0 ? -EIO : 1;
    });
  }
  /// Closes every connection instead of an answer. New ones are accepted.
  void hang_up_on(const std::string& call) {
    answer(call, [this](sd_bus_message* /*message*/) {
      drop_connections();
      return 1;
    });
  }
  /// Leaves the call without an answer until resume().
  void hold(const std::string& call) {
    answer(call, [this, call](sd_bus_message* message) {
      held_.emplace_back(call, sd_bus_message_ref(message));
      return 1;
    });
  }
  /// Answers the call as usual again, and also the held ones.
  void resume(const std::string& call) {
    in_thread([&] {
      answers_.erase(call);
      for (auto& [name, message] : std::exchange(held_, {})) {
        if (name == call) {
          (void)answer_usually(message);
          sd_bus_message_unref(message);
        } else {
          held_.emplace_back(name, message);
        }
      }
    });
  }
  /// Called with each StartTransientUnit that is answered as usual, on the fake's thread. If the
  /// result is not empty, the unit's job ends with it at once.
  void when_started(std::function<std::string(const Start&)> what) {
    in_thread([&] { when_started_ = std::move(what); });
  }

  // What has happened.

  /// How many such calls have arrived.
  [[nodiscard]] std::size_t count(const std::string& call) {
    return in_thread([&] { return counts_[call]; });
  }
  /// The calls of StartTransientUnit that were answered as usual.
  [[nodiscard]] std::vector<Start> starts() {
    return in_thread([this] { return starts_; });
  }
  [[nodiscard]] std::size_t connections() {
    return in_thread([this] { return connections_.size(); });
  }

  // What it does.

  /// Sends a signal of the manager to every connection.
  template <typename... Values>
  void signal(const char* name, const char* types, Values... values) {
    in_thread([&] { emit(name, types, values...); });
  }
  void tell_new(const std::string& unit) {
    signal("UnitNew", "so", unit.c_str(), "/org/freedesktop/systemd1/unit/x");
  }
  void tell_reloading(bool begins) { signal("Reloading", "b", static_cast<int>(begins)); }
  /// Ends the job of the last start of this unit.
  void end_job(const std::string& unit, const std::string& result) {
    in_thread([&] {
      const auto start = std::ranges::find(starts_.rbegin(), starts_.rend(), unit, &Start::unit);
      ASSERT_NE(start, starts_.rend()) << unit;
      emit_job_removed(*start, result);
    });
  }
  /// Closes every connection. New ones are accepted.
  void hang_up() {
    in_thread([this] { drop_connections(); });
  }
  /// Closes every connection and the socket.
  void leave() {
    in_thread([this] {
      accepting_ = sd_event_source_disable_unref(accepting_);
      listener_.reset();
      std::filesystem::remove(socket_);
      drop_connections();
    });
  }
  /// Listens again after leave().
  void come_back() {
    in_thread([this] { listen(); });
  }

 private:
  static constexpr const char* kPath = "/org/freedesktop/systemd1";
  static constexpr const char* kManager = "org.freedesktop.systemd1.Manager";

  static int on_wake(sd_event_source* /*source*/, int fd, std::uint32_t /*events*/, void* self) {
    auto& manager = *static_cast<FakeManager*>(self);
    std::uint64_t count = 0;
    std::ignore = ::read(fd, &count, sizeof count);
    std::vector<std::function<void()>> tasks;
    {
      const std::lock_guard lock(manager.mutex_);
      tasks.swap(manager.tasks_);
    }
    std::ranges::for_each(tasks, [](const auto& task) { task(); });
    return 0;
  }

  void serve() {
    EXPECT_GE(sd_event_new(&loop_), 0);
    EXPECT_GE(sd_event_add_io(loop_, nullptr, wake_.get(), EPOLLIN, on_wake, this), 0);
    EXPECT_GE(sd_event_loop(loop_), 0);
    for (const auto& [name, message] : held_) {
      sd_bus_message_unref(message);
    }
    drop_connections();
    accepting_ = sd_event_source_disable_unref(accepting_);
    loop_ = sd_event_unref(loop_);
  }

  void listen() {
    listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket_.copy(address.sun_path, sizeof address.sun_path - 1);
    const void* raw = &address;
    ASSERT_EQ(::bind(listener_.get(), static_cast<const sockaddr*>(raw), sizeof address), 0)
        << socket_;
    // The peer of a connection is whoever called listen(2). The system call, unlike the function of
    // libc, changes only this thread.
    ASSERT_EQ(::syscall(SYS_setresuid, -1, owner_, -1), 0);
    EXPECT_EQ(::listen(listener_.get(), 16), 0);
    ASSERT_EQ(::syscall(SYS_setresuid, -1, 0, -1), 0);
    ASSERT_GE(sd_event_add_io(loop_, &accepting_, listener_.get(), EPOLLIN, on_connection, this),
              0);
  }
  static int on_connection(sd_event_source* /*source*/, int listener, std::uint32_t /*events*/,
                           void* self) {
    auto& manager = *static_cast<FakeManager*>(self);
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      return 0;
    }
    sd_bus* bus = nullptr;
    sd_id128_t id{};
    EXPECT_GE(sd_id128_randomize(&id), 0);
    EXPECT_GE(sd_bus_new(&bus), 0);
    EXPECT_GE(sd_bus_set_fd(bus, fd, fd), 0);
    EXPECT_GE(sd_bus_set_server(bus, 1, id), 0);
    EXPECT_GE(sd_bus_add_filter(bus, nullptr, on_message, self), 0);
    if (sd_bus_start(bus) < 0) {  // the peer has left already
      sd_bus_close_unref(bus);
      return 0;
    }
    EXPECT_GE(sd_bus_attach_event(bus, manager.loop_, 0), 0);
    manager.connections_.push_back(bus);
    return 0;
  }
  void drop_connections() {
    for (sd_bus* bus : std::exchange(connections_, {})) {
      drop(bus);
    }
  }
  static void drop(sd_bus* bus) {
    sd_bus_detach_event(bus);
    sd_bus_close_unref(bus);
  }

  static int on_message(sd_bus_message* message, void* self, sd_bus_error* /*error*/) {
    auto& manager = *static_cast<FakeManager*>(self);
    sd_bus* const bus = sd_bus_message_get_bus(message);
    if (sd_bus_message_is_signal(message, "org.freedesktop.DBus.Local", "Disconnected") > 0) {
      if (std::erase(manager.connections_, bus) > 0) {
        drop(bus);
      }
      return 1;
    }
    if (sd_bus_message_is_method_call(message, nullptr, nullptr) <= 0) {
      return 0;
    }
    const std::string method = sd_bus_message_get_member(message);
    const std::string about = method == "GetAll" ? method + " " + unit_of(message) : method;
    ++manager.counts_[method];
    if (about != method) {
      ++manager.counts_[about];
    }
    auto how = manager.answers_.find(about);
    how = how == manager.answers_.end() ? manager.answers_.find(method) : how;
    if (how == manager.answers_.end()) {
      return manager.answer_usually(message);
    }
    const Answer answer = how->second;
    return answer(message);
  }
  static std::string unit_of(sd_bus_message* call) {
    char* decoded = nullptr;
    sd_bus_path_decode(sd_bus_message_get_path(call), "/org/freedesktop/systemd1/unit", &decoded);
    std::string unit = decoded == nullptr ? "" : decoded;
    std::free(decoded);
    return unit;
  }

  /// 0 if the fake does not have this method; sd-bus then answers with an error.
  int answer_usually(sd_bus_message* call) {
    const std::string method = sd_bus_message_get_member(call);
    if (method == "Hello") {  // only a dbus-daemon is greeted
      is_dbus_daemon_ = true;
      return sent(sd_bus_reply_method_return(call, "s", ":1.7"));
    }
    if (method == "AddMatch" || method == "Subscribe" || method == "Reload") {
      return sent(sd_bus_reply_method_return(call, ""));
    }
    if (method == "Get") {
      return sent(sd_bus_reply_method_return(call, "v", "s", cgroup_root_.c_str()));
    }
    if (method == "StartTransientUnit") {
      return start(call);
    }
    if (method != "ListUnitFiles" && method != "ListUnits" && method != "GetAll") {
      return 0;
    }
    sd_bus_message* reply = nullptr;
    EXPECT_GE(sd_bus_message_new_method_return(call, &reply), 0);
    if (method == "GetAll") {
      append_properties(reply, unit_of(call));
    } else if (method == "ListUnits") {
      append_loaded(reply);
    } else {
      append_files(reply);
    }
    const int rc = sd_bus_send(sd_bus_message_get_bus(call), reply, nullptr);
    sd_bus_message_unref(reply);
    return sent(rc);
  }
  static int sent(int rc) { return rc < 0 ? rc : 1; }

  void append_files(sd_bus_message* reply) const {
    sd_bus_message_open_container(reply, 'a', "(ss)");
    for (const std::string& path : files_) {
      sd_bus_message_append(reply, "(ss)", path.c_str(), "enabled");
    }
    sd_bus_message_close_container(reply);
  }
  void append_loaded(sd_bus_message* reply) const {
    sd_bus_message_open_container(reply, 'a', "(ssssssouso)");
    for (const auto& [name, load_state] : loaded_) {
      sd_bus_message_append(reply, "(ssssssouso)", name.c_str(), "a unit", load_state.c_str(),
                            "active", "running", "", "/org/freedesktop/systemd1/unit/x", 0U, "",
                            "/");
    }
    sd_bus_message_close_container(reply);
  }
  void append_properties(sd_bus_message* reply, const std::string& name) const {
    const auto id = id_by_name_.find(name);
    const UnitProperties unknown = {
        {"Id", name}, {"Names", Texts{name}}, {"LoadState", "not-found"}};
    const UnitProperties& properties = id == id_by_name_.end() ? unknown : units_.at(id->second);
    static constexpr const char* kTypes[] = {"b", "u", "s", "as", "a(ss)"};
    sd_bus_message_open_container(reply, 'a', "{sv}");
    for (const auto& [key, value] : properties) {
      sd_bus_message_open_container(reply, 'e', "sv");
      sd_bus_message_append(reply, "s", key.c_str());
      sd_bus_message_open_container(reply, 'v', kTypes[value.index()]);
      std::visit(Append{reply}, value);
      sd_bus_message_close_container(reply);
      sd_bus_message_close_container(reply);
    }
    sd_bus_message_close_container(reply);
  }
  struct Append {
    sd_bus_message* message;
    void operator()(bool value) const {
      sd_bus_message_append(message, "b", static_cast<int>(value));
    }
    void operator()(std::uint32_t value) const { sd_bus_message_append(message, "u", value); }
    void operator()(const std::string& value) const {
      sd_bus_message_append(message, "s", value.c_str());
    }
    void operator()(const Texts& values) const {
      sd_bus_message_open_container(message, 'a', "s");
      for (const std::string& value : values) {
        sd_bus_message_append(message, "s", value.c_str());
      }
      sd_bus_message_close_container(message);
    }
    void operator()(const Pairs& values) const {
      sd_bus_message_open_container(message, 'a', "(ss)");
      for (const auto& [first, second] : values) {
        sd_bus_message_append(message, "(ss)", first.c_str(), second.c_str());
      }
      sd_bus_message_close_container(message);
    }
  };

  int start(sd_bus_message* call) {
    Start start = read_start(call);
    start.job = static_cast<std::uint32_t>(starts_.size() + 1);
    starts_.push_back(start);
    const std::string result = when_started_ ? when_started_(start) : "";
    const int rc = sd_bus_reply_method_return(call, "o", path_of_job(start).c_str());
    if (!result.empty()) {
      emit_job_removed(start, result);
    }
    return sent(rc);
  }
  static Start read_start(sd_bus_message* call) {
    Start start;
    const char* unit = "";
    const char* mode = "";
    EXPECT_GT(sd_bus_message_read(call, "ss", &unit, &mode), 0);
    start.unit = unit;
    start.mode = mode;
    EXPECT_GT(sd_bus_message_enter_container(call, 'a', "(sv)"), 0);
    while (sd_bus_message_enter_container(call, 'r', "sv") > 0) {
      const char* name = "";
      EXPECT_GT(sd_bus_message_read(call, "s", &name), 0);
      start.properties.emplace_back(name, read_value(call, start.pid));
      sd_bus_message_exit_container(call);
    }
    sd_bus_message_exit_container(call);
    return start;
  }
  /// "t 100". Of other types than those that the tests compare, only the type.
  static std::string read_value(sd_bus_message* call, std::uint32_t& pid) {
    const char* contents = "";
    EXPECT_GT(sd_bus_message_peek_type(call, nullptr, &contents), 0);
    const std::string type = contents;
    std::string text = type;
    EXPECT_GT(sd_bus_message_enter_container(call, 'v', type.c_str()), 0);
    if (type == "s") {
      const char* value = "";
      sd_bus_message_read(call, "s", &value);
      text += std::string(" ") + value;
    } else if (type == "t") {
      std::uint64_t value = 0;
      sd_bus_message_read(call, "t", &value);
      text += " " + std::to_string(value);
    } else if (type == "au") {
      EXPECT_GT(sd_bus_message_read(call, "au", 1, &pid), 0);
      text += " " + std::to_string(pid);
    } else {
      sd_bus_message_skip(call, type.c_str());
    }
    sd_bus_message_exit_container(call);
    return text;
  }
  static std::string path_of_job(const Start& start) {
    return std::string(kPath) + "/job/" + std::to_string(start.job);
  }
  void emit_job_removed(const Start& start, const std::string& result) {
    emit("JobRemoved", "uoss", start.job, path_of_job(start).c_str(), start.unit.c_str(),
         result.c_str());
  }
  template <typename... Values>
  void emit(const char* name, const char* types, Values... values) {
    for (sd_bus* bus : connections_) {
      sd_bus_message* message = nullptr;
      EXPECT_GE(sd_bus_message_new_signal(bus, &message, kPath, kManager, name), 0);
      if (is_dbus_daemon_) {
        EXPECT_GE(sd_bus_message_set_sender(message, ":1.0"), 0);
      }
      EXPECT_GE(sd_bus_message_append(message, types, values...), 0);
      EXPECT_GE(sd_bus_send(bus, message, nullptr), 0);
      sd_bus_message_unref(message);
    }
  }

  std::string socket_;
  uid_t owner_;
  std::string directory_;  // that the fake has made for its socket; may be empty
  Fd wake_;
  std::mutex mutex_;
  std::vector<std::function<void()>> tasks_;  // under the mutex
  // The rest is used by the thread only.
  sd_event* loop_ = nullptr;
  Fd listener_;
  sd_event_source* accepting_ = nullptr;
  std::vector<sd_bus*> connections_;
  bool is_dbus_daemon_ = false;
  std::map<std::string, UnitProperties> units_;  // by id
  std::map<std::string, std::string> id_by_name_;
  Texts files_;
  Pairs loaded_;  // (name, load state)
  std::string cgroup_root_;
  std::map<std::string, Answer> answers_;
  std::vector<std::pair<std::string, sd_bus_message*>> held_;  // by the name given to hold()
  std::map<std::string, std::size_t> counts_;
  std::vector<Start> starts_;
  std::function<std::string(const Start&)> when_started_;
  std::thread thread_;
};

/// Runs the loop until `condition` is true; false after 10 s.
inline bool await_on(sd_event* loop, const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) {
      return false;
    }
    sd_event_run(loop, 20'000);
  }
  return true;
}

/// Makes a call and runs the loop until it is answered. Everything that the fake has sent before is
/// then processed. False if there is no answer.
inline bool round_trip_on(sd_event* loop, Bus& bus) {
  bool answered = false;
  bus.send(bus.manager_call("NoSuchMethod"),
           [&answered](const Result<sd_bus_message*>& /*reply*/) { answered = true; });
  return await_on(loop, [&answered] { return answered; });
}

/// Runs `test` in a thread that has its own empty file systems at /etc and /run, with the
/// directories of systemd for drop-ins. Threads that it starts have them too. False if they cannot
/// be mounted.
template <typename Test>
bool with_own_directories(Test test) {
  bool ready = false;
  std::thread([&] {
    // Threads share their root and working directory until unshare(CLONE_FS).
    ready = ::unshare(CLONE_FS | CLONE_NEWNS) == 0 &&
            ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
            ::mount("trireme-test", "/etc", "tmpfs", 0, nullptr) == 0 &&
            ::mount("trireme-test", "/run", "tmpfs", 0, nullptr) == 0;
    if (ready) {
      std::filesystem::create_directories("/etc/systemd/system");
      std::filesystem::create_directories("/run/systemd/system");
      test();
    }
  }).join();
  return ready;
}

/// A fake PID 1 and a connection to it. Skips without root, because the fake's socket must be
/// root's.
class BusTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    ASSERT_GE(sd_event_new(&loop_), 0);
    manager_ = std::make_unique<FakeManager>();
  }
  void TearDown() override {
    bus_.reset();
    manager_.reset();
    sd_event_unref(loop_);
  }
  void connect() {
    auto bus = Bus::connect(loop_, manager_->socket());
    ASSERT_TRUE(bus) << bus.error().text();
    bus_ = std::move(*bus);
  }
  [[nodiscard]] bool await(const std::function<bool()>& condition) {
    return await_on(loop_, condition);
  }
  [[nodiscard]] bool round_trip() { return round_trip_on(loop_, *bus_); }

  sd_event* loop_ = nullptr;
  std::unique_ptr<FakeManager> manager_;
  std::unique_ptr<Bus> bus_;
};

}  // namespace trireme::systemd::test
