// systemd units that are workloads by [[unit]] of identity.toml.
//
// A unit's cgroup is enrolled when it is born, which systemd does milliseconds before the unit's
// first instruction; a drop-in makes a service's start wait for that, and fail while the daemon is
// down (drop_ins.hpp). Where several [[unit]] entries match, the first in file order decides.
// Matched are services, scopes outside the strict slice, and sockets: systemd opens a socket unit's
// listeners on its own, so the .socket of a matched service takes part with the service's labels,
// and the service carries a warning. trireme.service itself is never matched. Units that no entry
// matches are never touched.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "trireme/systemd/bus.hpp"
#include "trireme/systemd/drop_ins.hpp"
#include "trireme/workload/cgroup_events.hpp"
#include "trireme/workload/source.hpp"

namespace trireme::systemd {

class UnitSource final : public workload::Source, private Bus::Listener {
 public:
  /// `bus` is null where systemd is not PID 1. There, and where PID 1 is in another network
  /// namespace than we are, nothing is enrolled and status() says so. `gate_command` is the
  /// absolute path of trirectl. All references outlive this object.
  UnitSource(const kernel::CgroupTree& tree, workload::Registry& registry,
             workload::CgroupEvents& events, Bus* bus, std::string gate_command);
  ~UnitSource() override;
  UnitSource(const UnitSource&) = delete;
  UnitSource& operator=(const UnitSource&) = delete;

  void configure(std::shared_ptr<const policy::Identity> identity) override;
  bool cgroup_born(const std::string& path) override;
  void cgroup_gone(const std::string& path) override;
  [[nodiscard]] std::string status() const override;

  /// What the drop-in's `trirectl unit-gate UNIT` waits for: the cgroup of that unit, which the
  /// caller `pid` (by the kernel's credentials) is in, is enforced. A unit that no entry matches
  /// may start. Errors: the caller is not in the unit's cgroup, enrolment failed.
  [[nodiscard]] Status gate(const std::string& unit, std::uint32_t pid);

 private:
  struct UnitFiles;
  struct Order;
  void unit_new(const std::string& name) override;
  void reloading(bool begins) override;
  void connected() override;

  [[nodiscard]] bool is_on() const { return off_.empty(); }
  [[nodiscard]] const policy::UnitRule* rule_for(const std::string& unit) const;
  [[nodiscard]] const policy::UnitRule* rule_for_path(const std::string& path) const;
  [[nodiscard]] std::vector<std::string> socket_warnings(const std::string& service) const;
  Status enrol(const std::string& path, const policy::UnitRule& rule);
  void reconcile_cgroups();
  void look_at_units();
  void with_unit_files(const std::shared_ptr<UnitFiles>& files, Result<sd_bus_message*> reply);
  void with_units(UnitFiles& files, Result<sd_bus_message*> reply);
  void looked(const Status& done);
  [[nodiscard]] std::set<std::string> gates_among(const std::set<std::string>& names) const;
  void ask_socket(const std::string& socket);
  void ask_order(const std::set<std::string>& units);
  void write_drop_ins(const std::set<std::string>& units, const std::set<std::string>& early);

  const kernel::CgroupTree& tree_;
  workload::Registry& registry_;
  workload::CgroupEvents& events_;
  Bus* bus_;
  DropIns drop_ins_;
  std::string off_;  // why nothing is enrolled; empty: all is well
  std::shared_ptr<const policy::Identity> identity_;
  std::map<std::string, std::set<std::string>>
      listeners_;                // service -> .socket units with IP listeners
  std::set<std::string> gated_;  // units and templates with a drop-in
  bool looking_ = false;         // look_at_units() is under way
  bool look_again_ = false;
  bool asked_ = false;       // systemd was told of drop-ins by this object
  bool reload_due_ = false;  // it has not read all of them
  std::string problem_;      // of the drop-ins, for status()
  std::shared_ptr<bool> alive_;
};

}  // namespace trireme::systemd
