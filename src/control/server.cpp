// SPDX-License-Identifier: Apache-2.0
#include "trireme/control/server.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <fmt/format.h>

#include <cstring>
#include <list>
#include <map>
#include <unordered_map>

#include "connection.hpp"
#include "request.hpp"
#include "trireme/control/client.hpp"
#include "trireme/control/methods.hpp"

#ifndef SO_PEERPIDFD
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage): the name of newer headers
#define SO_PEERPIDFD 77  // asm-generic/socket.h, Linux 6.5
#endif

namespace trireme::control {

namespace {

constexpr int kBacklog = 4096;                    // the kernel limits it to net.core.somaxconn
constexpr std::chrono::milliseconds kPause(100);  // before the next accept4(2) after a failure
constexpr int kAcceptsPerTurn = 64;

Result<std::vector<gid_t>> groups_of(int fd) {
  std::vector<gid_t> groups(64);
  while (true) {
    auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    const int rc = ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
    groups.resize(size / sizeof(gid_t));  // after ERANGE, `size` is what the kernel needs
    if (rc == 0) {
      return groups;
    }
    if (errno != ERANGE) {
      return fail_errno("cannot read a caller's groups");
    }
  }
}

Result<Caller> caller_of(int fd) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return fail_errno("cannot read a caller's credentials");
  }
  Caller caller{.pid = credentials.pid,
                .uid = credentials.uid,
                .gid = credentials.gid,
                .groups = {},
                .pidfd = {}};
  auto groups = groups_of(fd);
  if (!groups) {
    return tl::unexpected(groups.error());
  }
  caller.groups = std::move(*groups);
  int pidfd = -1;
  size = sizeof pidfd;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0) {
    caller.pidfd.reset(pidfd);
  } else {
    // If the caller has already ended, its pid can belong to another process: do not use it.
    caller.pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, caller.pid, 0)));
    caller.pid = caller.pidfd.valid() ? caller.pid : 0;
  }
  return caller;
}

/// Checks that `path` can be replaced: it does not exist, or is a socket on which no process
/// listens.
Status check_replaceable(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? Status{} : fail_errno("cannot read the status of " + path);
  }
  if (!S_ISSOCK(info.st_mode)) {
    return fail(path + " exists and is not a socket",
                "move it away, or choose another --runtime-dir");
  }
  if (Client::connect(path)) {
    return fail("another triremed is listening on " + path,
                "stop it, or choose another --runtime-dir");
  }
  return {};
}

Result<Fd> bind_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // Bind under another name and rename it to `path`, so that callers find either the old socket or
  // one that is listening.
  const std::string fresh = path + ".new";
  if (fresh.size() >= sizeof address.sun_path) {
    return fail("the socket path " + path + " is too long", "choose a shorter --runtime-dir");
  }
  std::memcpy(address.sun_path, fresh.c_str(), fresh.size() + 1);
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) {
    return fail_errno("cannot create a socket");
  }
  ::unlink(fresh.c_str());
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail_errno("cannot bind " + fresh);
  }
  if (::chmod(fresh.c_str(), 0666) != 0 || ::listen(fd.get(), kBacklog) != 0 ||
      ::rename(fresh.c_str(), path.c_str()) != 0) {
    const int error = errno;
    ::unlink(fresh.c_str());
    return fail_errno("cannot listen on " + path, error);
  }
  return fd;
}

}  // namespace

struct Server::Core {
  struct Method {
    Access access = Access::root;
    Handler handler;
  };

  explicit Core(const Limits& of) : limits(of) {}

  sd_event* loop = nullptr;
  std::string path;
  Limits limits;
  Fd listener;
  ino_t inode = 0;
  event::Io accepting;
  event::Timer pause;
  std::map<std::string, Method, std::less<>> methods;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections;
  std::list<Connection*> by_age;  // of callers other than root, oldest first
  std::map<uid_t, std::size_t> by_uid;
  RateShares connects{limits.requests};
  RateShares requests{limits.requests};
  std::uint64_t turned_away = 0;

  void accept_some();
  /// Accepts one connection. Returns false if none is waiting, or no descriptor is available.
  bool accept_one();
  void admit(Fd fd, Caller caller);
  [[nodiscard]] bool has_room(uid_t uid) const;
  [[nodiscard]] bool make_room(uid_t uid);
  [[nodiscard]] static bool may(RateShares& shares, uid_t uid);
  void request(Connection& connection, const std::string& line);
  void forget(Connection& connection);
};

void Server::Core::accept_some() {
  for (int i = 0; i < kAcceptsPerTurn && accept_one(); ++i) {
  }
}

bool Server::Core::accept_one() {
  Fd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid()) {
    if (errno == ECONNABORTED || errno == EINTR) {
      return true;
    }
    if (errno != EAGAIN) {
      // Out of descriptors or memory. Pause, because the waiting connection would otherwise wake
      // the event loop again immediately.
      accepting.pause();
      pause.arm(kPause);
    }
    return false;
  }
  if (auto caller = caller_of(fd.get())) {
    admit(std::move(fd), std::move(*caller));
  }
  return true;
}

bool Server::Core::has_room(uid_t uid) const {
  if (connections.size() >= limits.connections) {
    return false;
  }
  if (uid == 0) {
    return true;
  }
  const auto mine = by_uid.find(uid);
  const auto root = by_uid.find(0);
  const std::size_t unprivileged = connections.size() - (root == by_uid.end() ? 0 : root->second);
  return unprivileged < limits.connections_unprivileged &&
         (mine == by_uid.end() || mine->second < limits.connections_per_uid);
}

/// Makes room for a connection of `uid` by closing the oldest idle connection of the user with the
/// most connections. Returns false if no user with an idle connection has more than `uid` has.
bool Server::Core::make_room(uid_t uid) {
  const auto count = [this](uid_t of) {
    const auto known = by_uid.find(of);
    return known == by_uid.end() ? 0 : known->second;
  };
  if (uid == 0 || connections.size() >= limits.connections ||
      count(uid) >= limits.connections_per_uid) {
    return false;
  }
  Connection* largest = nullptr;
  std::size_t most = count(uid);
  for (Connection* connection : by_age) {
    if (const std::size_t has = count(connection->caller().uid); has > most && connection->idle()) {
      largest = connection;
      most = has;
    }
  }
  if (largest == nullptr) {
    return false;
  }
  largest->drop_soon();
  return true;
}

bool Server::Core::may(RateShares& shares, uid_t uid) {
  return uid == 0 || shares.take(std::to_string(uid), RateShares::Clock::now());
}

void Server::Core::admit(Fd fd, Caller caller) {
  const uid_t uid = caller.uid;
  if (!may(connects, uid) || (!has_room(uid) && !make_room(uid))) {
    turned_away++;
    static const std::string busy = fmt::format(
        R"({{"error":{{"message":"too many connections to trireme","hint":"try again in a moment"}},)"
        R"("version":{}}})"
        "\n",
        kProtocolVersion);
    [[maybe_unused]] const ssize_t sent =
        ::send(fd.get(), busy.data(), busy.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return;
  }
  const auto connection = std::make_shared<Connection>(
      std::move(fd), std::move(caller), limits,
      Connection::Callbacks{
          .request = [this](Connection& from, const std::string& line) { request(from, line); },
          .gone = [this](Connection& from) { forget(from); }});
  if (!connection->start(loop)) {
    return;  // out of descriptors; the connection is closed
  }
  connections.emplace(connection.get(), connection);
  if (uid != 0) {
    by_age.push_back(connection.get());
  }
  ++by_uid[uid];
}

void Server::Core::request(Connection& connection, const std::string& line) {
  const auto state = std::make_shared<Reply::State>();
  state->connection = connection.weak_from_this();
  connection.expect(state);
  const Reply reply(state);

  if (!may(requests, connection.caller().uid)) {
    turned_away++;
    return reply.error({"too many requests from user " + std::to_string(connection.caller().uid),
                        "try again in a moment"});
  }
  const auto parsed = parse_request(line);
  if (!parsed) {
    return reply.error(parsed.error());
  }
  const auto method = methods.find(parsed->method);
  if (method == methods.end()) {
    return reply.error({"unknown method '" + parsed->method + "'",
                        "trirectl and triremed may be different versions"});
  }
  if (method->second.access == Access::root && connection.caller().uid != 0) {
    return reply.error({"only root can use '" + method->first + "'", "run it with sudo"});
  }
  const Handler handler = method->second.handler;  // a copy: the handler may replace itself
  try {
    handler(connection.caller(), parsed->params, reply);
  } catch (const std::exception& exception) {
    // A handler throws if a parameter is missing or has the wrong type.
    reply.error({"invalid request '" + method->first + "': " + exception.what(), ""});
  }
}

void Server::Core::forget(Connection& connection) {
  const uid_t uid = connection.caller().uid;
  if (const auto count = by_uid.find(uid); count != by_uid.end() && --count->second == 0) {
    by_uid.erase(count);
  }
  std::erase(by_age, &connection);
  connections.erase(&connection);
}

Server::Server(std::unique_ptr<Core> core) : core_(std::move(core)) {}

Server::~Server() {
  struct stat info {};
  if (::lstat(core_->path.c_str(), &info) == 0 && info.st_ino == core_->inode) {
    ::unlink(core_->path.c_str());
  }
}

Result<std::unique_ptr<Server>> Server::listen(sd_event* loop, const std::string& path,
                                               Limits limits) {
  if (auto status = check_replaceable(path); !status) {
    return tl::unexpected(status.error());
  }
  auto fd = bind_socket(path);
  if (!fd) {
    return tl::unexpected(fd.error());
  }
  auto core = std::make_unique<Core>(limits);
  core->loop = loop;
  core->path = path;
  core->listener = std::move(*fd);
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0) {
    core->inode = info.st_ino;
  }
  for (Status opened :
       {core->accepting.open(loop, core->listener.get(), EPOLLIN,
                             [&made = *core](std::uint32_t /*events*/) { made.accept_some(); }),
        core->pause.open(loop, [&made = *core] { made.accepting.resume(); })}) {
    if (!opened) {
      return tl::unexpected(opened.error());
    }
  }
  return std::unique_ptr<Server>(new Server(std::move(core)));
}

void Server::on(std::string method, Access access, Handler handler) {
  core_->methods.insert_or_assign(std::move(method),
                                  Core::Method{.access = access, .handler = std::move(handler)});
}

std::size_t Server::connections() const {
  return core_->connections.size();
}

std::uint64_t Server::turned_away() const {
  return core_->turned_away;
}

}  // namespace trireme::control
