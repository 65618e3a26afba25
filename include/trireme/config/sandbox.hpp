// SPDX-License-Identifier: Apache-2.0
// What the daemon's systemd unit keeps from it, so that a check from a shell says what the daemon
// would say.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::config {

class Sandbox {
 public:
  /// Of a unit file and its drop-ins, in the order in which they count. Pure.
  [[nodiscard]] static Sandbox parse(const std::vector<std::string>& texts);
  /// Of trireme.service where systemd looks for units ($SYSTEMD_UNIT_PATH, or its own directories);
  /// nullopt where it is not installed.
  [[nodiscard]] static std::optional<Sandbox> installed();

  /// The setting that hides the file or directory, such as "ProtectHome=yes"; empty where none
  /// does. Symbolic links are followed.
  [[nodiscard]] std::string hides(const std::string& path) const;
  /// Whether the daemon may read what file modes keep from it.
  [[nodiscard]] bool ignores_modes() const { return ignores_modes_; }

 private:
  struct Hidden {
    std::string path;
    std::string setting;
  };
  void read(std::string_view text);
  void set(const std::string& key, const std::string& value);
  void finish();
  [[nodiscard]] std::string hides_exactly(const std::string& path) const;

  std::string protect_home_ = "no";
  std::string private_tmp_ = "no";
  std::optional<std::string> capabilities_;
  std::vector<Hidden> hidden_;
  std::vector<std::string> bound_;  // visible all the same
  bool ignores_modes_ = true;
};

/// While it is there this thread reads files as the daemon does: without the capabilities that let
/// root read what file modes keep from it, unless the unit has them. Other users than root read as
/// ever.
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
