// SPDX-License-Identifier: Apache-2.0
#include "trireme/config/watcher.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <filesystem>
#include <system_error>

#include "words.hpp"

namespace trireme::config {
namespace {

namespace fs = std::filesystem;

// Events for created and removed names. Sufficient for directories that are only part of a path.
constexpr std::uint32_t kNameEvents = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
                                      IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
// Also IN_MODIFY, for writers that keep the file open, and IN_ATTRIB, because a corrected mode can
// make a key acceptable.
constexpr std::uint32_t kContentEvents = kNameEvents | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB;
constexpr int kMaxLinks = 40;       // the kernel's limit, path_resolution(7)
constexpr int kMaxArmAttempts = 8;  // an attempt is repeated if the tree changed during it

// Inserts the components of `path` before the remaining ones.
void prepend(std::deque<std::string>& components, const fs::path& path) {
  std::deque<std::string> first;
  for (const auto& component : path.relative_path()) {
    if (!component.empty() && component != ".") {
      first.push_back(component.string());
    }
  }
  components.insert(components.begin(), first.begin(), first.end());
}

// Resolves an absolute path as the kernel does, and calls step(directory, name, last) for each name
// that is looked up. Returns the path without symbolic links, or "" if it does not exist.
template <typename Step>
std::string resolve(const std::string& path, const Step& step) {
  std::deque<std::string> rest;
  prepend(rest, path);
  fs::path here = "/";
  for (int links = 0; !rest.empty();) {
    const std::string name = rest.front();
    rest.pop_front();
    if (name == "..") {
      here = here.parent_path();
      continue;
    }
    step(here.string(), name, rest.empty());
    std::error_code error;
    const fs::file_status status = fs::symlink_status(here / name, error);
    if (!fs::exists(status)) {
      return {};
    }
    if (!fs::is_symlink(status)) {
      here /= name;
      continue;
    }
    const fs::path target = fs::read_symlink(here / name, error);
    if (error || ++links > kMaxLinks) {
      return {};
    }
    here = target.is_absolute() ? fs::path("/") : here;
    prepend(rest, target);
  }
  return here.string();
}

}  // namespace

Watcher Watcher::open(std::string directory) {
  std::error_code error;
  const fs::path absolute = fs::absolute(directory, error);
  Watcher watcher(error ? directory : absolute.string());
  watcher.arm();
  watcher.seen_ = watcher.fingerprint();
  return watcher;
}

void Watcher::set_extra_files(std::vector<std::string> files) {
  extra_files_ = std::move(files);
  arm();
  seen_ = fingerprint();
}

bool Watcher::drain() {
  const bool relevant = read_events();
  return arm() || relevant;
}

bool Watcher::poll() {
  const bool rearmed = arm();
  std::string now = fingerprint();
  const bool changed = now != seen_;
  seen_ = std::move(now);
  return changed || rearmed;
}

/// All paths that determine the result of a load: the files and drop-ins, and the directories and
/// links on the path to them.
std::vector<fs::path> Watcher::paths() const {
  std::vector<fs::path> list;
  for (const auto& [directory, interest] : survey()) {
    for (const std::string& name : interest.names) {
      list.push_back(fs::path(directory) / name);
    }
    std::error_code error;
    fs::directory_iterator entries(directory, error);
    for (; interest.drop_ins && !error && entries != fs::directory_iterator();
         entries.increment(error)) {
      if (is_drop_in(entries->path().filename().string())) {
        list.push_back(entries->path());
      }
    }
  }
  return list;
}

/// Text that changes when one of paths() changes. Contains only the identity of directories, not
/// their times, because other names in them are not relevant.
std::string Watcher::fingerprint() const {
  std::string text;
  for (const fs::path& path : paths()) {
    struct stat status = {};
    const bool there = ::stat(path.c_str(), &status) == 0;
    text += fmt::format("{} {} {} {:o}", path.string(), there, status.st_ino, status.st_mode);
    text += S_ISDIR(status.st_mode) ? "\n"
                                    : fmt::format(" {} {}.{} {}.{}\n", status.st_size,
                                                  status.st_mtim.tv_sec, status.st_mtim.tv_nsec,
                                                  status.st_ctim.tv_sec, status.st_ctim.tv_nsec);
  }
  return text;
}

bool Watcher::has_writer() const {
  return std::ranges::any_of(paths(), [](const fs::path& path) {
    struct stat status = {};
    if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) {
      return false;  // opening a FIFO or device can block or have side effects
    }
    const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!file.valid()) {
      return false;
    }
    // The kernel denies a read lease while a process has the file open for writing (fcntl(2)). A
    // process that opens it for writing now waits until the lease is released below.
    if (::fcntl(file.get(), F_SETLEASE, F_RDLCK) != 0) {
      return errno == EAGAIN;
    }
    std::ignore = ::fcntl(file.get(), F_SETLEASE, F_UNLCK);
    return false;
  });
}

bool Watcher::read_events() {
  bool relevant = false;
  alignas(inotify_event) std::array<char, 16384> buffer{};
  while (true) {
    const ssize_t count = ::read(fd_.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      return relevant;
    }
    for (std::size_t at = 0; at < static_cast<std::size_t>(count);) {
      inotify_event event{};
      std::memcpy(&event, buffer.data() + at, sizeof event);
      const char* name = buffer.data() + at + sizeof event;
      relevant = is_relevant(event.wd, event.mask,
                             event.len == 0 ? std::string_view{} : std::string_view(name)) ||
                 relevant;
      at += sizeof event + event.len;
    }
  }
}

bool Watcher::is_relevant(int watch, std::uint32_t mask, std::string_view name) const {
  if ((mask & IN_Q_OVERFLOW) != 0) {
    return true;
  }
  const auto found = watches_.find(watch);
  if (found == watches_.end() || (mask & IN_IGNORED) != 0) {
    return false;
  }
  const Interest& interest = found->second;
  return (mask & (IN_DELETE_SELF | IN_MOVE_SELF)) != 0 || interest.names.contains(name) ||
         (interest.drop_ins && is_drop_in(name));
}

// Repeats the survey after creating watches until two surveys agree. From then on, every change
// causes an event.
bool Watcher::arm() {
  bool changed = false;
  if (!fd_.valid()) {
    fd_.reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  }
  if (!fd_.valid()) {
    problem_ = Error{fail_errno("cannot watch " + directory_).value().message,
                     "raise fs.inotify.max_user_instances"};
    return false;
  }
  problem_.reset();
  for (int attempt = 0; attempt < kMaxArmAttempts; ++attempt) {
    Interests wanted = survey();
    const std::map<int, Interest> before = watches_;
    if (auto status = watch(wanted); !status) {
      problem_ = status.error();
    }
    const bool settled = wanted == interests_ && before == watches_;
    interests_ = std::move(wanted);
    if (settled) {
      break;
    }
    changed = true;
  }
  return changed;
}

void Watcher::Interest::add(const std::string& name, bool last) {
  mask |= last ? kContentEvents : kNameEvents;
  names.insert(name);
}

Watcher::Interests Watcher::survey() const {
  Interests interests;
  const auto note = [&interests](const std::string& directory, const std::string& name, bool last) {
    interests[directory].add(name, last);
  };
  for (const char* name : {"policy.toml", "identity.toml"}) {
    (void)resolve(directory_ + "/" + name, note);
  }
  for (const auto& file : extra_files_) {
    (void)resolve(file.starts_with('/') ? file : directory_ + "/" + file, note);
  }
  for (const char* name : {"policy.d", "identity.d"}) {
    survey_drop_ins(directory_ + "/" + name, interests);
  }
  return interests;
}

void Watcher::survey_drop_ins(const std::string& path, Interests& interests) const {
  const auto note = [&interests](const std::string& directory, const std::string& name, bool last) {
    interests[directory].add(name, last);
  };
  const std::string place = resolve(path, note);
  std::error_code error;
  if (place.empty() || !fs::is_directory(place, error)) {
    return;
  }
  interests[place].mask |= kContentEvents;
  interests[place].drop_ins = true;
  fs::directory_iterator entries(place, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    if (is_drop_in(entries->path().filename().string()) && entries->is_symlink(error)) {
      (void)resolve(entries->path().string(), note);
    }
  }
}

Status Watcher::watch(const Interests& wanted) {
  std::map<int, Interest> watches;
  Status result;
  for (const auto& [path, interest] : wanted) {
    int watch = ::inotify_add_watch(fd_.get(), path.c_str(), interest.mask);
    if (const auto known = watches.find(watch); watch >= 0 && known != watches.end()) {
      // Two paths to one inode (a bind mount) share one watch: combine the masks.
      watch = ::inotify_add_watch(fd_.get(), path.c_str(), interest.mask | known->second.mask);
    }
    if (watch < 0) {
      // The directory was removed or is not readable. The watch of its parent reports when that
      // changes.
      if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) {
        result = tl::unexpected(Error{fail_errno("cannot watch " + path).value().message,
                                      "raise fs.inotify.max_user_watches"});
      }
      continue;
    }
    Interest& merged = watches[watch];
    merged.mask |= interest.mask;
    merged.names.insert(interest.names.begin(), interest.names.end());
    merged.drop_ins = merged.drop_ins || interest.drop_ins;
  }
  for (const auto& [watch, interest] : watches_) {
    if (!watches.contains(watch)) {
      (void)::inotify_rm_watch(fd_.get(), watch);
    }
  }
  watches_ = std::move(watches);
  return result;
}

}  // namespace trireme::config
