// SPDX-License-Identifier: Apache-2.0
#include <sys/inotify.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "trireme/kernel/cgroup.hpp"

namespace trireme::kernel {

Status CgroupWatch::open() {
  if (fd_.valid()) {
    return {};
  }
  fd_.reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  return fd_.valid() ? Status{}
                     : tl::unexpected(Error{fail_errno("cannot watch cgroups").value().message,
                                            "raise fs.inotify.max_user_instances"});
}

Status CgroupWatch::add(const std::string& path) {
  if (!fd_.valid()) {
    return fail("cannot watch cgroup " + path + ": no inotify descriptor",
                "raise fs.inotify.max_user_instances");
  }
  while (true) {
    const auto id = tree_->id(path);
    if (!id) {
      return tl::unexpected(id.error());
    }
    const int watch = ::inotify_add_watch(fd_.get(), tree_->absolute(path).c_str(),
                                          IN_CREATE | IN_DELETE | IN_ONLYDIR);
    if (watch < 0) {
      const int error = errno;
      return tl::unexpected(Error{fail_errno("cannot watch cgroup " + path, error).value().message,
                                  error == ENOSPC ? "raise fs.inotify.max_user_watches" : ""});
    }
    if (const auto older = by_path_.find(path);
        older != by_path_.end() && older->second.watch != watch) {
      ::inotify_rm_watch(fd_.get(), older->second.watch);
    }
    by_watch_[watch] = path;
    by_path_[path] = {watch, *id};
    if (const auto now = tree_->id(path); now && *now == *id) {
      return {};
    }
  }
}

/// Ends the watch of a removed directory. The kernel does not: on kernfs a removed directory keeps
/// its inode and thus its watch, so that IN_IGNORED never comes.
void CgroupWatch::drop_if_gone(const std::string& path) {
  const auto watched = by_path_.find(path);
  if (watched == by_path_.end()) {
    return;
  }
  if (const auto id = tree_->id(path); id && *id == watched->second.id) {
    return;  // the event is about an earlier directory with this path
  }
  ::inotify_rm_watch(fd_.get(), watched->second.watch);
  by_path_.erase(watched);
}

std::vector<CgroupWatch::Event> CgroupWatch::drain() {
  std::vector<Event> events;
  if (!fd_.valid()) {
    return events;
  }
  alignas(inotify_event) char buffer[65536];
  for (ssize_t size = 0; (size = ::read(fd_.get(), buffer, sizeof buffer)) > 0;) {
    for (ssize_t offset = 0; offset < size;) {
      inotify_event event{};
      std::memcpy(&event, buffer + offset, sizeof event);
      const char* name = buffer + offset + sizeof event;
      offset += static_cast<ssize_t>(sizeof event + event.len);
      if ((event.mask & IN_Q_OVERFLOW) != 0) {
        events.push_back({Event::What::overflow, {}});
        continue;
      }
      const auto parent = by_watch_.find(event.wd);
      if (parent == by_watch_.end()) {
        continue;
      }
      if ((event.mask & IN_IGNORED) != 0) {
        // A new directory with this path may already have a watch of its own: keep that one.
        if (const auto own = by_path_.find(parent->second);
            own != by_path_.end() && own->second.watch == event.wd) {
          by_path_.erase(own);
        }
        by_watch_.erase(parent);
      } else if ((event.mask & IN_ISDIR) != 0 && event.len > 0) {
        const auto what = (event.mask & IN_CREATE) != 0 ? Event::What::born : Event::What::gone;
        std::string path = (parent->second == "/" ? "" : parent->second) + "/" + name;
        if (what == Event::What::gone) {
          drop_if_gone(path);
        }
        events.push_back({what, std::move(path)});
      }
    }
  }
  return events;
}

}  // namespace trireme::kernel
