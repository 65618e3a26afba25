// SPDX-License-Identifier: Apache-2.0
// The cgroup v2 hierarchy: where it is, ids, births and deaths, and the labels kept on it.
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

/// The xattr that holds a workload's labels (policy::LabelSet::encode), and the one that holds the
/// rest of its record.
inline constexpr const char* kLabelsXattr = "trusted.trireme.labels";
inline constexpr const char* kRecordXattr = "trusted.trireme.record";

/// The mounted cgroup v2 hierarchy, unified or hybrid. Paths are relative to its root and start
/// with '/'.
class CgroupTree {
 public:
  /// Finds the mount in /proc/self/mountinfo; where none shows the whole of our cgroup namespace
  /// (`ip netns exec` hides /sys), attaches one of its own to no directory (fsmount(2), Linux 5.2,
  /// CAP_SYS_ADMIN). An error where neither works.
  [[nodiscard]] static Result<CgroupTree> find();

  [[nodiscard]] const std::string& mount() const { return mount_; }
  [[nodiscard]] std::string absolute(const std::string& path) const { return mount_ + path; }
  /// Inode number of the directory: the id that `socket cgroupv2` compares. Error ENOENT's text
  /// where it is gone.
  [[nodiscard]] Result<std::uint64_t> id(const std::string& path) const;
  /// Directories directly below `path`, names only.
  [[nodiscard]] std::vector<std::string> children(const std::string& path) const;
  /// Makes the directory and its missing parents.
  [[nodiscard]] Status create(const std::string& path) const;
  /// Removes an empty cgroup; one that is gone already is fine.
  [[nodiscard]] Status remove(const std::string& path) const;
  /// Moves one process (by pid, in our pid namespace) in.
  [[nodiscard]] Status place(const std::string& path, std::uint32_t pid) const;
  /// Pids of the cgroup itself, not of its children.
  [[nodiscard]] std::vector<std::uint32_t> pids(const std::string& path) const;
  /// The same of threads: each has a directory below /proc, though none lists it.
  [[nodiscard]] std::vector<std::uint32_t> threads(const std::string& path) const;
  /// True while the cgroup or a descendant holds a process.
  [[nodiscard]] bool populated(const std::string& path) const;
  /// An xattr of the directory (trusted.* needs CAP_SYS_ADMIN); nullopt where it is not set.
  [[nodiscard]] Result<std::optional<std::string>> attribute(const std::string& path,
                                                             const char* name) const;
  [[nodiscard]] Status set_attribute(const std::string& path, const char* name,
                                     const std::string& value) const;
  [[nodiscard]] Status clear_attribute(const std::string& path, const char* name) const;

  /// The v2 path of a process: the "0::" line of /proc/PID/cgroup. A cgroup that was removed under
  /// it has " (deleted)" at its end.
  [[nodiscard]] static Result<std::string> of(std::uint32_t pid);
  /// Depth below the root: 0 for "/", 2 for "/a/b".
  [[nodiscard]] static std::uint32_t level(const std::string& path);

 private:
  explicit CgroupTree(std::string mount, std::shared_ptr<const Fd> detached = nullptr)
      : mount_(std::move(mount)), detached_(std::move(detached)) {}
  std::string mount_;
  std::shared_ptr<const Fd>
      detached_;  // of a mount of our own; mount_ is then its /proc/self/fd path
};

/// Births and deaths of cgroup directories through inotify, one watch per parent directory; no
/// event loop inside.
class CgroupWatch {
 public:
  struct Event {
    enum class What : std::uint8_t {
      born,
      gone,
      overflow
    };  // overflow: events were lost, look again at everything
    What what = What::born;
    std::string path;
  };

  explicit CgroupWatch(const CgroupTree& tree) : tree_(&tree) {}
  /// Opens the inotify descriptor unless it is open. Errors: others have used up those of this
  /// user.
  [[nodiscard]] Status open();

  /// -1 until open() has succeeded.
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// Reports children of `path` from now on. Adding twice is fine; a directory that goes away drops
  /// its watch.
  /// Errors: the directory is gone, open() has not succeeded, others have used up the watches of
  /// this user.
  [[nodiscard]] Status add(const std::string& path);
  [[nodiscard]] bool watches(const std::string& path) const { return by_path_.contains(path); }
  /// Everything that happened since the last call, in order. Never blocks.
  [[nodiscard]] std::vector<Event> drain();

 private:
  struct Watched {
    int watch = -1;
    std::uint64_t id = 0;  // inode number, to tell a directory from a later one of the same path
  };
  void drop_if_gone(const std::string& path);

  const CgroupTree* tree_;
  Fd fd_;
  std::unordered_map<int, std::string> by_watch_;
  std::unordered_map<std::string, Watched> by_path_;
};

}  // namespace trireme::kernel
