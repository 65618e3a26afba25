// SPDX-License-Identifier: Apache-2.0
// Keeps the metrics listener on the address of [metrics] listen. If another program uses the
// address, the daemon reports a problem, goes on enforcing, and retries every five seconds.
#pragma once

#include <optional>

#include "metrics_listener.hpp"
#include "problems.hpp"
#include "trireme/base/event.hpp"

namespace trireme::daemon {

class MetricsService {
 public:
  /// `text` is passed to MetricsListener::open(). All references must outlive this object.
  [[nodiscard]] static Result<std::unique_ptr<MetricsService>> create(
      sd_event* loop, Problems& problems, std::function<std::string()> text);
  MetricsService(const MetricsService&) = delete;
  MetricsService& operator=(const MetricsService&) = delete;

  /// Listens on this address from now on; nullopt: on none.
  void listen(const std::optional<policy::SocketAddress>& address);

 private:
  MetricsService(sd_event* loop, Problems& problems, std::function<std::string()> text)
      : loop_(loop), problems_(problems), text_(std::move(text)) {}
  void open();
  void open_again();

  sd_event* loop_;
  Problems& problems_;
  std::function<std::string()> text_;
  std::optional<policy::SocketAddress> address_;
  std::unique_ptr<MetricsListener> listener_;
  event::Timer again_;
};

}  // namespace trireme::daemon
