// SPDX-License-Identifier: Apache-2.0
#include "trireme/kernel/cgroup.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <sstream>

#include "trireme/base/file.hpp"

namespace trireme::kernel {
namespace {

/// Decodes a mount point: mountinfo writes space, tab, newline and backslash as a backslash and
/// three octal digits (proc_pid_mountinfo(5)).
std::string unescape(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      int code = 0;
      const char* digits = text.data() + i + 1;
      if (std::from_chars(digits, digits + 3, code, 8).ptr == digits + 3) {
        plain.push_back(static_cast<char>(code));
        i += 3;
        continue;
      }
    }
    plain.push_back(text[i]);
  }
  return plain;
}

/// True if the directory shows a cgroup2 file system. A later mount may hide one that mountinfo
/// lists.
bool shows_cgroup2(const std::string& directory) {
  struct statfs info {};
  return ::statfs(directory.c_str(), &info) == 0 &&
         static_cast<unsigned long>(info.f_type) == CGROUP2_SUPER_MAGIC;
}

/// The mount point of the first cgroup2 mount whose root is the root of this cgroup namespace, so
/// that paths of /proc/PID/cgroup are valid below it.
std::optional<std::string> mounted() {
  const auto table = read_file("/proc/self/mountinfo");
  if (!table) {
    return std::nullopt;
  }
  std::istringstream lines(*table);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string id;
    std::string parent;
    std::string device;
    std::string root;
    std::string point;
    std::string field;
    std::string type;
    fields >> id >> parent >> device >> root >> point;
    while (fields >> field && field != "-") {
    }
    fields >> type;
    if (type == "cgroup2" && root == "/" && shows_cgroup2(unescape(point))) {
      return unescape(point);
    }
  }
  return std::nullopt;
}

/// Creates a cgroup2 mount that is attached to no directory. Calls syscall(2), because the header
/// with the wrappers of libc 2.36 conflicts with <linux/mount.h>.
Result<Fd> detached_mount() {
  const Fd context(static_cast<int>(::syscall(SYS_fsopen, "cgroup2", FSOPEN_CLOEXEC)));
  if (!context.valid() ||
      ::syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return fail_errno(
        "no cgroup2 mount in /proc/self/mountinfo shows the whole hierarchy, and mounting one "
        "failed");
  }
  Fd mount(static_cast<int>(::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, 0)));
  if (!mount.valid()) {
    return fail_errno(
        "no cgroup2 mount in /proc/self/mountinfo shows the whole hierarchy, and fsmount failed");
  }
  return mount;
}

template <typename Action>
void for_each_entry(const std::string& directory, Action action) {
  DIR* handle = ::opendir(directory.c_str());
  if (handle == nullptr) {
    return;
  }
  while (const dirent* entry = ::readdir(handle)) {
    if (entry->d_type == DT_DIR && std::string_view(entry->d_name) != "." &&
        std::string_view(entry->d_name) != "..") {
      action(entry->d_name);
    }
  }
  ::closedir(handle);
}

}  // namespace

Result<CgroupTree> CgroupTree::find() {
  if (auto point = mounted()) {
    return CgroupTree(*point == "/" ? std::string() : *point);
  }
  auto mount = detached_mount();
  if (!mount) {
    return fail(mount.error().message, "run 'mount -t cgroup2 none /sys/fs/cgroup/unified'");
  }
  auto kept = std::make_shared<const Fd>(std::move(*mount));
  std::string path = "/proc/self/fd/" + std::to_string(kept->get());
  return CgroupTree(std::move(path), std::move(kept));
}

Result<std::uint64_t> CgroupTree::id(const std::string& path) const {
  struct stat info {};
  if (::stat(absolute(path).c_str(), &info) != 0) {
    return fail_errno("cgroup " + path);
  }
  return static_cast<std::uint64_t>(info.st_ino);
}

std::vector<std::string> CgroupTree::children(const std::string& path) const {
  std::vector<std::string> names;
  for_each_entry(absolute(path), [&](const char* name) { names.emplace_back(name); });
  return names;
}

std::vector<std::string> CgroupTree::all() const {
  std::vector<std::string> found;
  const auto add_children = [&](const std::string& parent, const std::string& prefix) {
    for (const std::string& name : children(parent)) {
      found.push_back(prefix + "/" + name);
    }
  };
  add_children("/", "");
  for (std::size_t begin = 0; begin < found.size();) {
    const std::vector<std::string> level_below(found.begin() + static_cast<std::ptrdiff_t>(begin),
                                               found.end());
    begin = found.size();
    for (const std::string& path : level_below) {
      if (level(path) < kDeepest) {
        add_children(path, path);
      }
    }
  }
  return found;
}

Status CgroupTree::create(const std::string& path) const {
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (::mkdir(absolute(part).c_str(), 0755) != 0 && errno != EEXIST) {
      return fail_errno("cannot create cgroup " + part);
    }
    if (end == std::string::npos) {
      return {};
    }
  }
}

Status CgroupTree::remove(const std::string& path) const {
  if (::rmdir(absolute(path).c_str()) != 0 && errno != ENOENT) {
    return fail_errno("cannot remove cgroup " + path);
  }
  return {};
}

Status CgroupTree::place(const std::string& path, std::uint32_t pid) const {
  // Not write_file(): on cgroupfs, O_CREAT fails with EACCES instead of ENOENT if the directory is
  // gone.
  const Fd fd(::open((absolute(path) + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  const std::string text = std::to_string(pid);
  if (!fd.valid() || ::write(fd.get(), text.data(), text.size()) < 0) {
    return fail_errno("cannot move process " + text + " to cgroup " + path);
  }
  return {};
}

namespace {

std::vector<std::uint32_t> numbers_in(const std::string& file) {
  std::vector<std::uint32_t> found;
  const auto text = read_file(file);
  if (!text) {
    return found;
  }
  std::istringstream lines(*text);
  for (std::uint32_t number = 0; lines >> number;) {
    found.push_back(number);
  }
  return found;
}

}  // namespace

std::vector<std::uint32_t> CgroupTree::pids(const std::string& path) const {
  return numbers_in(absolute(path) + "/cgroup.procs");
}

std::vector<std::uint32_t> CgroupTree::threads(const std::string& path) const {
  return numbers_in(absolute(path) + "/cgroup.threads");
}

bool CgroupTree::populated(const std::string& path) const {
  const auto text = read_file(absolute(path) + "/cgroup.events");
  return text && text->find("populated 1") != std::string::npos;
}

Result<std::optional<std::string>> CgroupTree::attribute(const std::string& path,
                                                         const char* name) const {
  const std::string directory = absolute(path);
  std::string value(1024, '\0');
  while (true) {
    const ssize_t size = ::getxattr(directory.c_str(), name, value.data(), value.size());
    if (size >= 0) {
      value.resize(static_cast<std::size_t>(size));
      return value;
    }
    if (errno == ENODATA || errno == EOPNOTSUPP) {
      return std::nullopt;
    }
    if (errno != ERANGE || value.size() >= XATTR_SIZE_MAX) {
      return fail_errno(std::string("cannot read ") + name + " of cgroup " + path);
    }
    value.resize(XATTR_SIZE_MAX);
  }
}

Status CgroupTree::set_attribute(const std::string& path, const char* name,
                                 const std::string& value) const {
  if (::setxattr(absolute(path).c_str(), name, value.data(), value.size(), 0) != 0) {
    return fail_errno(std::string("cannot write ") + name + " of cgroup " + path);
  }
  return {};
}

Status CgroupTree::clear_attribute(const std::string& path, const char* name) const {
  if (::removexattr(absolute(path).c_str(), name) != 0 && errno != ENODATA && errno != ENOENT &&
      errno != EOPNOTSUPP) {
    return fail_errno(std::string("cannot clear ") + name + " of cgroup " + path);
  }
  return {};
}

Result<std::string> CgroupTree::of(std::uint32_t pid) {
  const std::string file = "/proc/" + std::to_string(pid) + "/cgroup";
  const auto text = read_file(file);
  if (!text) {
    return tl::unexpected(text.error());
  }
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("0::")) {
      return line.substr(3);
    }
  }
  return fail("no cgroup v2 path in " + file, "mount the cgroup v2 hierarchy");
}

bool CgroupTree::is_removed(const std::string& path) const {
  // A cgroup can have a name that ends like this.
  return path.ends_with(" (deleted)") && !id(path);
}

std::uint32_t CgroupTree::level(const std::string& path) {
  return path == "/" ? 0 : static_cast<std::uint32_t>(std::count(path.begin(), path.end(), '/'));
}

}  // namespace trireme::kernel
