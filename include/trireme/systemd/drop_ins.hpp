// SPDX-License-Identifier: Apache-2.0
// The drop-ins that make a matched service wait until it is enforced:
// /etc/systemd/system/UNIT.d/50-trireme.conf, so that they are there when a host starts, and
// trireme has not run yet. Where that directory is read-only they are in /run/systemd/system, and a
// reboot ends them.
//
// The gate is an ExecCondition=, the only command that runs before every ExecStartPre= of the unit
// itself: a drop-in's ExecStartPre= would come last. It exits with 255, which fails the unit; 1 to
// 254 would skip it silently. A unit with a root of its own (RootDirectory=, RootImage=) has no
// trirectl in it: an assertion that never holds fails its start.
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
  /// them. Those of `rooted` ones keep them from starting. Returns whether a file changed: then
  /// systemd must reload. The first error, after all were tried.
  [[nodiscard]] Result<bool> apply(const std::set<std::string>& units,
                                   const std::set<std::string>& early,
                                   const std::set<std::string>& rooted = {}) const;
  /// Whether drop-ins of `units` are read for a unit with these names: its own, its template's or
  /// its prefix's ("batch-.service").
  [[nodiscard]] static bool cover(const std::set<std::string>& units,
                                  const std::set<std::string>& names);
  /// Whether one is there for a unit with these names.
  [[nodiscard]] static bool exist(const std::set<std::string>& names);
  /// Whether they outlive a reboot.
  [[nodiscard]] bool last() const;

 private:
  /// The units and templates that have one there.
  [[nodiscard]] static std::set<std::string> present(const std::string& directory);
  [[nodiscard]] std::string content(bool rooted) const;
  [[nodiscard]] Result<bool> write(const std::string& directory, const std::string& unit,
                                   bool rooted) const;
  static Status remove(const std::string& directory, const std::string& unit);

  std::string gate_command_;
};

}  // namespace trireme::systemd
