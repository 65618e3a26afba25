// SPDX-License-Identifier: Apache-2.0
// systemd units that are workloads because of a [[unit]] entry of identity.toml.
//
// A unit's cgroup is enrolled when systemd creates it, milliseconds before the unit's first
// instruction. A drop-in makes the start of a service wait for the enrollment, and fail while the
// daemon is down (drop_ins.hpp). An entry matches a unit by any of the names that systemd has for
// it; if several entries match, the first in file order decides. Entries match services and
// sockets: systemd itself opens the listeners of a socket unit, so the .socket of a matched service
// becomes a workload with the service's labels, and the service has a warning. trireme.service is
// never matched. Units that no entry matches are never changed.
//
// A unit with its own network namespace (PrivateNetwork=, NetworkNamespacePath=, JoinsNamespaceOf=)
// is enforced there. The process of the unit gate is already in it.
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
#include "trireme/systemd/bus.hpp"
#include "trireme/systemd/drop_ins.hpp"
#include "trireme/systemd/unit_facts.hpp"
#include "trireme/workload/cgroup_events.hpp"
#include "trireme/workload/source.hpp"

namespace trireme::systemd {

class UnitSource final : public workload::Source, private Bus::Listener {
 public:
  /// `bus` is null if systemd is not PID 1. In that case, and if PID 1 is in another network
  /// namespace than the daemon, nothing is enrolled and status() says so. `gate_command` is the
  /// absolute path of trirectl. All references must outlive this object.
  UnitSource(sd_event* loop, const kernel::CgroupTree& tree, workload::Registry& registry,
             workload::CgroupEvents& events, Bus* bus, std::string gate_command);
  ~UnitSource() override;
  UnitSource(const UnitSource&) = delete;
  UnitSource& operator=(const UnitSource&) = delete;

  void configure(std::shared_ptr<const config::Host> host) override;
  /// From configure() until the units that no entry matches any more have been released.
  [[nodiscard]] bool is_settling() const { return is_on() && is_reconfigured_; }
  bool cgroup_born(const std::string& path) override;
  void cgroup_gone(const std::string& path) override;
  [[nodiscard]] std::string status() const override;

  /// Answers the drop-in's `trirectl unit-gate UNIT`: succeeds when the cgroup of that unit is
  /// enforced in the network namespace that its processes will be in. `pid` is the caller, as the
  /// kernel reports it, and must be in that cgroup. `done` is called once, before this returns or
  /// from the event loop. A unit that no entry matches may start only if no drop-in of trireme
  /// exists for it (systemd has then not reloaded since the drop-in was removed with its entry).
  /// Other errors: the caller is not in the unit's cgroup, enrollment failed, or a .socket that
  /// starts the unit is not enforced.
  ///
  /// Sockets that systemd kept from an earlier run are in quarantine until no other process holds
  /// them. Only the caller can check that. If the result contains socket inodes, the caller must
  /// call again, with `alone` set to those of them that only PID 1 holds.
  using GateDone = std::function<void(const Result<std::set<std::uint32_t>>&)>;
  void gate(const std::string& unit, std::uint32_t pid,
            std::optional<std::set<std::uint32_t>> alone, GateDone done);

  /// Must be called when a workload has left the registry. If it was a unit whose sockets systemd
  /// keeps (FileDescriptorStoreMax=), the sockets get the number of the unit's next run.
  void ended(const workload::Workload& workload);

  /// Why no unit is made a workload; empty if units can be.
  [[nodiscard]] const std::string& off() const { return off_; }
  /// The units and templates with a drop-in: while the daemon does not run, they do not start.
  [[nodiscard]] const std::set<std::string>& gated() const { return gated_; }

  /// [[unit]] entries that have no effect on this host, as of the last query of systemd.
  [[nodiscard]] const std::vector<config::Diagnostic>& warnings() const { return view_.warnings; }

 private:
  void unit_new(const std::string& name) override;
  void reloading(bool begins) override;
  void connected() override;

  [[nodiscard]] bool is_on() const { return off_.empty(); }
  [[nodiscard]] const config::UnitRule* rule_for(const std::string& unit) const;
  [[nodiscard]] const config::UnitRule* rule_for_path(const std::string& path) const;
  [[nodiscard]] std::vector<std::string> socket_warnings(const std::string& service) const;
  struct Start;
  void ask_about(const std::shared_ptr<Start>& start);
  void with_unit(const std::shared_ptr<Start>& start, Result<UnitFacts> facts);
  void with_sockets(const std::shared_ptr<Start>& start);
  [[nodiscard]] Result<std::set<std::uint32_t>> admit(const Start& start);
  [[nodiscard]] static Status check_network(const Start& start);
  [[nodiscard]] Status check_socket(const UnitFacts& socket, const config::UnitRule& rule);
  /// What earlier runs of a unit left: cgroups whose sockets belong to the current run (sorted by
  /// id), and inodes of sockets that other processes may also hold.
  struct Kept {
    std::vector<std::uint64_t> cgroups = {};
    std::set<std::uint32_t> unsure = {};
  };
  [[nodiscard]] Kept kept_by(const UnitFacts& facts, std::uint32_t pid, const std::string& path,
                             const config::UnitRule& rule,
                             const std::optional<std::set<std::uint32_t>>& alone);
  [[nodiscard]] bool may_keep_sockets(const std::string& unit) const;
  Status enrol(const std::string& path, const config::UnitRule& rule,
               std::vector<std::uint64_t> former = {});
  [[nodiscard]] Result<std::shared_ptr<const kernel::Netns>> network_of(
      const std::string& path, const std::string& unit) const;
  [[nodiscard]] bool keep_held(const std::string& path);
  void offer_cgroups();
  void release_cgroups();
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kPause{1};
  void look_soon();
  void look();
  [[nodiscard]] std::set<std::string> held_services() const;
  void looked(const std::shared_ptr<const config::Host>& host, Result<UnitView> view);
  void take(Result<UnitView> view);
  void note_unanswered(const std::string& what);
  void write_drop_ins();

  sd_event* loop_;
  const kernel::CgroupTree& tree_;
  workload::Registry& registry_;
  workload::CgroupEvents& events_;
  Bus* bus_;
  DropIns drop_ins_;
  std::string off_;  // why nothing is enrolled; empty if units can be enrolled
  std::shared_ptr<const config::Host> host_;
  UnitView view_;                 // last query's result, plus aliases learned at unit gates since
  std::set<std::string> gated_;   // units and templates with a drop-in
  bool is_reconfigured_ = false;  // entries may have been removed since the last query
  bool looking_ = false;          // look() is in progress
  bool look_again_ = false;
  bool news_ = false;                       // systemd announced units that may concern an entry
  Clock::time_point looked_;                // end of the last query; its start while in progress
  Clock::duration pause_ = kPause;          // minimum time from looked_ to a query because of news_
  std::optional<Clock::time_point> again_;  // when to repeat failed queries
  Clock::duration patience_ = kPause;       // current delay before failed queries are repeated
  std::string unanswered_;  // the units that systemd failed to describe, for status()
  event::Timer timer_;
  bool asked_ = false;                          // this object has checked whether a reload is due
  bool reload_due_ = false;                     // systemd has not read all drop-ins yet
  std::string problem_;                         // of the drop-ins, for status()
  std::vector<std::function<void()>> waiting_;  // unit gates that wait for the end of a query
  std::vector<std::function<void()>> offline_;  // unit gates that wait for a connection to systemd
  /// What earlier runs of a unit left behind, all with the same labels.
  struct Former {
    policy::LabelSet labels;
    std::set<std::uint64_t> cgroups;   // ids of cgroups with sockets that are still open
    std::set<std::uint64_t> networks;  // inodes of the network namespaces that the runs were in
  };
  std::map<std::string, Former> former_;  // by cgroup path; only units whose sockets systemd keeps
  std::shared_ptr<bool> alive_;
};

}  // namespace trireme::systemd
