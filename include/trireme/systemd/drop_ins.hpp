// The runtime drop-ins that make a matched service wait until it is enforced: /run/systemd/system/UNIT.d/50-trireme.conf.
//
// The gate is an ExecCondition=, the only command that runs before every ExecStartPre= of the unit itself: a drop-in's ExecStartPre= would
// come last. It exits with 255, which fails the unit; 1 to 254 would skip it silently.
#pragma once

#include <set>
#include <string>

#include "trireme/base/result.hpp"

namespace trireme::systemd {

class DropIns {
 public:
  /// `gate_command` is the absolute path of trirectl; `directory` is /run/systemd/system but in tests.
  explicit DropIns(std::string gate_command, std::string directory = "/run/systemd/system");

  /// Makes exactly these units' and templates' ("postgresql@.service") drop-ins exist. Returns whether a file changed: then systemd must
  /// reload.
  Result<bool> apply(const std::set<std::string>& units) const;
  /// The units and templates that have one.
  [[nodiscard]] std::set<std::string> present() const;
  /// The file's content.
  [[nodiscard]] std::string content() const;

 private:
  [[nodiscard]] std::string file(const std::string& unit) const;
  Result<bool> write(const std::string& unit) const;
  Status remove(const std::string& unit) const;

  std::string gate_command_;
  std::string directory_;
};

}  // namespace trireme::systemd
