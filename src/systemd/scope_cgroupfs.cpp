#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <utility>

#include "property.hpp"
#include "trireme/base/file.hpp"
#include "trireme/systemd/scope.hpp"

namespace trireme::systemd {
namespace {

constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

/// A property that is one file of a cgroup v2 controller.
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

/// What the limit's file takes.
Result<std::string> file_content(const Property& property) {
  const auto typed = parse_property(property);
  if (!typed) {
    return tl::unexpected(typed.error());
  }
  const auto* number = std::get_if<std::uint64_t>(&typed->value);
  if (number == nullptr) {
    return fail(property.name + ": percentages need systemd", "give a number");
  }
  if (property.name == "CPUQuota") {
    // Of each 100 ms, the kernel's default period.
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

/// Gives the slice's children the controller: it must be switched on from the root downwards.
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
  Fd inotify(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify.valid()) {
    return tl::unexpected(
        Error{fail_errno("inotify_init1").value().message, "raise fs.inotify.max_user_instances"});
  }
  if (auto made = tree.create(slice); !made) {
    return tl::unexpected(made.error());
  }
  std::unique_ptr<CgroupfsScopes> scopes(
      new CgroupfsScopes(tree, std::move(slice), std::move(inotify)));
  const int rc = sd_event_add_io(loop, &scopes->readable_, scopes->inotify_.get(), EPOLLIN,
                                 on_readable, scopes.get());
  if (rc < 0) {
    return fail_errno("cannot watch scopes", -rc);
  }
  for (const std::string& name : tree.children(scopes->slice_)) {
    if (name.ends_with(".scope")) {
      const std::string path = scopes->slice_ + "/" + name;
      if (auto adopted = scopes->adopt(path); !adopted) {
        spdlog::warn("{}", adopted.error().text());
      }
      scopes->remove_if_empty(path);
    }
  }
  return scopes;
}

CgroupfsScopes::CgroupfsScopes(const kernel::CgroupTree& tree, std::string slice, Fd inotify)
    : tree_(tree), slice_(std::move(slice)), inotify_(std::move(inotify)) {}

CgroupfsScopes::~CgroupfsScopes() {
  sd_event_source_disable_unref(readable_);
}

Status CgroupfsScopes::check(const ScopeRequest& request) const {
  for (const Property& property : request.properties) {
    const Limit* limit = limit_of(property);
    if (limit == nullptr) {
      if (property.name == "Description") {
        continue;
      }
      return fail("property '" + property.name + "' needs systemd",
                  "without it are known: Description, TasksMax, MemoryMax, MemoryHigh, CPUQuota, "
                  "CPUWeight");
    }
    if (auto content = file_content(property); !content) {
      return tl::unexpected(content.error());
    }
    const auto available = read_file(tree_.absolute("/cgroup.controllers"));
    if (!available || !has_word(*available, limit->controller)) {
      return fail(property.name + ": cgroup v2 has no " + limit->controller + " controller here",
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
    return fail(request.name + " exists already");
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
  done = done ? adopt(path) : done;
  done = done ? tree_.place(path, request.pid) : done;
  if (!done) {
    remove_if_empty(path);
    return tl::unexpected(done.error());
  }
  return path;
}

Status CgroupfsScopes::adopt(const std::string& path) {
  // cgroup.events is modified, as inotify sees it, when "populated" changes.
  const int watch = ::inotify_add_watch(
      inotify_.get(), (tree_.absolute(path) + "/cgroup.events").c_str(), IN_MODIFY);
  if (watch < 0) {
    const int error = errno;
    return tl::unexpected(Error{fail_errno("cannot watch cgroup " + path, error).value().message,
                                error == ENOSPC ? "raise fs.inotify.max_user_watches" : ""});
  }
  by_watch_[watch] = path;
  return {};
}

int CgroupfsScopes::on_readable(sd_event_source*, int fd, std::uint32_t, void* self) {
  auto& scopes = *static_cast<CgroupfsScopes*>(self);
  alignas(inotify_event) char buffer[16384];
  for (ssize_t size = 0; (size = ::read(fd, buffer, sizeof buffer)) > 0;) {
    for (ssize_t offset = 0; offset < size;) {
      inotify_event event{};
      std::memcpy(&event, buffer + offset, sizeof event);
      offset += static_cast<ssize_t>(sizeof event + event.len);
      if ((event.mask & IN_Q_OVERFLOW) != 0) {
        const auto all = scopes.by_watch_;
        std::ranges::for_each(all, [&](const auto& item) { scopes.remove_if_empty(item.second); });
      } else if (const auto scope = scopes.by_watch_.find(event.wd);
                 scope == scopes.by_watch_.end()) {
        continue;
      } else if ((event.mask & IN_IGNORED) != 0) {
        scopes.by_watch_.erase(scope);
      } else {
        scopes.remove_if_empty(std::string(scope->second));
      }
    }
  }
  return 0;
}

void CgroupfsScopes::remove_if_empty(const std::string& path) {
  if (tree_.populated(path)) {
    return;
  }
  remove_tree(path);
  // kernfs says no IN_IGNORED for files that go away: the watch would stay for ever.
  const auto watched =
      std::ranges::find_if(by_watch_, [&](const auto& item) { return item.second == path; });
  if (watched != by_watch_.end()) {
    ::inotify_rm_watch(inotify_.get(), watched->first);
    by_watch_.erase(watched);
  }
}

/// Children first: a command may have made cgroups of its own.
void CgroupfsScopes::remove_tree(const std::string& path) {
  for (const std::string& name : tree_.children(path)) {
    remove_tree(path + "/" + name);
  }
  if (auto removed = tree_.remove(path); !removed) {
    spdlog::warn("{}", removed.error().text());
  }
}

}  // namespace trireme::systemd
