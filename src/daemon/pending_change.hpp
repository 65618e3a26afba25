// SPDX-License-Identifier: Apache-2.0
// The record of a change of the configuration that is not complete or not confirmed.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "trireme/base/disk.hpp"
#include "trireme/config/file_set.hpp"

namespace trireme::daemon {

struct PendingChange {
  config::FileSet before;
  config::FileSet after;
  std::string user;
  // Not in the file: after a start, every change is rolled back.
  std::chrono::nanoseconds deadline{0};  // of Changes::Clock; 0: the change is not complete
  bool undoing = false;                  // a rollback has begun
  std::string undone_by = {};            // who asked for it
  config::FileSet saved = {};            // found on disk by the rollback, in STATE-DIR/replaced
};

struct FoundChange {
  std::optional<PendingChange> change = {};  // of the files in `directory`
  std::string other_directory = {};          // the record is of the files there; empty: it is not
};

/// Finds nothing if the file does not exist. Errors: it cannot be read, or is damaged.
[[nodiscard]] Result<FoundChange> read_pending(const std::string& path,
                                               const std::string& directory);
[[nodiscard]] Status write_pending(const Disk& disk, const std::string& path,
                                   const std::string& directory, const PendingChange& pending);

/// Whether every file of `files` is, with the same content, in `before`, `after` or `saved`: what a
/// change or a rollback that was interrupted leaves on disk.
[[nodiscard]] bool is_made_of(const config::FileSet& files, const PendingChange& pending);

}  // namespace trireme::daemon
