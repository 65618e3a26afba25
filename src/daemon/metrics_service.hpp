// SPDX-License-Identifier: Apache-2.0
// [metrics] listen, as the settings have it. Enforcement does not hang on it: while the address is
// another program's, a problem says so, and it is tried again.
#pragma once

#include <optional>

#include "metrics_listener.hpp"
#include "problems.hpp"
#include "trireme/base/event.hpp"

namespace trireme::daemon {

class MetricsService {
 public:
  /// `text` as MetricsListener::open() has it. All references outlive this object.
  [[nodiscard]] static Result<std::unique_ptr<MetricsService>> create(
      sd_event* loop, Problems& problems, std::function<std::string()> text);
  MetricsService(const MetricsService&) = delete;
  MetricsService& operator=(const MetricsService&) = delete;

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
