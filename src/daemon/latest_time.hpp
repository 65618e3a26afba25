// SPDX-License-Identifier: Apache-2.0
// The latest time that the clock has shown, kept in the state directory. After a boot the clock can
// be behind until it is synchronized: an allow rule that had expired must not be in force again.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "trireme/base/disk.hpp"
#include "trireme/base/result.hpp"

namespace trireme::daemon {

class LatestTime {
 public:
  /// Reads the file. Without a path, nothing is kept.
  explicit LatestTime(std::string path = {}, Disk disk = Disk{});

  /// Whether the file could be read. One that does not exist is no error.
  [[nodiscard]] const Status& found() const { return found_; }
  void see(std::chrono::sys_seconds time);
  [[nodiscard]] std::chrono::sys_seconds latest() const { return latest_; }
  /// Saves the latest time if it is later than the saved one by `interval` at least.
  [[nodiscard]] Status keep(std::chrono::seconds interval);

 private:
  std::string path_;
  Disk disk_;
  Status found_;
  std::chrono::sys_seconds latest_ = std::chrono::sys_seconds::min();
  std::optional<std::chrono::sys_seconds> saved_;
};

}  // namespace trireme::daemon
