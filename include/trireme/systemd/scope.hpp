// SPDX-License-Identifier: Apache-2.0
// Scopes: the cgroup that a launched process is put into, made by systemd or by hand.
#pragma once

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
  /// Errors: no '=' after a name; control characters, which could forge lines of a log or of the
  /// unit file that systemd writes.
  [[nodiscard]] static Result<Property> parse(const std::string& text);
};

struct ScopeRequest {
  std::string name;  // a valid unit name with the suffix ".scope"
  std::uint32_t pid = 0;
  std::vector<Property> properties;
};

class ScopeDriver {
 public:
  /// The new scope's path below the cgroup v2 root, the process inside; or why not.
  using Done = std::function<void(Result<std::string>)>;

  virtual ~ScopeDriver() = default;
  /// What can be said without doing anything: unknown properties, bad values. The error names the
  /// known properties.
  [[nodiscard]] virtual Status check(const ScopeRequest& request) const = 0;
  /// Makes the scope around the process alone: neither its children nor anything else moves,
  /// threads come along. `done` is called once, from the event loop or at once. Errors: check()'s,
  /// the name is taken, the process is gone, systemd said no, did not answer in 10 s or went away.
  virtual void create(const ScopeRequest& request, Done done) = 0;
  /// "/trireme.slice": the strict slice, which every scope is below.
  [[nodiscard]] virtual const std::string& slice() const = 0;
  /// "systemd" or "cgroupfs".
  [[nodiscard]] virtual const char* name() const = 0;
};

/// Transient scopes in trireme.slice, through sd-bus. The property Slice= may name a slice below
/// it.
class SystemdScopes final : public ScopeDriver, private Bus::Listener {
 public:
  /// `bus` outlives this object.
  SystemdScopes(sd_event* loop, Bus& bus);
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
  std::string slice_;
  std::uint64_t next_ = 1;
  std::map<std::uint64_t, std::unique_ptr<Pending>> pending_;
  std::shared_ptr<bool> alive_;  // a reply that comes after us calls nobody
};

/// Plain directories SLICE/NAME.scope for machines without systemd. A scope is removed when its
/// last process has ended. Knows TasksMax, MemoryMax, MemoryHigh, CPUQuota and CPUWeight where the
/// cgroup v2 controller is available, and Description, which it ignores; all else is an error.
class CgroupfsScopes final : public ScopeDriver {
 public:
  /// `slice` ("/trireme.slice", "/trireme-1a2b3c.slice") belongs to this daemon alone and is made
  /// if need be. Scopes of an earlier daemon are adopted.
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
  Fd inotify_;  // none while others have used up those of this user
  event::Io readable_;
  event::Timer poll_;
  std::map<int, std::string> by_watch_;
  std::set<std::string> unwatched_;  // are looked at again and again
};

}  // namespace trireme::systemd
