// SPDX-License-Identifier: Apache-2.0
// Reports when the configuration on disk may have changed. Contains no event loop and no timer: the
// daemon polls fd() and debounces.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::config {

/// Watches directories, never files, because an editor that renames a new file over the old one
/// leaves a file watch on the old inode. Watches every directory on the path to policy.toml,
/// identity.toml and the drop-ins, including those that symbolic links on the path lead through.
/// Thus each of these is a change: a save, a rename, a swap of `..data` (Kubernetes), a drop-in
/// directory that is created or removed, a replaced configuration directory. Other names in these
/// directories are ignored.
class Watcher {
 public:
  /// Call before the first load(), so that no change is missed in between. The directory may be
  /// missing: its creation is then a change. Never fails; if watches cannot be created, problem()
  /// is set.
  [[nodiscard]] static Watcher open(std::string directory);

  /// Becomes readable when drain() has events to read. -1 while there is no inotify descriptor (see
  /// problem()).
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// Why changes can be missed: this user's limit of inotify descriptors or watches is reached.
  /// While it is set, call poll() periodically.
  [[nodiscard]] const std::optional<Error>& problem() const { return problem_; }
  /// Tries again to create all watches. Returns true if the files differ from the last call:
  /// reload.
  [[nodiscard]] bool poll();

  /// Reads all pending events and watches new directories. Returns true if the configuration may
  /// have changed: reload.
  [[nodiscard]] bool drain();

  /// Whether a process has one of the files open for writing, so that it may be half written. Also
  /// false if this cannot be determined (file system without leases, or file of another user).
  [[nodiscard]] bool has_writer() const;

  /// Watches further files (those of [trust]). Relative paths are relative to the configuration
  /// directory. Replaces the files of an earlier call.
  void set_extra_files(std::vector<std::string> files);

 private:
  /// The names that are relevant in one directory.
  struct Interest {
    std::uint32_t mask = 0;
    std::set<std::string, std::less<>> names;
    bool drop_ins = false;  // also every *.toml that is not hidden
    bool operator==(const Interest&) const = default;
    /// `last`: `name` is the last component of the path, not a directory or link on the way to it.
    void add(const std::string& name, bool last);
  };
  using Interests = std::map<std::string, Interest>;  // by resolved path

  explicit Watcher(std::string directory) : directory_(std::move(directory)) {}

  bool read_events();
  [[nodiscard]] bool is_relevant(int watch, std::uint32_t mask, std::string_view name) const;
  bool arm();
  [[nodiscard]] std::vector<std::filesystem::path> paths() const;
  [[nodiscard]] std::string fingerprint() const;
  [[nodiscard]] Interests survey() const;
  void survey_drop_ins(const std::string& path, Interests& interests) const;
  [[nodiscard]] Status watch(const Interests& wanted);

  std::string directory_;
  Fd fd_;
  std::vector<std::string> extra_files_;
  Interests interests_;
  std::map<int, Interest> watches_;
  std::optional<Error> problem_;
  std::string seen_;  // the most recent fingerprint()
};

}  // namespace trireme::config
