// SPDX-License-Identifier: Apache-2.0
// One caller of the control socket: lines in, lines out, one request at a time.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "trireme/base/event.hpp"
#include "trireme/control/server.hpp"

namespace trireme::control {

/// Never closes itself while one of its functions is called from outside: a reader that failed is
/// dropped from the event loop.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  struct Callbacks {
    std::function<void(Connection&, const std::string& line)>
        request;                            // answers through finish(), now or later
    std::function<void(Connection&)> gone;  // the connection may be destroyed
  };

  Connection(Fd fd, Caller caller, const Limits& limits, Callbacks callbacks);

  [[nodiscard]] Status start(sd_event* event);
  [[nodiscard]] const Caller& caller() const { return caller_; }
  [[nodiscard]] bool alive() const { return alive_; }
  /// No request is being answered, and nothing of an answer is unread.
  [[nodiscard]] bool idle() const { return alive_ && !busy_ && output_.empty(); }
  /// Ends it, from the event loop's next turn on.
  void drop_soon();

  /// The request that request() handed out; told when the caller hangs up.
  void expect(std::weak_ptr<Reply::State> pending);
  /// A line of a stream.
  void stream(const nlohmann::json& line);
  /// The answer to the pending request.
  void finish(const nlohmann::json& line);
  /// The same in pieces: `more` appends one, and tells whether others follow.
  using More = std::function<bool(std::string&)>;
  void finish_in_pieces(More more);

 private:
  void talk(std::uint32_t events);
  void receive();
  void process();
  void refuse(const std::string& message);
  void append(const nlohmann::json& line);
  void refill();
  void flush();
  void watch();
  void arm(bool progress);
  void close();

  Fd fd_;
  Caller caller_;
  Limits limits_;
  Callbacks callbacks_;
  event::Io io_;
  event::Timer timer_;
  std::string input_;
  std::string output_;
  std::size_t written_ = 0;  // bytes of output_ that the kernel has
  More more_;                // of the answer that is being given
  std::weak_ptr<Reply::State> pending_;
  bool busy_ = false;        // a request waits for its answer
  bool waiting_ = false;     // input_ holds a whole request
  bool processing_ = false;  // process() is on the stack
  bool ended_ = false;       // the caller sends no more, or nothing more is wanted from it
  bool alive_ = true;
  bool armed_ = false;
};

/// What the copies of a Reply share.
struct Reply::State {
  std::weak_ptr<Connection> connection;
  std::function<void()> on_close;
  bool answered = false;

  ~State();
  void finish(const nlohmann::json& line);
  void finish_in_pieces(Connection::More more);
  /// The caller is gone.
  void hang_up();
};

}  // namespace trireme::control
