// SPDX-License-Identifier: Apache-2.0
// The tools' side of the control socket. Blocking; needs no event loop and none of its libraries.
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
  /// The error says what to do: start the daemon, name another runtime directory.
  [[nodiscard]] static Result<Client> connect(const std::string& path);

  /// One request and its answer; events before it are passed to `on_event`, which returns false to
  /// end the call early (the result is then null). `timeout` is the longest silence; zero waits for
  /// ever. After an error the connection is of no further use.
  [[nodiscard]] Result<nlohmann::json> call(
      const std::string& method, const nlohmann::json& params, std::chrono::milliseconds timeout,
      const std::function<bool(const nlohmann::json&)>& on_event = {});

  /// A call also ends early, as if on_event had said so, when nobody reads the pipe `fd` any more.
  /// The caller keeps it open.
  void end_with_reader(int fd) { reader_ = fd; }

 private:
  explicit Client(Fd fd) : fd_(std::move(fd)) {}
  [[nodiscard]] Status send(const std::string& line, std::chrono::milliseconds timeout);
  /// nullopt: the reader has gone.
  [[nodiscard]] Result<std::optional<std::string>> read_line(std::chrono::milliseconds timeout);
  Fd fd_;
  int reader_ = -1;
  std::string buffer_;
};

}  // namespace trireme::control
