// SPDX-License-Identifier: Apache-2.0
#include "top_signals.hpp"

#include <poll.h>
#include <unistd.h>

#include <array>

namespace trireme::cli {
namespace {

// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): set by a signal handler
volatile std::sig_atomic_t caught_signal = 0;

void note_signal(int signal) {
  caught_signal = signal;
}

}  // namespace

TopSignals::TopSignals() {
  sigset_t blocked;
  sigemptyset(&blocked);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP}) {
    sigaddset(&blocked, signal);
  }
  ::pthread_sigmask(SIG_BLOCK, &blocked, &waiting_);
  struct sigaction action {};
  action.sa_handler = note_signal;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    ::sigaction(signal, &action, nullptr);
  }
}

void TopSignals::wait(int answers, std::chrono::milliseconds most) const {
  std::array<pollfd, 2> entries = {pollfd{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                                   pollfd{.fd = answers, .events = POLLIN, .revents = 0}};
  const timespec time{.tv_sec = most.count() / 1000, .tv_nsec = most.count() % 1000 * 1'000'000};
  const int ready = ::ppoll(entries.data(), entries.size(), &time, &waiting_);
  if (ready > 0 && (entries[0].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
    caught_signal = SIGHUP;  // the terminal is gone
  }
}

int TopSignals::caught() {
  return caught_signal;
}

void TopSignals::end_by_signal() {
  if (caught_signal == 0 || caught_signal == SIGINT) {
    return;
  }
  std::signal(caught_signal, SIG_DFL);
  sigset_t all;
  sigemptyset(&all);
  sigaddset(&all, caught_signal);
  ::raise(caught_signal);
  ::pthread_sigmask(SIG_UNBLOCK, &all, nullptr);
}

}  // namespace trireme::cli
