// SPDX-License-Identifier: Apache-2.0
// The configurations that were in force, with their files, in a directory that only root can read.
// Each combination of policy and identity files is one entry.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "trireme/config/file_set.hpp"

namespace trireme::config {

class History {
 public:
  static constexpr std::size_t kMost = 20;

  struct Entry {
    Digests digests;
    std::chrono::system_clock::time_point time;  // when it was last put in force
    std::string user;                            // who did; empty: not known
    std::string how;                             // start, save, apply, rollback
    std::size_t rules = 0;
    bool rolled_back = false;  // a rollback has replaced it
    /// The beginning of the policy's digest, as `trirectl status` shows it.
    [[nodiscard]] std::string short_digest() const { return digests.policy.substr(0, 16); }
  };

  explicit History(std::string directory, Disk disk = Disk{})
      : directory_(std::move(directory)), disk_(std::move(disk)) {}

  /// Creates the directory (mode 0700) if needed, and reads the index. If the index is damaged, the
  /// directory is renamed, so that nothing of it is lost, the history is empty, and the error says
  /// so. If it cannot be renamed, add() fails.
  [[nodiscard]] Status open();

  /// Newest first.
  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }

  /// Makes `entry` the newest one, whether its files are known or new. Removes the oldest ones
  /// beyond kMost. On error, the history is as before.
  [[nodiscard]] Status add(Entry entry, const FileSet& files);
  /// Replaces the stored files of these digests if they or their modes are not `files`.
  [[nodiscard]] Status keep(const Digests& digests, const FileSet& files) const;
  /// Sets `rolled_back` of the entry. Does nothing if there is no such entry.
  [[nodiscard]] Status note_rollback(const Digests& digests);

  /// Whether the policy's digest begins with `digits`; with a colon in them, both digests.
  [[nodiscard]] static bool matches(const Digests& digests, const std::string& digits);
  /// Finds the entry that matches. Errors: none does, or several do; the hint has the candidates.
  [[nodiscard]] Result<Entry> find(const std::string& digits) const;
  /// The newest entry that is not `now` and that no rollback has replaced.
  [[nodiscard]] std::optional<Entry> before(const Digests& now) const;
  /// The files of an entry. Errors: they cannot be read, or are not those of the digests.
  [[nodiscard]] Result<FileSet> files(const Entry& entry) const;

 private:
  [[nodiscard]] std::string path_of(const Digests& digests) const;
  [[nodiscard]] Status write_index(const std::vector<Entry>& entries) const;
  [[nodiscard]] std::string candidates(const std::vector<Entry>& of) const;
  [[nodiscard]] Status remove_unlisted() const;
  [[nodiscard]] tl::unexpected<Error> set_aside(const Error& damage);

  std::string directory_;
  Disk disk_;
  std::vector<Entry> entries_;
  std::optional<Error> damage_;  // of the index, which is still in place
};

}  // namespace trireme::config
