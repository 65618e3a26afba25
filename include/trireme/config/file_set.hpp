// SPDX-License-Identifier: Apache-2.0
// The TOML files of a configuration as a whole: compared by digest, kept as JSON, and replaced
// together. Files of [trust] are not part of it.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trireme/base/disk.hpp"
#include "trireme/config/loader.hpp"
#include "trireme/credentials/crypto.hpp"

namespace trireme::config {

/// SHA-256 of, for each file: its name, a line feed, its size in bytes, a line feed, its content.
[[nodiscard]] credentials::Digest digest_of(const std::vector<Source>& sources);

struct FileSet {
  std::vector<Source> policy;    // policy.toml, then policy.d/*.toml in the order of reading
  std::vector<Source> identity;  // likewise
};

/// The digests of both parts, as hexadecimal text.
struct Digests {
  std::string policy;
  std::string identity;
  bool operator==(const Digests&) const = default;
};

[[nodiscard]] Digests digests_of(const FileSet& files);
/// The files that a configuration was read from.
[[nodiscard]] FileSet files_of(const Configuration& configuration);
/// The files of a directory that load() would read, whether they are valid or not.
[[nodiscard]] FileSet read_files(const std::string& directory);

/// {"policy": [{"file": "policy.toml", "content": "...", "mode": 420}], "identity": [...]}; without
/// "mode" if it is not known.
[[nodiscard]] nlohmann::json to_json(const FileSet& files);
/// The inverse. Errors: another structure, or a file name that load() would not read.
[[nodiscard]] Result<FileSet> file_set(const nlohmann::json& value);

/// Checks that replace_files() can replace the files of a directory. Errors: one of them, or
/// policy.d or identity.d, is a symbolic link or has another type; load() cannot read one, so that
/// it would be lost; a directory is not writable.
[[nodiscard]] Status check_replaceable(const std::string& directory);

/// Makes `files` the TOML files of the directory. Writes all new contents under other names, which
/// neither load() nor the Watcher reads, before it renames the first one: a full disk is an error
/// before anything has changed. After a later error or a crash, some files can be old and some new;
/// another call repairs that. Files that exist keep their mode, but not their owner and group: a
/// warning in the log names those that had others than the caller. Others get Source::mode, so that
/// a file which a change has removed comes back no more readable than it was; if it is not known,
/// the mode of policy.toml or identity.toml. Other files of the directory are not touched.
/// `is_unchanged` is called before the first rename, because the writes before take a while: if it
/// returns an error, nothing has changed.
[[nodiscard]] Status replace_files(const Disk& disk, const std::string& directory,
                                   const FileSet& files,
                                   const std::function<Status()>& is_unchanged = {});

/// Writes the files to an empty directory, with mode 0600.
[[nodiscard]] Status write_files(const Disk& disk, const std::string& directory,
                                 const FileSet& files);

}  // namespace trireme::config
