// SPDX-License-Identifier: Apache-2.0
// The server side of the control socket: one JSON object per line, answered in order, on one
// sd_event loop.
//
// A request is {"method": "...", "params": {...}}. Its answer is {"result": ...} or {"error":
// {"message": "...", "hint": "...", "kind": "usage"}}; "kind" is there only if a value that the
// user chose is invalid. A streaming method sends any number of {"event": ...} lines before. A
// connection has one request in progress at a time; further lines wait.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/base/rate_shares.hpp"
#include "trireme/base/result.hpp"

struct sd_event;

namespace trireme::control {

/// The process at the other end of a connection, as the kernel recorded it at connect(2)
/// (SO_PEERCRED).
struct Caller {
  pid_t pid = 0;  // in this process's pid namespace; 0 if the caller has no pid there
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary (SO_PEERGROUPS)
  Fd pidfd;  // SO_PEERPIDFD (Linux 6.5), on older kernels opened after accept(2); close-on-exec
};

enum class Access : std::uint8_t {
  root,    // uid 0 only; other users get an error and the handler is not called
  anyone,  // any user; the handler checks what the caller is allowed to do
};

/// The answer to one request, shared by all copies. It can outlive its connection; output is then
/// discarded. If the last copy is destroyed before result() or error(), the caller gets an error.
class Reply {
 public:
  struct State;
  explicit Reply(std::shared_ptr<State> state) : state_(std::move(state)) {}

  /// Ends the request. Only the first result() or error() counts.
  void result(const nlohmann::json& value) const;
  /// Like result(), for a long value that many callers get: make_line() makes it into text once,
  /// and each caller gets it in pieces as it reads.
  using Line = std::shared_ptr<const std::string>;
  [[nodiscard]] static Line make_line(const nlohmann::json& value);
  void result_line(Line line) const;
  void error(const Error& error) const;
  /// Sends one event. A caller with more than Limits::backlog_bytes unread is disconnected.
  void event(const nlohmann::json& value) const;
  /// Returns the next of many values, or nullopt after the last.
  using Next = std::function<std::optional<nlohmann::json>()>;
  /// Ends the request with an array as its result. `next` is called as the caller reads, for a few
  /// values per turn of the event loop, so that a long list neither delays other callers nor is in
  /// memory as a whole.
  void list(Next next) const;
  /// Like list(), but sends an event for each value and then `result`.
  void list_events(Next next, nlohmann::json result) const;
  /// False once the caller has disconnected or the request is answered.
  [[nodiscard]] bool open() const;
  /// Sets the function that is called once if the caller disconnects before the request is
  /// answered. Replaces an earlier function. If the caller has already disconnected, it is called
  /// immediately.
  void on_close(std::function<void()> function) const;

 private:
  std::shared_ptr<State> state_;
};

/// Handles one request. `caller` is destroyed with its connection, so copy what is used later.
using Handler =
    std::function<void(const Caller& caller, const nlohmann::json& params, Reply reply)>;

/// Limits on what callers can use, so that no user can keep others, or root, from the daemon.
struct Limits {
  std::size_t line_bytes = 128U << 10U;  // of one request; a longer one ends the connection
  /// Unread output at which a caller that gets events is disconnected. One result can be larger.
  std::size_t backlog_bytes = 4U << 20U;
  std::size_t connections = 1024;              // of all callers; root can use all of them
  std::size_t connections_per_uid = 64;        // of one uid other than 0
  std::size_t connections_unprivileged = 512;  // of all uids other than 0 together
  /// Requests of uids other than 0 per second. The same limits apply to their connections.
  RateShares::Limits requests = {.each = {.burst = 200, .per_second = 50},
                                 .together = {.burst = 800, .per_second = 400},
                                 .reserve = {.burst = 10, .per_second = 2},
                                 .owners = 1024};
  /// A caller is disconnected if, for this long, it sends no complete request or reads nothing of
  /// its answer.
  std::chrono::milliseconds stall{15'000};
};

class Server {
 public:
  /// Listens on `path` with mode 0666, because access is checked by the caller's credentials. A
  /// stale socket file is replaced atomically. Errors: another process listens on the socket, or
  /// the file is not a socket. `loop` must outlive the server.
  [[nodiscard]] static Result<std::unique_ptr<Server>> listen(sd_event* loop,
                                                              const std::string& path,
                                                              Limits limits = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Registers a method, replacing an earlier one of that name. If the handler throws, the caller
  /// gets an error.
  void on(std::string method, Access access, Handler handler);

  [[nodiscard]] std::size_t connections() const;
  /// Connections and requests refused because of Limits.
  [[nodiscard]] std::uint64_t turned_away() const;

 private:
  struct Core;
  explicit Server(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};

}  // namespace trireme::control
