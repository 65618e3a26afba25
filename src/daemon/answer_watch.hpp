// SPDX-License-Identifier: Apache-2.0
// Answers of name servers to the workloads of one enforcement point: read before they are let in,
// so that a name's addresses are in its networks when the workload hears of them.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "trireme/base/event.hpp"
#include "trireme/enforcer/enforcer.hpp"
#include "trireme/kernel/queue.hpp"
#include "trireme/names/reader.hpp"

namespace trireme::daemon {

class AnswerWatch {
 public:
  /// Binds the queue in the present network namespace, the enforcer's. All references outlive this
  /// object. Errors: another program has the queue, the event loop.
  [[nodiscard]] static Result<std::unique_ptr<AnswerWatch>> open(sd_event* loop,
                                                                 enforcer::Enforcer& enforcer);
  AnswerWatch(const AnswerWatch&) = delete;
  AnswerWatch& operator=(const AnswerWatch&) = delete;

  /// Answers that put an address into a network, those that were not believed, and packets that the
  /// queue lost.
  [[nodiscard]] std::uint64_t believed() const { return believed_; }
  [[nodiscard]] std::uint64_t doubted() const { return doubted_; }
  [[nodiscard]] std::uint64_t lost() const { return queue_.lost(); }

 private:
  AnswerWatch(kernel::Queue queue, enforcer::Enforcer& enforcer)
      : queue_(std::move(queue)), enforcer_(enforcer) {}
  void serve();
  void end_names();
  void tell_doubt(const names::Heard& heard, const std::string& name, const std::string& why);

  kernel::Queue queue_;
  enforcer::Enforcer& enforcer_;
  names::Reader reader_;
  event::Io readable_;
  event::Timer round_;
  std::uint64_t believed_ = 0;
  std::uint64_t doubted_ = 0;
};

}  // namespace trireme::daemon
