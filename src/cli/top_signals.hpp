// SPDX-License-Identifier: Apache-2.0
// Signals that end `trirectl top`: the terminal is restored first.
#pragma once

#include <chrono>
#include <csignal>

namespace trireme::cli {

/// Create it once, before any thread. Signals are blocked except while wait() runs, so that none is
/// missed before it.
class TopSignals {
 public:
  TopSignals();
  /// Waits for input on stdin, for `answers` to be readable, or for a signal.
  void wait(int answers, std::chrono::milliseconds most) const;
  /// The signal that came, or 0. SIGHUP also if the terminal is gone.
  [[nodiscard]] static int caught();
  /// Ends the process by the signal that came, unless it is SIGINT.
  static void end_by_signal();

 private:
  sigset_t waiting_{};
};

}  // namespace trireme::cli
