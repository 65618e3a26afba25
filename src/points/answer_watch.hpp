// SPDX-License-Identifier: Apache-2.0
// Reads DNS answers to the workloads of one enforcement point before it releases them, so that the
// addresses of a name are in its networks before the workload can use them.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "trireme/base/event.hpp"
#include "trireme/enforcer/enforcer.hpp"
#include "trireme/kernel/queue.hpp"
#include "trireme/names/reader.hpp"

namespace trireme::points {

class AnswerWatch {
 public:
  /// Binds the queue in the current network namespace, which must be the enforcer's. All references
  /// must outlive this object. Errors: another program has the queue, or the event loop fails.
  [[nodiscard]] static Result<std::unique_ptr<AnswerWatch>> open(sd_event* loop,
                                                                 enforcer::Enforcer& enforcer);
  AnswerWatch(const AnswerWatch&) = delete;
  AnswerWatch& operator=(const AnswerWatch&) = delete;

  /// Answers that added an address to a network, answers that were not used, and packets that the
  /// queue lost.
  [[nodiscard]] std::uint64_t believed() const { return believed_; }
  [[nodiscard]] std::uint64_t doubted() const { return doubted_; }
  [[nodiscard]] std::uint64_t lost() const { return queue_.lost(); }

 private:
  AnswerWatch(kernel::Queue queue, enforcer::Enforcer& enforcer)
      : queue_(std::move(queue)), enforcer_(enforcer) {}
  void serve();
  /// Removes the addresses whose time to live is over.
  void end_names();
  void log_doubt(const names::Reading& reading, const std::string& name, const std::string& why);

  kernel::Queue queue_;
  enforcer::Enforcer& enforcer_;
  names::Reader reader_;
  event::Io readable_;
  event::Timer round_;
  std::uint64_t believed_ = 0;
  std::uint64_t doubted_ = 0;
};

}  // namespace trireme::points
