// systemd units that are workloads by [[unit]] of identity.toml.
//
// A unit's cgroup is enrolled when it is born, which systemd does milliseconds before the unit's first instruction; a runtime drop-in makes
// the unit's start wait for that (and fail while the daemon is down): /run/systemd/system/NAME.d/50-trireme.conf. Where several [[unit]]
// entries match, the first in file order decides. Units that no entry matches are never touched.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "trireme/workload/cgroup_events.hpp"
#include "trireme/workload/source.hpp"
#include "trireme/workload/systemd.hpp"

namespace trireme::workload {

class UnitSource final : public Source, private SystemdBus::Listener {
 public:
  /// `bus` is null where systemd is not PID 1 or runs in another network namespace: then nothing is enrolled and status() says so.
  /// `gate_command` is the absolute path of trirectl. All references outlive this object.
  UnitSource(const kernel::CgroupTree& tree, Registry& registry, CgroupEvents& events, SystemdBus* bus, std::string gate_command);
  ~UnitSource() override;
  UnitSource(const UnitSource&) = delete;
  UnitSource& operator=(const UnitSource&) = delete;

  void configure(std::shared_ptr<const policy::Identity> identity) override;
  bool cgroup_born(const std::string& path) override;
  void cgroup_gone(const std::string& path) override;
  [[nodiscard]] std::string status() const override;

  /// What the drop-in's `trirectl unit-gate UNIT` waits for: the cgroup of that unit, which the caller `pid` (by the kernel's credentials)
  /// is in, is enforced. A unit that no entry matches may start. Errors: the caller is not in the unit's cgroup, enrolment failed.
  [[nodiscard]] Status gate(const std::string& unit, std::uint32_t pid);

  /// Takes the drop-ins of every unit away (`trirectl flush`); the caller reloads systemd. Returns how many there were.
  static std::size_t remove_drop_ins();

 private:
  void unit_new(const std::string& name) override;
  void reloading(bool begins) override;
  void connected() override;
  void disconnected() override;

  [[nodiscard]] const policy::UnitRule* rule_for(const std::string& unit) const;
  Status enrol(const std::string& path, const std::string& unit, const policy::UnitRule& rule);
  void reconcile_cgroups();
  void reconcile_drop_ins();
  void ask_unit_files();
  void ask_sockets(const std::string& service);

  const kernel::CgroupTree& tree_;
  Registry& registry_;
  CgroupEvents& events_;
  SystemdBus* bus_;
  std::string gate_command_;
  std::shared_ptr<const policy::Identity> identity_;
  std::map<std::string, std::set<std::string>> sockets_;  // service -> its .socket units
  std::set<std::string> enrolled_;                        // cgroup paths
  bool reloading_ = false;
  std::string problem_;  // of the drop-ins, for status()
};

}  // namespace trireme::workload
