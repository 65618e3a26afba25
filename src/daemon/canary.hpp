// SPDX-License-Identifier: Apache-2.0
// Checks that packets on lo keep the gate's stamps. A rule of another program that sets packet
// priorities at PREROUTING or INPUT removes the stamps, and workloads then refuse local traffic.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "problems.hpp"
#include "trireme/base/event.hpp"
#include "trireme/base/fd.hpp"

namespace trireme::daemon {

/// Sends datagrams to this process itself, in its own network namespace.
class Canary {
 public:
  /// `filter` is Gate::canary(), a socket filter that truncates datagrams without a stamp. All
  /// references must outlive this object. Errors: the event loop fails, or no socket can be opened.
  [[nodiscard]] static Result<std::unique_ptr<Canary>> create(sd_event* loop, int filter,
                                                              Problems& problems);
  Canary(const Canary&) = delete;
  Canary& operator=(const Canary&) = delete;

  /// Sends one datagram per address family. When it arrives, the result is noted in the problems.
  /// If it does not arrive, the previous result stays.
  void send();

 private:
  struct Probe {
    const char* family = "";
    Fd socket;
    std::uint64_t last = 0;  // number of the newest datagram sent
    event::Io arrived;
  };
  explicit Canary(Problems& problems) : problems_(problems) {}
  [[nodiscard]] static Result<Fd> open(int family, int filter);
  void take(const Probe& probe);

  Problems& problems_;
  std::array<Probe, 2> probes_;  // IPv4 and IPv6
};

}  // namespace trireme::daemon
