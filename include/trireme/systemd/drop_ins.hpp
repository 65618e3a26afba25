// SPDX-License-Identifier: Apache-2.0
// The drop-ins that make a matched service wait at its start until it is enforced:
// /etc/systemd/system/UNIT.d/50-trireme.conf. They are in /etc so that they exist when a host
// boots, before trireme has run. If that directory is read-only, they are written to
// /run/systemd/system, and a reboot removes them.
//
// The unit gate is an ExecCondition=, because that is the only command that runs before every
// ExecStartPre= of the unit itself; an ExecStartPre= of a drop-in would run last. On failure it
// exits with 255, which fails the unit; 1 to 254 would skip the unit silently. A unit with its own
// root (RootDirectory=, RootImage=) does not contain trirectl, so its drop-in has an assertion that
// is always false, and the start fails.
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

  /// Writes the drop-ins of these units and templates ("postgresql@.service") and removes all other
  /// drop-ins of trireme. Drop-ins of `early` units go to /run: these units start before trireme at
  /// boot, and trireme may wait for them, so a drop-in in /etc would be a deadlock. Drop-ins of
  /// `rooted` units (with their own root) prevent the start. Returns true if a file changed;
  /// systemd must then reload. After an error the other files are still processed; the first error
  /// is returned.
  [[nodiscard]] Result<bool> apply(const std::set<std::string>& units,
                                   const std::set<std::string>& early,
                                   const std::set<std::string>& rooted = {}) const;
  /// True if systemd reads a drop-in of one of `units` for a unit with these names: its own, its
  /// template's or its prefix's ("batch-.service").
  [[nodiscard]] static bool cover(const std::set<std::string>& units,
                                  const std::set<std::string>& names);
  /// True if a drop-in of trireme exists for a unit with these names.
  [[nodiscard]] static bool exist(const std::set<std::string>& names);
  /// True if drop-ins survive a reboot, that is, /etc/systemd/system is writable.
  [[nodiscard]] bool last() const;

 private:
  /// The units and templates that have a drop-in of trireme in this directory.
  [[nodiscard]] static std::set<std::string> present(const std::string& directory);
  [[nodiscard]] std::string content(bool rooted) const;
  [[nodiscard]] Result<bool> write(const std::string& directory, const std::string& unit,
                                   bool rooted) const;
  static Status remove(const std::string& directory, const std::string& unit);

  std::string gate_command_;
};

}  // namespace trireme::systemd
