// SPDX-License-Identifier: Apache-2.0
// A fake Docker engine with scripted answers on a Unix socket, and a private cgroup hierarchy.
#pragma once

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/docker/source.hpp"
#include "workload_support.hpp"

namespace trireme::docker::test {

using namespace workload;
using namespace workload::test;

using nlohmann::json;

/// Serves HTTP on the test's event loop, so it answers while the test waits for something.
class FakeDocker {
 public:
  explicit FakeDocker(sd_event* loop, std::string name = "docker")
      : loop_(loop), name_(std::move(name)) {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "trireme-docker-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  ~FakeDocker() {
    stop();
    std::filesystem::remove_all(directory_);
  }
  FakeDocker(const FakeDocker&) = delete;
  FakeDocker& operator=(const FakeDocker&) = delete;

  [[nodiscard]] std::string socket() const { return directory_ + "/" + name_ + ".sock"; }

  void start() {
    listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket().copy(address.sun_path, sizeof address.sun_path - 1);
    const void* raw = &address;
    ASSERT_EQ(::bind(listener_.get(), static_cast<const sockaddr*>(raw), sizeof address), 0);
    ASSERT_EQ(::listen(listener_.get(), 64), 0);
    ASSERT_GE(sd_event_add_io(loop_, &accepting_, listener_.get(), EPOLLIN, on_connection, this),
              0);
  }
  /// Simulates a crash: closes every connection and removes the socket.
  void stop() {
    accepting_ = sd_event_source_disable_unref(accepting_);
    listener_ = Fd();
    while (!connections_.empty()) {
      drop(*connections_.begin()->second);
    }
    std::filesystem::remove(socket());
  }

  /// Sends a line of /events to every stream.
  void emit(const std::string& action, const std::string& id) {
    say(json{{"Type", "container"}, {"Action", action}, {"Actor", {{"ID", id}}}}.dump() + "\n");
  }
  /// Sends raw bytes to every event stream.
  void say(const std::string& text) {
    for (const auto& [fd, connection] : connections_) {
      if (connection->is_stream) {
        send(*connection, chunk(text));
      }
    }
  }
  void end_streams() {
    std::vector<Connection*> streams;
    for (const auto& [fd, connection] : connections_) {
      if (connection->is_stream) {
        streams.push_back(connection.get());
      }
    }
    for (Connection* stream : streams) {
      drop(*stream);
    }
  }
  void release_list() {
    respond(*held_.first, 200, held_.second);
    is_list_held = false;
  }

  std::map<std::string, json> containers;  // id -> inspection
  std::map<std::string, json> images;      // id -> labels
  std::set<std::string> failing;           // their inspections end with HTTP status 500
  std::set<std::string> silent;            // their inspections are not answered
  std::vector<json> more_listed;           // entries of the list beside `containers`
  bool lists_host_networks = false;        // the list has mode "host" for all, as Podman's
  bool is_list_held = false;               // the list is only sent by release_list()
  std::string server;                      // the Server: header
  json networks = json::array();           // the answer to /networks
  unsigned lists = 0;
  unsigned inspections = 0;

 private:
  struct Connection {
    FakeDocker* docker = nullptr;
    Fd fd;
    sd_event_source* source = nullptr;
    std::string input;
    bool is_stream = false;
  };

  static std::string chunk(const std::string& text) {
    char size[20];
    std::snprintf(size, sizeof size, "%zx\r\n", text.size());
    return size + text + "\r\n";
  }
  static void send(const Connection& connection, const std::string& text) {
    const ssize_t sent = ::send(connection.fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
    EXPECT_TRUE(sent == static_cast<ssize_t>(text.size()) ||
                errno == EPIPE);  // the client may have closed it
  }
  static int on_connection(sd_event_source*, int fd, std::uint32_t, void* self) {
    auto& docker = *static_cast<FakeDocker*>(self);
    auto connection = std::make_unique<Connection>();
    connection->docker = &docker;
    connection->fd = Fd(::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC));
    sd_event_add_io(docker.loop_, &connection->source, connection->fd.get(), EPOLLIN, on_request,
                    connection.get());
    docker.connections_[connection->fd.get()] = std::move(connection);
    return 0;
  }
  static int on_request(sd_event_source*, int fd, std::uint32_t, void* of) {
    auto& connection = *static_cast<Connection*>(of);
    char buffer[8192];
    const ssize_t size = ::recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (size <= 0) {
      connection.docker->drop(connection);
      return 0;
    }
    connection.input.append(buffer, static_cast<std::size_t>(size));
    for (std::size_t end = 0; (end = connection.input.find("\r\n\r\n")) != std::string::npos;) {
      const std::string path = connection.input.substr(4, connection.input.find(' ', 4) - 4);
      connection.input.erase(0, end + 4);
      connection.docker->answer(connection, path);
    }
    return 0;
  }
  void drop(Connection& connection) {
    sd_event_source_disable_unref(connection.source);
    connections_.erase(connection.fd.get());
  }
  static void respond(Connection& connection, int status, const std::string& body) {
    send(connection, "HTTP/1.1 " + std::to_string(status) +
                         " X\r\nServer: Docker/1\r\nContent-Length: " +
                         std::to_string(body.size()) + "\r\n\r\n" + body);
  }
  void answer(Connection& connection, const std::string& path) {
    if (path.starts_with("/events")) {
      connection.is_stream = true;
      send(connection,
           "HTTP/1.1 200 OK\r\nServer: " + server + "\r\nTransfer-Encoding: chunked\r\n\r\n");
    } else if (path == "/networks") {
      respond(connection, 200, networks.dump());
    } else if (path == "/info") {
      respond(connection, 200,
              R"({"ServerVersion":"20.10.24","CgroupDriver":"systemd","CgroupVersion":"2"})");
    } else if (path.starts_with("/containers/json")) {
      ++lists;
      held_ = {&connection, list().dump()};
      if (!is_list_held) {
        release_list();
      }
    } else if (path.starts_with("/containers/")) {
      inspection(connection, path.substr(12, 64));
    } else {
      std::string id = path.substr(8, path.rfind('/') - 8);  // /images/ID/json
      if (const std::size_t colon = id.find("%3A"); colon != std::string::npos) {
        id.replace(colon, 3, ":");
      }
      const auto found = images.find(id);
      found == images.end()
          ? respond(connection, 404, "{}")
          : respond(connection, 200, json{{"Config", {{"Labels", found->second}}}}.dump());
    }
  }
  json list() {
    json all = json::array();
    for (const auto& [id, container] : containers) {
      const bool running = container["State"]["Pid"] != 0;
      all.push_back(
          {{"Id", id},
           {"Names", {container["Name"]}},
           {"ImageID", container["Image"]},
           {"Labels", container["Config"]["Labels"]},
           {"State", running ? "running" : "created"},
           {"HostConfig",
            {{"NetworkMode",
              lists_host_networks ? json("host") : container["HostConfig"]["NetworkMode"]}}}});
    }
    std::ranges::copy(more_listed, std::back_inserter(all));
    return all;
  }
  void inspection(Connection& connection, const std::string& id) {
    ++inspections;
    const auto found = containers.find(id);
    if (silent.contains(id)) {
      return;
    }
    if (failing.contains(id)) {
      respond(connection, 500, R"({"message":"broken"})");
    } else if (found == containers.end()) {
      respond(connection, 404, R"({"message":"No such container"})");
    } else {
      respond(connection, 200, found->second.dump());
    }
  }

  sd_event* loop_;
  std::string name_;
  std::pair<Connection*, std::string> held_;
  std::string directory_;
  Fd listener_;
  sd_event_source* accepting_ = nullptr;
  std::map<int, std::unique_ptr<Connection>> connections_;
};

/// A fake Docker, the daemon's objects that Source needs, and a fake kernel.
class DockerTest : public CgroupTest {
 protected:
  void SetUp() override {
    CgroupTest::SetUp();
    if (IsSkipped()) {
      return;
    }
    docker_ = std::make_unique<FakeDocker>(loop_);
    docker_->images["sha256:base"] = nullptr;
    settings_.docker.sockets = {docker_->socket()};
    ASSERT_TRUE(tree_->create("/system.slice"));
    start_daemon();
  }
  void TearDown() override {
    source_.reset();
    events_.reset();
    registry_.reset();
    processes_.clear();
    docker_.reset();
    CgroupTest::TearDown();
  }
  void start_daemon() {
    source_.reset();
    events_.reset();
    registry_ = std::make_unique<Registry>(*tree_, kernel_);
    registry_->on_change = [this](const Workload& workload, bool ended) {
      news_.push_back(workload.name + " " + (ended ? "ended" : text(workload.state)));
    };
    auto events = CgroupEvents::create(loop_, *tree_, *registry_, kernel_, "/trireme.slice");
    ASSERT_TRUE(events);
    events_ = std::move(*events);
    source_ = std::make_unique<Source>(loop_, *tree_, *registry_, *events_);
    events_->add_source(*source_);
    ASSERT_TRUE(registry_->recover());
    ASSERT_TRUE(events_->start());
    configure();
  }
  void configure() { source_->configure(std::make_shared<config::Host>(settings_)); }

  /// Docker knows a container that has not been started.
  void create(const std::string& id, const std::string& name, const json& set = {{"app", "web"}},
              const std::string& network = "host") {
    docker_->containers[id] = {{"Id", id},
                               {"Name", "/" + name},
                               {"Image", "sha256:base"},
                               {"Config", {{"Labels", set}}},
                               {"HostConfig", {{"NetworkMode", network}, {"CapDrop", {"NET_RAW"}}}},
                               {"State", {{"Pid", 0}}}};
  }
  /// Creates the container's cgroup.
  std::string create_cgroup(const std::string& id) {
    return create_cgroup_at("/system.slice/docker-" + id + ".scope");
  }
  std::string create_cgroup_at(const std::string& path) {
    EXPECT_TRUE(tree_->create(path));
    return path;
  }
  /// Starts a process in the cgroup, which Docker reports.
  std::uint32_t run(const std::string& id, const std::string& path, bool own_network = false) {
    const std::uint32_t pid = place(path, own_network).pid();
    docker_->containers[id]["State"]["Pid"] = pid;
    return pid;
  }
  /// Starts a process of the runtime in the cgroup, which Docker does not report yet.
  Process& place(const std::string& path, bool own_network = false) {
    processes_.push_back(std::make_unique<Process>(own_network));
    EXPECT_TRUE(tree_->place(path, processes_.back()->pid()));
    return *processes_.back();
  }
  void stop(const std::string& id, const std::string& path) {
    docker_->containers[id]["State"]["Pid"] = 0;
    processes_.clear();
    ASSERT_TRUE(await([&] { return !tree_->populated(path); }));
    ASSERT_TRUE(tree_->remove(path));
    docker_->emit("die", id);
  }
  void launch(const std::string& id, bool own_network = false) {
    run(id, create_cgroup(id), own_network);
    docker_->emit("start", id);
  }
  void connect() {
    docker_->start();
    ASSERT_TRUE(await([&] { return is_connected(); })) << source_->status();
  }
  [[nodiscard]] bool is_connected() const {
    return source_->status().starts_with("Docker 20.10.24, cgroup driver systemd, ");
  }
  /// The name of the container's state; empty if it is not a workload.
  [[nodiscard]] std::string state(const std::string& id) const {
    const Workload* workload = registry_->find_container(id);
    return workload == nullptr ? "" : text(workload->state);
  }
  [[nodiscard]] bool becomes(const std::string& id, const std::string& wanted) {
    return await([&] { return state(id) == wanted; });
  }
  [[nodiscard]] bool is_in_kernel(const std::string& path) {
    return kernel_.cgroups.contains(id(path));
  }

  FakeEnforcement kernel_;
  config::Host settings_;
  std::unique_ptr<FakeDocker> docker_;
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<CgroupEvents> events_;
  std::unique_ptr<Source> source_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::vector<std::string> news_;
};

}  // namespace trireme::docker::test
