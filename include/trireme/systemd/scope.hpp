// SPDX-License-Identifier: Apache-2.0
// Scopes: the cgroup that a launched process is moved into, created by systemd or by this daemon.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "trireme/base/event.hpp"
#include "trireme/kernel/cgroup.hpp"
#include "trireme/systemd/bus.hpp"

namespace trireme::systemd {

/// `NAME=VALUE` as given to trirun -p.
struct Property {
  std::string name;
  std::string value;
  /// Errors: no '=' after a name; invalid UTF-8; control characters, which could forge lines of a
  /// log or of the unit file that systemd writes.
  [[nodiscard]] static Result<Property> parse(const std::string& text);
};

struct ScopeRequest {
  std::string name;  // a valid unit name with the suffix ".scope"
  std::uint32_t pid = 0;
  std::vector<Property> properties;
};

class ScopeDriver {
 public:
  /// The path of the new scope below the cgroup v2 root, with the process in it; or an error.
  using Done = std::function<void(Result<std::string>)>;

  virtual ~ScopeDriver() = default;
  /// Validates the request without side effects. Errors: an unknown property (the error lists the
  /// known ones), or an invalid value.
  [[nodiscard]] virtual Status check(const ScopeRequest& request) const = 0;
  /// Creates the scope and moves the process into it, with all its threads but without its
  /// children. `done` is called once, from the event loop or before create() returns. Errors: those
  /// of check(), the name is in use, the process has exited, or systemd refused, did not start the
  /// scope in time or disconnected.
  virtual void create(const ScopeRequest& request, Done done) = 0;
  /// "/trireme.slice": the strict slice, which contains every scope.
  [[nodiscard]] virtual const std::string& slice() const = 0;
  /// "systemd" or "cgroupfs".
  [[nodiscard]] virtual const char* name() const = 0;
};

/// Transient scopes in trireme.slice, created through sd-bus. The property Slice= may name a slice
/// below it.
class SystemdScopes final : public ScopeDriver, private Bus::Listener {
 public:
  /// `bus` must outlive this object. `patience`: the time that systemd has to start a scope.
  SystemdScopes(sd_event* loop, Bus& bus, std::chrono::seconds patience = std::chrono::seconds(10));
  ~SystemdScopes() override;
  SystemdScopes(const SystemdScopes&) = delete;
  SystemdScopes& operator=(const SystemdScopes&) = delete;

  [[nodiscard]] Status check(const ScopeRequest& request) const override;
  void create(const ScopeRequest& request, Done done) override;
  [[nodiscard]] const std::string& slice() const override { return slice_; }
  [[nodiscard]] const char* name() const override { return "systemd"; }

 private:
  struct Pending;
  void job_removed(const std::string& job, const std::string& result) override;
  void disconnected() override;
  void started(std::uint64_t id, Result<sd_bus_message*> reply);
  void finish(std::uint64_t id, Result<std::string> result);

  sd_event* loop_;
  Bus& bus_;
  std::chrono::seconds patience_;
  std::string slice_;
  std::uint64_t next_ = 1;
  std::map<std::uint64_t, std::unique_ptr<Pending>> pending_;
  std::shared_ptr<bool> alive_;  // expires with this object, so that a late reply is ignored
};

/// Plain cgroup directories SLICE/NAME.scope for machines without systemd. A scope is removed when
/// its last process has ended. Supports TasksMax, MemoryMax, MemoryHigh, CPUQuota and CPUWeight if
/// the cgroup v2 controller is available, and ignores Description; any other property is an error.
class CgroupfsScopes final : public ScopeDriver {
 public:
  /// `slice` ("/trireme.slice", "/trireme-1a2b3c.slice") belongs to this daemon alone and is
  /// created if necessary. Scopes of an earlier daemon are adopted.
  [[nodiscard]] static Result<std::unique_ptr<CgroupfsScopes>> open(sd_event* loop,
                                                                    const kernel::CgroupTree& tree,
                                                                    std::string slice);
  CgroupfsScopes(const CgroupfsScopes&) = delete;
  CgroupfsScopes& operator=(const CgroupfsScopes&) = delete;

  [[nodiscard]] Status check(const ScopeRequest& request) const override;
  void create(const ScopeRequest& request, Done done) override;
  [[nodiscard]] const std::string& slice() const override { return slice_; }
  [[nodiscard]] const char* name() const override { return "cgroupfs"; }

 private:
  CgroupfsScopes(sd_event* loop, const kernel::CgroupTree& tree, std::string slice);
  void read_events();
  Result<std::string> make(const ScopeRequest& request);
  void adopt(const std::string& path);
  [[nodiscard]] bool watch(const std::string& path);
  void poll();
  void remove_if_empty(const std::string& path);
  void remove_tree(const std::string& path);

  sd_event* loop_;
  const kernel::CgroupTree& tree_;
  std::string slice_;
  Fd inotify_;  // invalid while the user's inotify limits are exhausted
  event::Io readable_;
  event::Timer poll_;
  std::map<int, std::string> by_watch_;
  std::set<std::string> unwatched_;  // polled, because no inotify watch was available
};

}  // namespace trireme::systemd
