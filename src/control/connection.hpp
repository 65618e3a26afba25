// SPDX-License-Identifier: Apache-2.0
// One connection of the control socket: reads requests as lines, one at a time, and writes the
// answers.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "trireme/base/event.hpp"
#include "trireme/control/server.hpp"

namespace trireme::control {

/// A connection that fails is closed later, from the event loop, and never inside one of its public
/// functions. So callers can use it after any of them.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  struct Callbacks {
    /// Handles one request. The answer comes through finish(), immediately or later.
    std::function<void(Connection&, const std::string& line)> request;
    std::function<void(Connection&)> gone;  // called once it is closed; may destroy the connection
  };

  Connection(Fd fd, Caller caller, const Limits& limits, Callbacks callbacks);

  [[nodiscard]] Status start(sd_event* event);
  [[nodiscard]] const Caller& caller() const { return caller_; }
  [[nodiscard]] bool alive() const { return alive_; }
  /// True if no request is in progress and the caller has read all of the last answer.
  [[nodiscard]] bool idle() const { return alive_ && !busy_ && output_.empty(); }
  /// Closes the connection in the next turn of the event loop.
  void drop_soon();

  /// Sets the reply to the current request; its hang_up() is called if the caller disconnects.
  void expect(std::weak_ptr<Reply::State> pending);
  /// Sends a line before the answer of the current request.
  void stream(const nlohmann::json& line);
  /// Sends the answer to the current request.
  void finish(const nlohmann::json& line);
  /// Sends the answer in pieces as the caller reads them. `more` appends one piece to the string
  /// and returns whether more pieces follow.
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
  std::size_t written_ = 0;  // bytes of output_ that are written to the socket
  More more_;                // makes the next piece of the current answer
  std::weak_ptr<Reply::State> pending_;
  bool busy_ = false;        // a request is in progress
  bool waiting_ = false;     // input_ has a complete request that is not started
  bool processing_ = false;  // process() is on the call stack
  bool ended_ = false;       // nothing more is read: the caller sent its last byte, or an error
  bool alive_ = true;
  bool armed_ = false;
};

/// The state that all copies of a Reply share.
struct Reply::State {
  std::weak_ptr<Connection> connection;
  std::function<void()> on_close;
  bool answered = false;

  ~State();
  void finish(const nlohmann::json& line);
  void finish_in_pieces(Connection::More more);
  /// Called when the caller has disconnected.
  void hang_up();
};

}  // namespace trireme::control
