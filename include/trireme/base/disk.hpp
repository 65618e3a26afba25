// SPDX-License-Identifier: Apache-2.0
// Changes of files whose order survives a crash of the program or of the machine. Every error
// message contains the path.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "trireme/base/result.hpp"

namespace trireme {

class Disk {
 public:
  /// Called before each change, with a description such as "rename /etc/trireme/policy.toml". An
  /// error prevents the change and is returned. Tests use it to fill the disk (an error) and to end
  /// the program between two changes (an exception).
  using Before = std::function<Status(const std::string& change)>;

  explicit Disk(Before before = {}) : before_(std::move(before)) {}

  /// Creates a file with exactly this mode. Its content is on disk when the call returns. If the
  /// file cannot be written completely, it is removed again. An existing file is an error.
  [[nodiscard]] Status create(const std::string& path, std::string_view content,
                              unsigned mode) const;
  /// Replaces the file atomically: create() of `path`.new, rename() and sync() of its directory.
  [[nodiscard]] Status replace(const std::string& path, std::string_view content,
                               unsigned mode) const;
  [[nodiscard]] Status rename(const std::string& from, const std::string& to) const;
  /// Removes a file. A file that does not exist is not an error.
  [[nodiscard]] Status remove(const std::string& path) const;
  /// Creates a directory with exactly this mode. An existing directory keeps its mode.
  [[nodiscard]] Status make_directory(const std::string& path, unsigned mode) const;
  /// Waits until the names in a directory, as changed by the other functions, are on disk.
  [[nodiscard]] Status sync(const std::string& directory) const;

 private:
  [[nodiscard]] Status before(const char* what, const std::string& path) const;

  Before before_;
};

}  // namespace trireme
