// SPDX-License-Identifier: Apache-2.0
#include "trireme/base/disk.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "trireme/base/fd.hpp"
#include "trireme/base/file.hpp"

namespace trireme {
namespace {

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Status Disk::before(const char* what, const std::string& path) const {
  return before_ ? before_(std::string(what) + " " + path) : Status{};
}

Status Disk::create(const std::string& path, std::string_view content, unsigned mode) const {
  if (Status may = before("create", path); !may) {
    return may;
  }
  const auto fd = create_file(path, content, mode);
  if (!fd) {
    return tl::unexpected(fd.error());
  }
  // The umask does not apply to the mode: a file must not lose the mode of the one it replaces.
  if (::fchmod(fd->get(), mode) != 0 || ::fsync(fd->get()) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    return fail_errno("cannot write " + path, error);
  }
  return {};
}

Status Disk::replace(const std::string& path, std::string_view content, unsigned mode) const {
  const std::string fresh = path + ".new";
  if (Status removed = remove(fresh); !removed) {
    return removed;
  }
  if (Status created = create(fresh, content, mode); !created) {
    return created;
  }
  if (Status renamed = rename(fresh, path); !renamed) {
    ::unlink(fresh.c_str());
    return renamed;
  }
  return sync(directory_of(path));
}

Status Disk::rename(const std::string& from, const std::string& to) const {
  if (Status may = before("rename", to); !may) {
    return may;
  }
  return std::rename(from.c_str(), to.c_str()) == 0 ? Status{} : fail_errno("cannot replace " + to);
}

Status Disk::remove(const std::string& path) const {
  struct stat status = {};
  if (::lstat(path.c_str(), &status) != 0 && errno == ENOENT) {
    return {};
  }
  if (Status may = before("remove", path); !may) {
    return may;
  }
  return ::unlink(path.c_str()) == 0 || errno == ENOENT ? Status{}
                                                        : fail_errno("cannot remove " + path);
}

Status Disk::make_directory(const std::string& path, unsigned mode) const {
  struct stat status = {};
  if (::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
    return {};
  }
  if (Status may = before("create", path); !may) {
    return may;
  }
  if (::mkdir(path.c_str(), mode) != 0 || ::chmod(path.c_str(), mode) != 0) {
    return fail_errno("cannot create " + path);
  }
  return sync(directory_of(path));
}

Status Disk::sync(const std::string& directory) const {
  const Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return fd.valid() && ::fsync(fd.get()) == 0 ? Status{} : fail_errno("cannot write " + directory);
}

}  // namespace trireme
