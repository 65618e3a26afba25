// SPDX-License-Identifier: Apache-2.0
// The client side of the control socket, for trirectl and trirun. All calls block; no event loop or
// event library is needed.
#pragma once

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::control {

class Client {
 public:
  /// Connects to the daemon's socket at `path`. Waits at most 10 s while the daemon's backlog is
  /// full. Errors: the path is too long, or no daemon listens there.
  [[nodiscard]] static Result<Client> connect(const std::string& path);

  /// Sends one request and returns its result. Events that arrive before the result are passed to
  /// `on_event`; if it returns false, the call ends at once with a null result. `timeout` limits
  /// the time without any data from the daemon; zero means no limit. After an error the connection
  /// cannot be used again.
  [[nodiscard]] Result<nlohmann::json> call(
      const std::string& method, const nlohmann::json& params, std::chrono::milliseconds timeout,
      const std::function<bool(const nlohmann::json&)>& on_event = {});

  /// Also ends a call with a null result when the reading end of the pipe `fd` is closed, for
  /// example because a pager exits. `fd` stays the caller's and must stay open.
  void end_with_reader(int fd) { reader_ = fd; }

 private:
  explicit Client(Fd fd) : fd_(std::move(fd)) {}
  [[nodiscard]] Status send(const std::string& line, std::chrono::milliseconds timeout);
  /// Returns nullopt if the reading end of the pipe of end_with_reader() is closed.
  [[nodiscard]] Result<std::optional<std::string>> read_line(std::chrono::milliseconds timeout);
  Fd fd_;
  int reader_ = -1;
  std::string buffer_;
};

}  // namespace trireme::control
