// The drop-ins that make a matched service wait until it is enforced:
// /etc/systemd/system/UNIT.d/50-trireme.conf, so that they are there when a host starts, and
// trireme has not run yet. Where that directory is read-only they are in /run/systemd/system, and a
// reboot ends them.
//
// The gate is an ExecCondition=, the only command that runs before every ExecStartPre= of the unit
// itself: a drop-in's ExecStartPre= would come last. It exits with 255, which fails the unit; 1 to
// 254 would skip it silently.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "trireme/base/result.hpp"

namespace trireme::systemd {

class DropIns {
 public:
  /// `gate_command` is the absolute path of trirectl.
  explicit DropIns(std::string gate_command);

  /// Makes exactly these units' and templates' ("postgresql@.service") drop-ins exist. Those of
  /// `early` ones are in /run: they start before trireme can, and would wait for what waits for
  /// them. Returns whether a file changed: then systemd must reload. The first error, after all
  /// were tried.
  [[nodiscard]] Result<bool> apply(const std::set<std::string>& units,
                                   const std::set<std::string>& early) const;
  /// Whether they outlive a reboot.
  [[nodiscard]] bool last() const;

 private:
  /// The units and templates that have one there.
  [[nodiscard]] static std::set<std::string> present(const std::string& directory);
  [[nodiscard]] std::string content() const;
  [[nodiscard]] Result<bool> write(const std::string& directory, const std::string& unit) const;
  static Status remove(const std::string& directory, const std::string& unit);

  std::string gate_command_;
};

}  // namespace trireme::systemd
