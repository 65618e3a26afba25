// SPDX-License-Identifier: Apache-2.0
// The cgroup v2 hierarchy: its mount, cgroup ids, creation and removal of cgroups, and the xattrs
// that trireme stores on them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::kernel {

/// The xattr with a workload's labels (policy::LabelSet::encode), and the one with the rest of its
/// record.
inline constexpr const char* kLabelsXattr = "trusted.trireme.labels";
inline constexpr const char* kRecordXattr = "trusted.trireme.record";

/// The mounted cgroup v2 hierarchy, unified or hybrid. Paths are relative to its root and start
/// with '/'.
class CgroupTree {
 public:
  /// Finds the mount in /proc/self/mountinfo. If no mount shows the whole cgroup namespace (`ip
  /// netns exec` hides /sys), creates a mount that is attached to no directory (fsmount(2),
  /// Linux 5.2, CAP_SYS_ADMIN). Errors: neither works.
  [[nodiscard]] static Result<CgroupTree> find();

  [[nodiscard]] const std::string& mount() const { return mount_; }
  [[nodiscard]] std::string absolute(const std::string& path) const { return mount_ + path; }
  /// The cgroup id, which nf_tables' `socket cgroupv2` compares: the inode number of the directory.
  /// Errors: the cgroup is gone (ENOENT).
  [[nodiscard]] Result<std::uint64_t> id(const std::string& path) const;
  /// Names of the cgroups directly below `path`.
  [[nodiscard]] std::vector<std::string> children(const std::string& path) const;
  /// The paths of all cgroups below the root, parents before children, down to level kDeepest: any
  /// user who manages cgroups of its own could otherwise nest them without end.
  [[nodiscard]] std::vector<std::string> all() const;
  static constexpr std::uint32_t kDeepest = 24;  // as far as the gate searches for a number
  /// Creates the cgroup and its missing parents. An existing one is no error.
  [[nodiscard]] Status create(const std::string& path) const;
  /// Removes an empty cgroup. One that is already gone is no error.
  [[nodiscard]] Status remove(const std::string& path) const;
  /// Moves a process into the cgroup. `pid` is in the pid namespace of the caller.
  [[nodiscard]] Status place(const std::string& path, std::uint32_t pid) const;
  /// Pids in the cgroup itself, without its descendants. Empty if it is gone.
  [[nodiscard]] std::vector<std::uint32_t> pids(const std::string& path) const;
  /// Thread ids in the cgroup itself. /proc/TID exists for each, although listing /proc omits it.
  [[nodiscard]] std::vector<std::uint32_t> threads(const std::string& path) const;
  /// True while the cgroup or a descendant contains a process.
  [[nodiscard]] bool populated(const std::string& path) const;
  /// Reads an xattr of the cgroup (trusted.* needs CAP_SYS_ADMIN); nullopt if it is not set.
  [[nodiscard]] Result<std::optional<std::string>> attribute(const std::string& path,
                                                             const char* name) const;
  [[nodiscard]] Status set_attribute(const std::string& path, const char* name,
                                     const std::string& value) const;
  [[nodiscard]] Status clear_attribute(const std::string& path, const char* name) const;

  /// The cgroup v2 path of a process, from the "0::" line of /proc/PID/cgroup. Ends in " (deleted)"
  /// if the cgroup was removed meanwhile. Errors: the process is gone.
  [[nodiscard]] static Result<std::string> of(std::uint32_t pid);
  /// True if `path`, an answer of of(), is of a removed cgroup: all its processes have ended.
  [[nodiscard]] bool is_removed(const std::string& path) const;
  /// Depth below the root: 0 for "/", 2 for "/a/b".
  [[nodiscard]] static std::uint32_t level(const std::string& path);

 private:
  explicit CgroupTree(std::string mount, std::shared_ptr<const Fd> detached = nullptr)
      : mount_(std::move(mount)), detached_(std::move(detached)) {}
  std::string mount_;
  // The mount that find() created, if any; mount_ is then its path below /proc/self/fd.
  std::shared_ptr<const Fd> detached_;
};

/// Reports the creation and removal of cgroups, through one inotify watch per parent directory. The
/// caller polls fd().
class CgroupWatch {
 public:
  struct Event {
    enum class What : std::uint8_t {
      born,
      gone,
      overflow,  // the kernel dropped events: list everything again
    };
    What what = What::born;
    std::string path;
  };

  explicit CgroupWatch(const CgroupTree& tree) : tree_(&tree) {}
  /// Opens the inotify descriptor if it is not open. Errors: fs.inotify.max_user_instances of this
  /// user are in use.
  [[nodiscard]] Status open();

  /// -1 until open() has succeeded.
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// Reports children of `path` from now on. Adding it twice is no error. The watch ends when the
  /// directory is removed. Errors: the directory is gone; open() has not succeeded;
  /// fs.inotify.max_user_watches of this user are in use.
  [[nodiscard]] Status add(const std::string& path);
  [[nodiscard]] bool watches(const std::string& path) const { return by_path_.contains(path); }
  /// All events since the last call, in order. Never blocks.
  [[nodiscard]] std::vector<Event> drain();

 private:
  struct Watched {
    int watch = -1;
    std::uint64_t id = 0;  // cgroup id; a later directory with the same path has another one
  };
  void drop_if_gone(const std::string& path);

  const CgroupTree* tree_;
  Fd fd_;
  std::unordered_map<int, std::string> by_watch_;
  std::unordered_map<std::string, Watched> by_path_;
};

}  // namespace trireme::kernel
