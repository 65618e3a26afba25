// SPDX-License-Identifier: Apache-2.0
// HTTP for `trirectl ui`, by libmicrohttpd: on loopback, for some users of this host only.
//
// Each connection has a thread, because a request for updates waits until there are some. Their
// number, the size of a request and the silence between two requests are limited.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"
#include "ui_routes.hpp"

struct MHD_Daemon;

namespace trireme::cli {

class UiServer {
 public:
  /// Opens the sockets: 127.0.0.1 and, if the host has it, ::1 with the same port. `port` 0: any
  /// that is free. Errors: another program uses the port, of either address.
  [[nodiscard]] static Result<std::unique_ptr<UiServer>> open(std::uint16_t port);
  /// Call it when no request waits any more (UiLive::stop()): it waits for the threads, at first
  /// a second at most until all answers are sent.
  ~UiServer();
  UiServer(const UiServer&) = delete;
  UiServer& operator=(const UiServer&) = delete;

  [[nodiscard]] std::uint16_t port() const { return port_; }
  /// Serves until the object is destroyed. `users`: the only ones whose connections are accepted;
  /// `on_other` is called with others, by any thread. `routes` must outlive the object. After an
  /// error nothing is served.
  [[nodiscard]] Status serve(UiRoutes& routes, std::vector<std::uint32_t> users,
                             std::function<void(std::uint32_t)> on_other);

 private:
  friend struct UiCallbacks;  // libmicrohttpd's
  UiServer() = default;
  [[nodiscard]] static Result<std::unique_ptr<UiServer>> open_both(std::uint16_t port);
  void stop();

  std::uint16_t port_ = 0;
  Fd four_;
  Fd six_;  // may be invalid
  std::vector<MHD_Daemon*> daemons_;
  UiRoutes* routes_ = nullptr;
  std::vector<std::uint32_t> users_;
  std::function<void(std::uint32_t)> on_other_;
  std::mutex mutex_;
  std::condition_variable answered_;
  std::size_t requests_ = 0;  // whose answers are not sent yet
};

}  // namespace trireme::cli
