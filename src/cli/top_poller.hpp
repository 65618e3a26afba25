// SPDX-License-Identifier: Apache-2.0
// Asks the daemon for its traffic again and again in a thread, so that `trirectl top` reacts to
// keys while the daemon does not answer.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "top_model.hpp"
#include "trireme/base/fd.hpp"

namespace trireme::cli {

class TrafficPoller {
 public:
  /// `socket`: the daemon's. It is asked at most once in an interval, and first after one. Errors:
  /// no descriptor.
  [[nodiscard]] static Result<std::unique_ptr<TrafficPoller>> start(std::string socket,
                                                                    std::chrono::seconds interval);
  /// Ends a request that is in progress.
  ~TrafficPoller();
  TrafficPoller(const TrafficPoller&) = delete;
  TrafficPoller& operator=(const TrafficPoller&) = delete;

  /// Readable when take() has something to give.
  [[nodiscard]] int fd() const { return ready_.get(); }
  /// The newest answer, or why there is none; nullopt: nothing new.
  [[nodiscard]] std::optional<Result<TrafficAnswer>> take();

 private:
  TrafficPoller(std::string socket, std::chrono::seconds interval)
      : socket_(std::move(socket)), interval_(interval) {}
  void run(const std::stop_token& stop);
  [[nodiscard]] std::optional<Result<TrafficAnswer>> ask_once() const;

  std::string socket_;
  std::chrono::seconds interval_;
  Fd ready_;       // eventfd
  Fd end_reader_;  // of a pipe: a request ends when this is closed
  Fd end_writer_;
  std::mutex mutex_;  // for the next two
  std::condition_variable_any pause_;
  std::optional<Result<TrafficAnswer>> result_;
  std::jthread thread_;
};

}  // namespace trireme::cli
