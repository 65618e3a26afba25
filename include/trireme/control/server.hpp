// SPDX-License-Identifier: Apache-2.0
// The daemon's side of the control socket: one JSON object a line, answered in order, on one
// sd_event loop.
//
// A request is {"method": "...", "params": {...}}. Its answer is {"result": ...} or {"error":
// {"message": "...", "hint": "..."}}; a streaming method sends any number of {"event": ...} lines
// before. A connection carries one request at a time; further lines wait their turn.
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

/// Who is at the other end, as the kernel saw it at connect(2) (SO_PEERCRED).
struct Caller {
  pid_t pid = 0;  // in our pid namespace; 0 where the caller has no pid there
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary (SO_PEERGROUPS)
  Fd pidfd;  // SO_PEERPIDFD (Linux 6.5), before that as of accept(2); close on exec
};

enum class Access : std::uint8_t {
  root,    // uid 0 only; others get an error and the handler never runs
  anyone,  // the handler decides
};

/// The answer to one request; copies share it. May outlive the connection: what nobody can read any
/// more is thrown away. When the last copy goes without result() or error(), the caller is told
/// that the daemon gave no answer.
class Reply {
 public:
  struct State;
  explicit Reply(std::shared_ptr<State> state) : state_(std::move(state)) {}

  /// Ends the request. Only the first result() or error() counts.
  void result(const nlohmann::json& value) const;
  void error(const Error& error) const;
  /// One line of a stream. A reader with too much unread is disconnected.
  void event(const nlohmann::json& value) const;
  /// The next of many values; empty: there are no more.
  using Next = std::function<std::optional<nlohmann::json>()>;
  /// Ends the request with an array as its result. `next` is asked as the caller reads, a few
  /// values in each turn of the loop: however many there are, nothing else waits for them, and
  /// little of them is in memory.
  void list(Next next) const;
  /// The same with an event for each value, then `result`.
  void list_events(Next next, nlohmann::json result) const;
  /// False once the caller hung up or the request was answered.
  [[nodiscard]] bool open() const;
  /// Called once if the caller hangs up before the request is answered; replaces an earlier
  /// function. Called at once where it hung up already.
  void on_close(std::function<void()> function) const;

 private:
  std::shared_ptr<State> state_;
};

/// `caller` lives as long as its connection: copy what must outlive the call.
using Handler =
    std::function<void(const Caller& caller, const nlohmann::json& params, Reply reply)>;

/// What callers can take from the daemon at most.
struct Limits {
  std::size_t line_bytes = 128U << 10U;   // a request; a longer one ends the connection
  std::size_t backlog_bytes = 4U << 20U;  // unread output at which a stream's reader is dropped (a
                                          // single result may be larger)
  std::size_t connections = 1024;         // of all callers; root may use all of them
  std::size_t connections_per_uid = 64;   // of one uid other than 0
  std::size_t connections_unprivileged = 512;  // of all uids other than 0 together
  RateShares::Limits requests = {.each = {.burst = 200, .per_second = 50},
                                 .together = {.burst = 800, .per_second = 400},
                                 .reserve = {.burst = 10, .per_second = 2},
                                 .owners = 1024};  // of uids other than 0; connections alike
  /// A caller that leaves a request half-sent, sends none, or reads nothing for so long is dropped.
  std::chrono::milliseconds stall{15'000};
};

class Server {
 public:
  /// Listens on `path`, mode 0666: who may do what is decided by the caller's credentials. A socket
  /// file that nobody answers is replaced atomically; one that somebody answers, or a file that is
  /// no socket, is an error. `loop` must outlive the server.
  [[nodiscard]] static Result<std::unique_ptr<Server>> listen(sd_event* loop,
                                                              const std::string& path,
                                                              Limits limits = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Registers a method, replacing an earlier one of that name. An exception that leaves the
  /// handler is answered as an error.
  void on(std::string method, Access access, Handler handler);

  [[nodiscard]] std::size_t connections() const;
  /// Connections and requests that were refused because a caller, or all but root together, had as
  /// many as the limits allow.
  [[nodiscard]] std::uint64_t turned_away() const;

 private:
  struct Core;
  explicit Server(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};

}  // namespace trireme::control
