// SPDX-License-Identifier: Apache-2.0
#include "trireme/config/file_set.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <iterator>
#include <optional>
#include <set>
#include <system_error>
#include <tuple>

#include "trireme/base/file.hpp"
#include "words.hpp"

namespace trireme::config {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::array<std::string, 2> kParts = {"policy", "identity"};
constexpr const char* kFresh = ".trireme-new";  // ends the name of a file that is not in place yet
constexpr unsigned kDefaultMode = 0644;
constexpr unsigned kDirectoryMode = 0755;

/// Whether load() reads the file as a part of this name: "policy.toml" or "policy.d/x.toml".
bool belongs_to(const std::string& part, const std::string& file) {
  const std::string drop_ins = part + ".d/";
  if (!file.starts_with(drop_ins)) {
    return file == part + ".toml";
  }
  const std::string name = file.substr(drop_ins.size());
  return is_drop_in(name) && name.find('/') == std::string::npos && policy::is_printable(name);
}

std::vector<Source> sources_of(const json& list) {
  std::vector<Source> result;
  for (const json& item : list) {
    result.push_back({item.at("file").get<std::string>(), item.at("content").get<std::string>(),
                      item.value("mode", 0U) & 0777U});
  }
  return result;
}

json to_json(const std::vector<Source>& sources) {
  json list = json::array();
  for (const Source& source : sources) {
    json item = {{"file", source.file}, {"content", source.content}};
    if (source.mode != 0) {
      item["mode"] = source.mode;
    }
    list.push_back(std::move(item));
  }
  return list;
}

/// The type and mode of a file, without following a symbolic link. nullopt if it does not exist.
Result<std::optional<mode_t>> mode_of(const std::string& path) {
  struct stat status = {};
  if (::lstat(path.c_str(), &status) == 0) {
    return status.st_mode;
  }
  if (errno == ENOENT || errno == ENOTDIR) {
    return std::nullopt;
  }
  return fail_errno("cannot read the status of " + path);
}

/// The names in policy.d or identity.d for which `wanted` is true, with the directory; none if the
/// directory does not exist.
template <typename Wanted>
Result<std::vector<std::string>> drop_ins(const std::string& directory, const std::string& part,
                                          const Wanted& wanted) {
  std::vector<std::string> files;
  std::error_code error;
  fs::directory_iterator entries(directory + "/" + part + ".d", error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    if (const std::string name = entries->path().filename().string(); wanted(name)) {
      files.push_back(part + ".d/" + name);
    }
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    return fail_errno("cannot list " + directory + "/" + part + ".d", error.value());
  }
  return files;
}

/// The files of a directory that load() reads.
Result<std::vector<std::string>> existing_files(const std::string& directory) {
  std::vector<std::string> files;
  for (const std::string& part : kParts) {
    const auto mode = mode_of(directory + "/" + part + ".toml");
    if (!mode) {
      return tl::unexpected(mode.error());
    }
    if (*mode) {
      files.push_back(part + ".toml");
    }
    const auto more = drop_ins(directory, part, is_drop_in);
    if (!more) {
      return more;
    }
    files.insert(files.end(), more->begin(), more->end());
  }
  return files;
}

Status check_type(const std::string& path, mode_t mode, mode_t wanted, const char* type) {
  if (S_ISLNK(mode)) {
    return fail(fmt::format("'{}' is a symbolic link", path),
                "whatever made the link manages these files: change them there, or replace the "
                "link by what it points to");
  }
  return (mode & S_IFMT) == wanted ? Status{} : fail(fmt::format("'{}' is not {}", path, type));
}

/// load() skips a file that it cannot read, so there would be no copy of it after it is removed.
/// Adds the size of the file to `total`.
Status check_loadable(const std::string& directory, const std::string& file, std::size_t& total) {
  if (!policy::is_printable(file)) {
    return fail("a file name in " + directory + " contains a control character", "rename the file");
  }
  const auto content = read_file(directory + "/" + file, kMaxFileBytes);
  if (!content) {
    return fail(content.error().message + ": it would be removed without a copy",
                "move the file away, or make it readable for the daemon");
  }
  total += content->size();
  return total <= kMaxTotalBytes
             ? Status{}
             : fail(fmt::format("the TOML files of {} have more than {} bytes: some would be "
                                "removed without a copy",
                                directory, kMaxTotalBytes),
                    "move files away");
}

Status check_writable(const std::string& directory) {
  if (::faccessat(AT_FDCWD, directory.c_str(), W_OK, AT_EACCESS) == 0) {
    return {};
  }
  const int error = errno;
  auto failure = fail_errno("cannot write to " + directory, error);
  failure.value().hint =
      error == EROFS
          ? "add ReadWritePaths=" + directory +
                " in a drop-in of trireme.service; if the directory was replaced, restart trireme"
          : "the daemon runs as root without CAP_DAC_OVERRIDE: run 'chown root " + directory + "'";
  return failure;
}

std::string fresh_path(const std::string& directory, const std::string& file) {
  const fs::path path = fs::path(directory) / file;
  return (path.parent_path() / ("." + path.filename().string() + kFresh)).string();
}

/// Removes new contents that an earlier call has not put in place.
Status remove_fresh(const Disk& disk, const std::string& directory) {
  const auto is_fresh = [](const std::string& name) {
    return name.starts_with('.') && name.ends_with(kFresh);
  };
  for (const std::string& part : kParts) {
    auto files = drop_ins(directory, part, is_fresh);
    if (!files) {
      return tl::unexpected(files.error());
    }
    files->push_back("." + part + ".toml" + kFresh);
    for (const std::string& file : *files) {
      if (Status removed = disk.remove(directory + "/" + file); !removed) {
        return removed;
      }
    }
  }
  return {};
}

/// The mode that a file gets: that on disk, else the one it had, else that of its part's main file.
unsigned mode_for(const std::string& directory, const std::string& part, const Source& source) {
  const auto on_disk = [&directory](const std::string& file) {
    const auto mode = mode_of(directory + "/" + file);
    return mode && *mode && S_ISREG(**mode) ? **mode & 0777U : 0U;
  };
  for (const unsigned mode : {on_disk(source.file), source.mode, on_disk(part + ".toml")}) {
    if (mode != 0) {
      return mode;
    }
  }
  return kDefaultMode;
}

/// Writes the contents that differ from those in place under their fresh_path().
Result<std::vector<std::string>> write_fresh(const Disk& disk, const std::string& directory,
                                             const FileSet& files) {
  std::vector<std::string> changed;
  for (const auto* part : {&files.policy, &files.identity}) {
    const std::string name = part == &files.policy ? "policy" : "identity";
    for (const Source& source : *part) {
      const std::string path = directory + "/" + source.file;
      const auto mode = mode_of(path);
      if (mode && *mode && S_ISREG(**mode) && read_file(path) == source.content) {
        continue;
      }
      if (source.file.find('/') != std::string::npos) {
        if (Status made = disk.make_directory(directory + "/" + name + ".d", kDirectoryMode);
            !made) {
          return tl::unexpected(made.error());
        }
      }
      if (Status written = disk.create(fresh_path(directory, source.file), source.content,
                                       mode_for(directory, name, source));
          !written) {
        return tl::unexpected(written.error());
      }
      changed.push_back(source.file);
    }
  }
  return changed;
}

/// A file that replaces another belongs to the daemon, which cannot change owners (no CAP_CHOWN).
void warn_of_owner(const std::string& path, const struct stat& before) {
  if (before.st_uid != ::geteuid() || before.st_gid != ::getegid()) {
    spdlog::warn(
        "{} belonged to user {} and group {}, and now to user {} and group {}: if others read it "
        "by "
        "its group or owner, run chown",
        path, before.st_uid, before.st_gid, ::geteuid(), ::getegid());
  }
}

Status put_in_place(const Disk& disk, const std::string& directory, const FileSet& files,
                    const std::vector<std::string>& changed) {
  const auto before = existing_files(directory);
  if (!before) {
    return tl::unexpected(before.error());
  }
  for (const std::string& file : changed) {
    const std::string path = directory + "/" + file;
    struct stat replaced = {};
    const bool exists = ::lstat(path.c_str(), &replaced) == 0;
    if (Status renamed = disk.rename(fresh_path(directory, file), path); !renamed) {
      return renamed;
    }
    if (exists) {
      warn_of_owner(path, replaced);
    }
  }
  std::set<std::string> wanted;
  for (const auto* part : {&files.policy, &files.identity}) {
    std::ranges::transform(*part, std::inserter(wanted, wanted.end()), &Source::file);
  }
  for (const std::string& file : *before) {
    if (wanted.contains(file)) {
      continue;
    }
    if (Status removed = disk.remove(directory + "/" + file); !removed) {
      return removed;
    }
  }
  for (const std::string& place : {directory, directory + "/policy.d", directory + "/identity.d"}) {
    const auto mode = mode_of(place);
    if (mode && !*mode) {
      continue;
    }
    if (Status synced = disk.sync(place); !synced) {
      return synced;
    }
  }
  return {};
}

}  // namespace

credentials::Digest digest_of(const std::vector<Source>& sources) {
  std::string text;
  for (const Source& source : sources) {
    text += source.file + "\n" + std::to_string(source.content.size()) + "\n" + source.content;
  }
  return credentials::sha256({{reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}});
}

Digests digests_of(const FileSet& files) {
  return {policy::hex(digest_of(files.policy)), policy::hex(digest_of(files.identity))};
}

FileSet files_of(const Configuration& configuration) {
  return {configuration.policy_sources, configuration.identity_sources};
}

json to_json(const FileSet& files) {
  return {{"policy", to_json(files.policy)}, {"identity", to_json(files.identity)}};
}

Result<FileSet> file_set(const json& value) {
  FileSet files;
  try {
    files = {sources_of(value.at("policy")), sources_of(value.at("identity"))};
  } catch (const json::exception& exception) {
    return fail(std::string("not a set of files: ") + exception.what());
  }
  for (const auto* part : {&files.policy, &files.identity}) {
    for (const Source& source : *part) {
      if (!belongs_to(part == &files.policy ? "policy" : "identity", source.file)) {
        return fail("not a set of files: unexpected name '" + source.file + "'");
      }
    }
  }
  return files;
}

Status check_replaceable(const std::string& directory) {
  if (Status writable = check_writable(directory); !writable) {
    return writable;
  }
  for (const std::string& part : kParts) {
    const std::string place = directory + "/" + part + ".d";
    const auto mode = mode_of(place);
    if (!mode) {
      return tl::unexpected(mode.error());
    }
    if (*mode) {
      if (Status type = check_type(place, **mode, S_IFDIR, "a directory"); !type) {
        return type;
      }
      if (Status writable = check_writable(place); !writable) {
        return writable;
      }
    }
  }
  const auto files = existing_files(directory);
  if (!files) {
    return tl::unexpected(files.error());
  }
  std::size_t total = 0;
  for (const std::string& file : *files) {
    const auto mode = mode_of(directory + "/" + file);
    if (!mode) {
      return tl::unexpected(mode.error());
    }
    if (Status type =
            check_type(directory + "/" + file, mode->value_or(S_IFREG), S_IFREG, "a regular file");
        !type) {
      return type;
    }
    if (Status loaded = check_loadable(directory, file, total); !loaded) {
      return loaded;
    }
  }
  return {};
}

Status replace_files(const Disk& disk, const std::string& directory, const FileSet& files,
                     const std::function<Status()>& is_unchanged) {
  if (Status removed = remove_fresh(disk, directory); !removed) {
    return removed;
  }
  const auto changed = write_fresh(disk, directory, files);
  if (!changed) {
    std::ignore = remove_fresh(Disk{}, directory);
    return tl::unexpected(changed.error());
  }
  if (Status unchanged = is_unchanged ? is_unchanged() : Status{}; !unchanged) {
    std::ignore = remove_fresh(Disk{}, directory);
    return unchanged;
  }
  return put_in_place(disk, directory, files, *changed);
}

Status write_files(const Disk& disk, const std::string& directory, const FileSet& files) {
  for (const auto* part : {&files.policy, &files.identity}) {
    for (const Source& source : *part) {
      const std::string path = directory + "/" + source.file;
      if (const std::string place = fs::path(path).parent_path().string(); place != directory) {
        if (Status made = disk.make_directory(place, 0700); !made) {
          return made;
        }
      }
      if (Status written = disk.create(path, source.content, 0600); !written) {
        return written;
      }
    }
  }
  return {};
}

}  // namespace trireme::config
