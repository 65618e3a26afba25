// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <utility>

#include "property.hpp"
#include "trireme/base/file.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/systemd/scope.hpp"

namespace trireme::systemd {
namespace {

/// The interval of checks of scopes that have no inotify watch.
constexpr std::chrono::milliseconds kPoll(250);
constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

/// A property that corresponds to one file of a cgroup v2 controller.
struct Limit {
  const char* property;
  const char* controller;
  const char* file;
};
constexpr Limit kLimits[] = {
    {"TasksMax", "pids", "pids.max"},        {"MemoryMax", "memory", "memory.max"},
    {"MemoryHigh", "memory", "memory.high"}, {"CPUQuota", "cpu", "cpu.max"},
    {"CPUWeight", "cpu", "cpu.weight"},
};

const Limit* limit_of(const Property& property) {
  const auto* found = std::ranges::find_if(
      kLimits, [&](const Limit& limit) { return property.name == limit.property; });
  return found == std::end(kLimits) ? nullptr : found;
}

/// The value to write to the limit's file.
Result<std::string> file_content(const Property& property) {
  const auto typed = parse_property(property);
  if (!typed) {
    return tl::unexpected(typed.error());
  }
  const auto* number = std::get_if<std::uint64_t>(&typed->value);
  if (number == nullptr) {
    return fail(property.name + ": percentages need systemd", "use a number");
  }
  if (property.name == "CPUQuota") {
    // Per 100 ms, the kernel's default period.
    return (*number == kUnlimited ? "max" : std::to_string(*number / 10)) + " 100000";
  }
  return *number == kUnlimited ? "max" : std::to_string(*number);
}

bool has_word(const std::string& text, std::string_view word) {
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
    const bool begins = at == 0 || std::isspace(static_cast<unsigned char>(text[at - 1])) != 0;
    const bool ends = at + word.size() == text.size() ||
                      std::isspace(static_cast<unsigned char>(text[at + word.size()])) != 0;
    if (begins && ends) {
      return true;
    }
  }
  return false;
}

/// Enables the controller for the slice's children, which requires enabling it in every cgroup from
/// the root down.
Status enable(const kernel::CgroupTree& tree, const std::string& slice,
              const std::string& controller) {
  std::string path;
  while (true) {
    if (auto done = write_file(tree.absolute(path) + "/cgroup.subtree_control", "+" + controller);
        !done) {
      return done;
    }
    if (path.size() == slice.size()) {
      return {};
    }
    path = slice.substr(0, slice.find('/', path.size() + 1));
  }
}

}  // namespace

Result<std::unique_ptr<CgroupfsScopes>> CgroupfsScopes::open(sd_event* loop,
                                                             const kernel::CgroupTree& tree,
                                                             std::string slice) {
  if (auto made = tree.create(slice); !made) {
    return tl::unexpected(made.error());
  }
  std::unique_ptr<CgroupfsScopes> scopes(new CgroupfsScopes(loop, tree, std::move(slice)));
  if (Status opened = scopes->poll_.open(loop, [&made = *scopes] { made.poll(); }); !opened) {
    return tl::unexpected(opened.error());
  }
  for (const std::string& name : tree.children(scopes->slice_)) {
    if (name.ends_with(".scope")) {
      const std::string path = scopes->slice_ + "/" + name;
      scopes->adopt(path);
      scopes->remove_if_empty(path);
    }
  }
  return scopes;
}

CgroupfsScopes::CgroupfsScopes(sd_event* loop, const kernel::CgroupTree& tree, std::string slice)
    : loop_(loop), tree_(tree), slice_(std::move(slice)) {}

Status CgroupfsScopes::check(const ScopeRequest& request) const {
  for (const Property& property : request.properties) {
    const Limit* limit = limit_of(property);
    if (limit == nullptr) {
      if (property.name == "Description") {
        continue;
      }
      return fail(
          "property '" + property.name + "' needs systemd",
          "available without systemd: Description, TasksMax, MemoryMax, MemoryHigh, CPUQuota, "
          "CPUWeight");
    }
    if (auto content = file_content(property); !content) {
      return tl::unexpected(content.error());
    }
    const auto available = read_file(tree_.absolute("/cgroup.controllers"));
    if (!available || !has_word(*available, limit->controller)) {
      return fail(
          property.name + ": the cgroup v2 hierarchy has no " + limit->controller + " controller",
          "it may be in use by cgroup v1");
    }
  }
  return {};
}

void CgroupfsScopes::create(const ScopeRequest& request, Done done) {
  done(make(request));
}

Result<std::string> CgroupfsScopes::make(const ScopeRequest& request) {
  if (auto fine = check(request); !fine) {
    return tl::unexpected(fine.error());
  }
  const std::string path = slice_ + "/" + request.name;
  if (tree_.id(path)) {
    return fail(request.name + " already exists");
  }
  Status done = tree_.create(path);
  for (const Property& property : request.properties) {
    const Limit* limit = limit_of(property);
    if (limit == nullptr || !done) {
      continue;
    }
    done = enable(tree_, slice_, limit->controller);
    if (done) {
      done =
          write_file(tree_.absolute(path) + "/" + limit->file, file_content(property).value_or(""));
    }
  }
  if (done) {
    adopt(path);
    done = tree_.place(path, request.pid);
  }
  if (!done) {
    remove_if_empty(path);
    return tl::unexpected(done.error());
  }
  return path;
}

/// Arranges that the scope is removed when it is empty, by an inotify watch or, without one, by
/// polling.
void CgroupfsScopes::adopt(const std::string& path) {
  if (!watch(path)) {
    if (unwatched_.empty()) {
      poll_.arm(kPoll);
    }
    unwatched_.insert(path);
  }
}

/// inotify reports a modification of cgroup.events when "populated" changes. Returns false if the
/// user's inotify limits are exhausted.
bool CgroupfsScopes::watch(const std::string& path) {
  if (!inotify_.valid()) {
    inotify_.reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  }
  if (!inotify_.valid()) {
    return false;
  }
  if (!readable_.is_open() &&
      !readable_.open(loop_, inotify_.get(), EPOLLIN,
                      [this](std::uint32_t /*events*/) { read_events(); })) {
    return false;
  }
  const int watch = ::inotify_add_watch(
      inotify_.get(), (tree_.absolute(path) + "/cgroup.events").c_str(), IN_MODIFY);
  if (watch >= 0) {
    by_watch_[watch] = path;
  }
  return watch >= 0;
}

void CgroupfsScopes::poll() {
  const auto unwatched = unwatched_;
  for (const std::string& path : unwatched) {
    if (watch(path)) {
      unwatched_.erase(path);
    }
    remove_if_empty(path);
  }
  if (!unwatched_.empty()) {
    poll_.arm(kPoll);
  }
}

void CgroupfsScopes::read_events() {
  alignas(inotify_event) char buffer[16384];
  for (ssize_t size = 0; (size = ::read(inotify_.get(), buffer, sizeof buffer)) > 0;) {
    for (ssize_t offset = 0; offset < size;) {
      inotify_event event{};
      std::memcpy(&event, buffer + offset, sizeof event);
      offset += static_cast<ssize_t>(sizeof event + event.len);
      if ((event.mask & IN_Q_OVERFLOW) != 0) {
        const auto all = by_watch_;
        std::ranges::for_each(all, [&](const auto& item) { remove_if_empty(item.second); });
      } else if (const auto scope = by_watch_.find(event.wd); scope == by_watch_.end()) {
        continue;
      } else if ((event.mask & IN_IGNORED) != 0) {
        by_watch_.erase(scope);
      } else {
        remove_if_empty(std::string(scope->second));
      }
    }
  }
}

void CgroupfsScopes::remove_if_empty(const std::string& path) {
  if (tree_.populated(path)) {
    return;
  }
  remove_tree(path);
  unwatched_.erase(path);
  // kernfs sends no IN_IGNORED for removed files, so the watch must be removed explicitly.
  const auto watched =
      std::ranges::find_if(by_watch_, [&](const auto& item) { return item.second == path; });
  if (watched != by_watch_.end()) {
    ::inotify_rm_watch(inotify_.get(), watched->first);
    by_watch_.erase(watched);
  }
}

/// Removes children first, because a command may have created cgroups of its own.
void CgroupfsScopes::remove_tree(const std::string& path) {
  for (const std::string& name : tree_.children(path)) {
    remove_tree(path + "/" + name);
  }
  if (auto removed = tree_.remove(path); !removed && log_shares().admit("scopes")) {
    spdlog::warn("{}", removed.error().text());
  }
}

}  // namespace trireme::systemd
