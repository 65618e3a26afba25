// SPDX-License-Identifier: Apache-2.0
// Whether packets keep the gate's stamps on their way over lo. A rule of another program that sets
// packet priorities at PREROUTING or INPUT takes them off: then workloads refuse local traffic.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "problems.hpp"
#include "trireme/base/event.hpp"
#include "trireme/base/fd.hpp"

namespace trireme::daemon {

/// Datagrams that this process sends to itself in its own network namespace.
class Canary {
 public:
  /// `filter` is Gate::canary(). All references outlive this object. Errors: the event loop, no
  /// socket.
  [[nodiscard]] static Result<std::unique_ptr<Canary>> create(sd_event* loop, int filter,
                                                              Problems& problems);
  Canary(const Canary&) = delete;
  Canary& operator=(const Canary&) = delete;

  /// One in each family. What becomes of it is in the problems a moment later; where it does not
  /// arrive nothing changes there.
  void send();

 private:
  struct Way {
    const char* family = "";
    Fd socket;
    std::uint64_t last = 0;  // the newest that was sent
    event::Io arrived;
  };
  explicit Canary(Problems& problems) : problems_(problems) {}
  [[nodiscard]] static Result<Fd> open(int family, int filter);
  void take(const Way& way);

  Problems& problems_;
  std::array<Way, 2> ways_;
};

}  // namespace trireme::daemon
