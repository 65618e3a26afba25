// SPDX-License-Identifier: Apache-2.0
// What the daemon's systemd unit hides from it, so that a check from a shell reports the same
// errors as the daemon.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::config {

class Sandbox {
 public:
  /// Parses the texts of a unit file and its drop-ins, in the order in which systemd applies them.
  /// Pure.
  [[nodiscard]] static Sandbox parse(const std::vector<std::string>& texts);
  /// Reads trireme.service and its drop-ins from systemd's unit directories ($SYSTEMD_UNIT_PATH if
  /// set). nullopt if the unit is not installed.
  [[nodiscard]] static std::optional<Sandbox> installed();

  /// The setting that hides the file or directory, such as "ProtectHome=yes"; empty if it is
  /// visible. Follows symbolic links.
  [[nodiscard]] std::string hides(const std::string& path) const;
  /// Whether the daemon has a capability that lets it read files regardless of their modes.
  [[nodiscard]] bool ignores_modes() const { return ignores_modes_; }
  /// The directory that the daemon reads: --config-dir in ExecStart=, else /etc/trireme.
  [[nodiscard]] const std::string& config_dir() const { return config_dir_; }

 private:
  struct Hidden {
    std::string path;
    std::string setting;
  };
  void read(std::string_view text);
  void set(const std::string& key, const std::string& value);
  void finish();
  [[nodiscard]] std::string hides_exactly(const std::string& path) const;

  std::string config_dir_ = TRIREME_SYSCONFDIR;
  std::string protect_home_ = "no";
  std::string private_tmp_ = "no";
  std::optional<std::string> capabilities_;
  std::vector<Hidden> hidden_;
  std::vector<std::string> bound_;  // made visible again by BindPaths= or BindReadOnlyPaths=
  bool ignores_modes_ = true;
};

/// During its lifetime, this thread reads files with the permissions of the daemon: without
/// CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, unless the unit grants them. Has no effect for users
/// other than root.
class AsDaemon {
 public:
  explicit AsDaemon(const Sandbox& sandbox);
  ~AsDaemon();
  AsDaemon(const AsDaemon&) = delete;
  AsDaemon& operator=(const AsDaemon&) = delete;

 private:
  bool dropped_ = false;
  unsigned before_ = 0;
};

}  // namespace trireme::config
