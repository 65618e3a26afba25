// SPDX-License-Identifier: Apache-2.0
#include "trireme/systemd/launcher.hpp"

#include <poll.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "trireme/workload/process.hpp"

namespace trireme::systemd {
namespace {

bool has_ended(const Fd& pidfd) {
  pollfd poll{pidfd.get(), POLLIN, 0};
  return pidfd.valid() && ::poll(&poll, 1, 0) != 0;
}

/// Needs CAP_SYS_PTRACE to read the namespace link of another process.
Status check_netns(std::uint32_t pid) {
  struct stat own {};
  struct stat theirs {};
  if (::stat("/proc/self/ns/net", &own) != 0 ||
      ::stat(("/proc/" + std::to_string(pid) + "/ns/net").c_str(), &theirs) != 0) {
    return fail_errno("cannot determine the caller's network namespace");
  }
  if (own.st_dev != theirs.st_dev || own.st_ino != theirs.st_ino) {
    return fail("the caller is in another network namespace than the daemon",
                "run it in the daemon's network namespace, or run a daemon in the caller's");
  }
  return {};
}

std::string automatic_unit(std::uint32_t pid) {
  std::uint32_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != sizeof random) {
    random = static_cast<std::uint32_t>(
        ::time(nullptr));  // the scope driver refuses a name that is in use
  }
  char digits[9];
  std::snprintf(digits, sizeof digits, "%08x", random);
  return "trirun-" + std::to_string(pid) + "-" + digits;
}

}  // namespace

struct Launcher::Attempt {
  LaunchRequest request;
  ScopeRequest scope;
  std::uint64_t started = 0;

  /// Error: the process that sent the request has ended (its pid may have been reused).
  [[nodiscard]] Status same_process() const {
    const auto now = workload::start_time(request.pid);
    if (!now || *now != started || has_ended(request.pidfd)) {
      return fail("the caller has exited");
    }
    return {};
  }
};

Result<std::string> scope_unit_name(const std::string& unit) {
  constexpr std::string_view kSuffix = ".scope";
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.@\\";
  constexpr std::size_t kMaxBytes = 200;
  const std::string stem =
      unit.ends_with(kSuffix) ? unit.substr(0, unit.size() - kSuffix.size()) : unit;
  if (stem.empty()) {
    return fail("a unit name must not be empty");
  }
  if (const std::size_t bad = stem.find_first_not_of(kLetters); bad != std::string::npos) {
    const auto byte = static_cast<unsigned char>(stem[bad]);
    const std::string shown = byte == ' '                 ? std::string("a space")
                              : byte > ' ' && byte < 0x7f ? std::string("'") + stem[bad] + "'"
                                                          : "byte " + std::to_string(byte);
    return fail("a unit name must not contain " + shown, "use letters, digits and : - _ . @ \\");
  }
  if (stem.size() > kMaxBytes) {
    return fail("a unit name must not be longer than " + std::to_string(kMaxBytes) + " bytes");
  }
  return stem + std::string(kSuffix);
}

Launcher::Launcher(workload::Registry& registry, ScopeDriver& scopes,
                   std::function<bool(const std::string& name)> is_reserved, LaunchShares shares)
    : registry_(registry),
      scopes_(scopes),
      is_reserved_(std::move(is_reserved)),
      shares_(std::move(shares)),
      alive_(std::make_shared<bool>(true)) {}

Launcher::~Launcher() = default;

void Launcher::configure(std::shared_ptr<const config::Host> host) {
  grants_.configure(std::move(host));
}

void Launcher::launch(LaunchRequest request, Done done) {
  const auto attempt = std::make_shared<Attempt>();
  attempt->request = std::move(request);
  if (auto ready = prepare(*attempt); !ready) {
    done(tl::unexpected(ready.error()));
    return;
  }
  scopes_.create(attempt->scope, [this, attempt, done = std::move(done),
                                  alive = std::weak_ptr(alive_)](Result<std::string> path) {
    if (alive.expired()) {
      return;
    }
    done(path ? placed(*attempt, *path) : tl::unexpected(path.error()));
  });
}

/// Makes all checks that need no scope.
Status Launcher::prepare(Attempt& attempt) {
  LaunchRequest& request = attempt.request;
  if (request.pid == 0) {
    return fail("the caller's process is not visible to this daemon",
                "the caller is in another PID namespace");
  }
  if (!request.pidfd.valid()) {
    request.pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, request.pid, 0)));
  }
  const auto started = workload::start_time(request.pid);
  if (!started) {
    return fail("the caller has exited");
  }
  attempt.started = *started;
  if (auto fine = check_netns(request.pid); !fine) {
    return fine;
  }
  for (const std::string& text : request.properties) {
    auto property = Property::parse(text);
    if (!property) {
      return tl::unexpected(property.error());
    }
    attempt.scope.properties.push_back(std::move(*property));
  }
  if (auto allowed = authorize(request, attempt.scope.properties); !allowed) {
    return allowed;
  }
  const std::string unit = request.unit.empty() ? automatic_unit(request.pid) : request.unit;
  auto name =
      scope_unit_name(request.uid == 0 ? unit : grants_.unit_prefix(request.uid) + "-" + unit);
  if (!name) {
    return tl::unexpected(name.error());
  }
  if (is_reserved_(*name)) {
    return fail("the name " + *name + " is reserved: it looks like a container's name",
                "choose another --unit");
  }
  if (registry_.find_name(*name) != nullptr) {
    return fail("a workload named " + *name + " already exists");
  }
  attempt.scope.name = std::move(*name);
  attempt.scope.pid = request.pid;
  if (auto fine = scopes_.check(attempt.scope); !fine) {
    return fine;
  }
  return attempt.same_process();  // so what was read from /proc is about this process
}

Status Launcher::authorize(const LaunchRequest& request, const std::vector<Property>& properties) {
  if (request.uid == 0) {
    return {};
  }
  std::vector<std::uint32_t> groups = request.groups;
  groups.push_back(request.gid);
  if (auto granted = grants_.permits(request.uid, groups, request.labels); !granted) {
    return granted;
  }
  if (request.changes_user) {
    return fail("only root may choose the user or group to run as");
  }
  for (const Property& property : properties) {
    if (!property_granted(property.name)) {
      return fail("only root may set the property '" + property.name + "'",
                  "other users may set Description, CPUQuota, CPUWeight, MemoryMax, MemoryHigh, "
                  "TasksMax, RuntimeMaxSec, IOWeight");
    }
  }
  if (auto left = may_leave(request); !left) {
    return left;
  }
  return shares_.permits(request.uid, LaunchShares::Clock::now());
}

/// Error: the caller, who is not root, may not leave its current cgroup.
Status Launcher::may_leave(const LaunchRequest& request) {
  const auto cgroup = kernel::CgroupTree::of(request.pid);
  if (!cgroup) {
    return tl::unexpected(cgroup.error());
  }
  const workload::Workload* workload = registry_.find_enclosing(*cgroup);
  if (workload == nullptr) {
    if (cgroup->starts_with(scopes_.slice() + "/")) {
      return fail("the caller is in " + *cgroup + ", where all traffic is denied",
                  "only root may leave it");
    }
    return {};
  }
  if (workload->state == workload::State::quarantined) {
    return fail("the caller belongs to the quarantined workload " + workload->name,
                "only root may leave it");
  }
  std::vector<std::uint32_t> groups = request.groups;
  groups.push_back(request.gid);
  if (!grants_.permits(request.uid, groups, workload->own_labels)) {
    return fail("the caller belongs to the workload " + workload->name +
                    ", whose labels its grant does not cover",
                "only root may leave it");
  }
  return {};
}

/// Called when the scope exists: checks that the caller is in it and is still the same process,
/// then enrolls the workload.
Result<Launched> Launcher::placed(const Attempt& attempt, const std::string& path) {
  const auto cgroup = kernel::CgroupTree::of(attempt.request.pid);
  if (!cgroup || *cgroup != path) {
    return fail(attempt.scope.name + " was created, but the caller is not in it");
  }
  if (auto same = attempt.same_process(); !same) {
    return tl::unexpected(same.error());
  }
  if (auto fine = check_netns(attempt.request.pid); !fine) {
    return tl::unexpected(fine.error());
  }
  workload::Description description;
  description.name = attempt.scope.name;
  description.labels = attempt.request.labels;
  description.cgroup_path = path;
  description.pid = attempt.request.pid;
  description.has_no_old_flows = true;  // trirun was just moved there and has opened no socket
  const Status enrolled = registry_.enrol(description);
  const workload::Workload* workload = registry_.find_cgroup(path);
  if (workload != nullptr && attempt.request.uid != 0) {
    shares_.launched(attempt.request.uid, workload->cgroup_id);
  }
  if (!enrolled) {
    return tl::unexpected(enrolled.error());
  }
  return Launched{attempt.scope.name, path, workload == nullptr ? 0 : workload->number};
}

}  // namespace trireme::systemd
