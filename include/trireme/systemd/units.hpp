// SPDX-License-Identifier: Apache-2.0
// systemd units that are workloads by [[unit]] of identity.toml.
//
// A unit's cgroup is enrolled when it is born, which systemd does milliseconds before the unit's
// first instruction; a drop-in makes a service's start wait for that, and fail while the daemon is
// down (drop_ins.hpp). An entry matches a unit by any of the names that systemd knows it by; where
// several match, the first in file order decides. Matched are services, and sockets: systemd opens
// a socket unit's listeners on its own, so the .socket of a matched service takes part with the
// service's labels, and the service carries a warning. trireme.service itself is never matched.
// Units that no entry matches are never touched.
//
// A unit with a network namespace of its own (PrivateNetwork=, NetworkNamespacePath=,
// JoinsNamespaceOf=) is enforced there: the gate's process is in it already.
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
  /// `bus` is null where systemd is not PID 1. There, and where PID 1 is in another network
  /// namespace than we are, nothing is enrolled and status() says so. `gate_command` is the
  /// absolute path of trirectl. All references outlive this object.
  UnitSource(sd_event* loop, const kernel::CgroupTree& tree, workload::Registry& registry,
             workload::CgroupEvents& events, Bus* bus, std::string gate_command);
  ~UnitSource() override;
  UnitSource(const UnitSource&) = delete;
  UnitSource& operator=(const UnitSource&) = delete;

  void configure(std::shared_ptr<const policy::Identity> identity) override;
  bool cgroup_born(const std::string& path) override;
  void cgroup_gone(const std::string& path) override;
  [[nodiscard]] std::string status() const override;

  /// What the drop-in's `trirectl unit-gate UNIT` waits for: the cgroup of that unit, which the
  /// caller `pid` (by the kernel's credentials) is in, is enforced, where its processes will be.
  /// `done` is called once, before this returns or from the event loop. A unit that no entry
  /// matches may start only where no drop-in of ours is left: systemd has not read yet that it went
  /// with its entry. Other errors: the caller is not in the unit's cgroup, enrolment failed, a
  /// .socket that starts it is not enforced.
  /// Sockets that systemd has kept from an earlier run are in quarantine until nobody else has
  /// them, which only the caller can see: where the result names any, it calls again, with those
  /// `alone` that PID 1 has and nobody else.
  using GateDone = std::function<void(const Result<std::set<std::uint32_t>>&)>;
  void gate(const std::string& unit, std::uint32_t pid,
            std::optional<std::set<std::uint32_t>> alone, GateDone done);

  /// A workload has left the registry. Where it was a unit whose sockets systemd keeps
  /// (FileDescriptorStoreMax=), a later run gets them with its number.
  void ended(const workload::Workload& workload);

  /// What the entries ask for and cannot have here, as of the last look at systemd.
  [[nodiscard]] const std::vector<std::string>& warnings() const { return view_.warnings; }

 private:
  void unit_new(const std::string& name) override;
  void reloading(bool begins) override;
  void connected() override;

  [[nodiscard]] bool is_on() const { return off_.empty(); }
  [[nodiscard]] const policy::UnitRule* rule_for(const std::string& unit) const;
  [[nodiscard]] const policy::UnitRule* rule_for_socket(const std::string& socket) const;
  [[nodiscard]] const policy::UnitRule* rule_for_path(const std::string& path) const;
  [[nodiscard]] std::vector<std::string> socket_warnings(const std::string& service) const;
  struct Start;
  void ask_about(const std::shared_ptr<Start>& start);
  void with_unit(const std::shared_ptr<Start>& start, Result<UnitFacts> facts);
  void with_sockets(const std::shared_ptr<Start>& start);
  [[nodiscard]] Result<std::set<std::uint32_t>> admit(const Start& start);
  [[nodiscard]] static Status check_network(const Start& start);
  [[nodiscard]] Status check_socket(const UnitFacts& socket, const policy::UnitRule& rule);
  /// Of earlier runs: cgroups whose sockets are this one's, sorted, and sockets that others may
  /// have.
  struct Kept {
    std::vector<std::uint64_t> cgroups = {};
    std::set<std::uint32_t> unsure = {};
  };
  [[nodiscard]] Kept kept_by(const UnitFacts& facts, std::uint32_t pid, const std::string& path,
                             const policy::UnitRule& rule,
                             const std::optional<std::set<std::uint32_t>>& alone);
  [[nodiscard]] bool may_keep_sockets(const std::string& unit) const;
  Status enrol(const std::string& path, const policy::UnitRule& rule,
               std::vector<std::uint64_t> former = {});
  [[nodiscard]] Result<std::shared_ptr<const kernel::Netns>> network_of(
      const std::string& path, const std::string& unit) const;
  void offer_cgroups();
  void release_cgroups();
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kPause{1};
  void look_soon();
  void look();
  void looked(Result<UnitView> view);
  void take(Result<UnitView> view);
  void note_unanswered(const std::string& what);
  void write_drop_ins();

  sd_event* loop_;
  const kernel::CgroupTree& tree_;
  workload::Registry& registry_;
  workload::CgroupEvents& events_;
  Bus* bus_;
  DropIns drop_ins_;
  std::string off_;  // why nothing is enrolled; empty: all is well
  std::shared_ptr<const policy::Identity> identity_;
  UnitView view_;                // of the last look, with the aliases of units at their gates since
  std::set<std::string> gated_;  // units and templates with a drop-in
  bool is_reconfigured_ = false;  // entries may have gone since the last look
  bool looking_ = false;          // look() is under way
  bool look_again_ = false;
  bool news_ = false;                       // of units that the next look may find
  Clock::time_point looked_;                // when the last look began; ended, where it has
  Clock::duration pause_ = kPause;          // after that, until the next for news
  std::optional<Clock::time_point> again_;  // when to repeat the queries that failed
  Clock::duration patience_ = kPause;       // until then
  std::string unanswered_;  // the units that systemd failed to describe, for status()
  event::Timer timer_;
  bool asked_ = false;                          // systemd was told of drop-ins by this object
  bool reload_due_ = false;                     // it has not read all of them
  std::string problem_;                         // of the drop-ins, for status()
  std::vector<std::function<void()>> waiting_;  // gates, for the end of a look
  std::vector<std::function<void()>> offline_;  // gates, for the connection to systemd
  /// What runs of a unit have left, all under the same labels.
  struct Former {
    policy::LabelSet labels;
    std::set<std::uint64_t> cgroups;   // ids of those with sockets that somebody has
    std::set<std::uint64_t> networks;  // inodes of those that they were in
  };
  std::map<std::string, Former> former_;  // by cgroup path, of units whose sockets systemd keeps
  std::shared_ptr<bool> alive_;
};

}  // namespace trireme::systemd
