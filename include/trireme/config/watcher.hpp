// SPDX-License-Identifier: Apache-2.0
// Says when the configuration on disk may have changed. No event loop and no timer inside: the
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

/// Watches directories, never files (an editor's rename-over leaves a file's watch on the old
/// inode): every directory on the way to policy.toml, identity.toml and the drop-ins, and each one
/// that a symbolic link on that way leads through. So these all count: a save, a rename-over, a
/// swap of
/// `..data` (Kubernetes), a drop-in directory that appears or goes, a replaced configuration
/// directory. Other names in those directories do not.
class Watcher {
 public:
  /// Arm before the first load(), so that nothing falls in between. The directory may be missing;
  /// it is waited for. Where watches cannot be had, problem() says so.
  [[nodiscard]] static Watcher open(std::string directory);

  /// Becomes readable when drain() has something to look at; -1 while problem() says that there is
  /// no descriptor.
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// Why changes can go unnoticed: others have used up the inotify descriptors or watches of this
  /// user. Then poll() is to be called now and then.
  [[nodiscard]] const std::optional<Error>& problem() const { return problem_; }
  /// Tries again to watch everything. True: something looks different than at the last call; load
  /// again.
  [[nodiscard]] bool poll();

  /// Reads what happened, arms what is new. True: load again.
  [[nodiscard]] bool drain();

  /// Whether somebody has one of the files open for writing: what it holds may be half of what is
  /// meant. False where the file system, or the file's owner, does not let it be told.
  [[nodiscard]] bool has_writer() const;

  /// Further files whose changes count ([trust]); relative ones are below the directory. Replaces
  /// those of an earlier call.
  void set_extra_files(std::vector<std::string> files);

 private:
  /// What counts in one directory.
  struct Interest {
    std::uint32_t mask = 0;
    std::set<std::string, std::less<>> names;
    bool drop_ins = false;  // every visible *.toml
    bool operator==(const Interest&) const = default;
    /// `last`: what the path is about, not only a directory or link on the way to it.
    void add(const std::string& name, bool last);
  };
  using Interests = std::map<std::string, Interest>;  // by path without symbolic links

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
  std::string seen_;  // the last fingerprint
};

}  // namespace trireme::config
