// SPDX-License-Identifier: Apache-2.0
// [metrics] listen: answers GET /metrics over HTTP from the event loop, with a lower priority than
// all events that decide or enroll.
//
// libmicrohttpd handles HTTP. The event loop runs it when its epoll descriptor is readable, so it
// needs no thread and no lock, and never blocks. It serves a few connections at a time, each for a
// few seconds; further connections wait in the kernel.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "trireme/base/event.hpp"
#include "trireme/policy/address.hpp"

struct MHD_Connection;
struct MHD_Daemon;

namespace trireme::daemon {

class MetricsListener {
 public:
  /// `text` builds the page; it is called at most once per second. Errors: another program uses the
  /// address, or the event loop fails.
  [[nodiscard]] static Result<std::unique_ptr<MetricsListener>> open(
      sd_event* loop, const policy::SocketAddress& address, std::function<std::string()> text);
  ~MetricsListener();
  MetricsListener(const MetricsListener&) = delete;
  MetricsListener& operator=(const MetricsListener&) = delete;

 private:
  friend struct MetricsCallbacks;  // libmicrohttpd's
  MetricsListener(sd_event* loop, std::function<std::string()> text)
      : loop_(loop), text_(std::move(text)) {}
  Status start(const policy::SocketAddress& address);
  void run();
  void end_old_connections();
  [[nodiscard]] const std::string& fresh_text();
  [[nodiscard]] std::chrono::microseconds now() const { return event::now(loop_); }

  sd_event* loop_;
  std::function<std::string()> text_;
  MHD_Daemon* server_ = nullptr;
  event::Io readable_;
  event::Timer timer_;
  std::map<MHD_Connection*, std::chrono::microseconds> began_;  // start of each open connection
  std::string served_;
  std::chrono::microseconds made_{};  // when served_ was built; event::now()
};

}  // namespace trireme::daemon
