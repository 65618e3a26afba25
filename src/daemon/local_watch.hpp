// What the event loop does for the gate between changes: looks through the numbers of cgroups, and
// whether stamps arrive.
#pragma once

#include <systemd/sd-event.h>

#include <memory>

#include "canary.hpp"
#include "problems.hpp"
#include "trireme/enforcer/local_policy.hpp"

namespace trireme::daemon {

class LocalWatch {
 public:
  /// All references outlive this object. Errors: the event loop.
  [[nodiscard]] static Result<std::unique_ptr<LocalWatch>> create(sd_event* loop,
                                                                  enforcer::LocalPolicy& local,
                                                                  Problems& problems);
  ~LocalWatch();
  LocalWatch(const LocalWatch&) = delete;
  LocalWatch& operator=(const LocalWatch&) = delete;

  /// After rules of others have changed.
  void send_canary();

 private:
  LocalWatch(enforcer::LocalPolicy& local, Problems& problems)
      : local_(local), problems_(problems) {}
  static int on_round(sd_event_source* source, std::uint64_t usec, void* self);

  enforcer::LocalPolicy& local_;
  Problems& problems_;
  std::unique_ptr<Canary> canary_;  // null where there is no socket for it
  sd_event_source* round_ = nullptr;
};

}  // namespace trireme::daemon
