// SPDX-License-Identifier: Apache-2.0
#include <spdlog/spdlog.h>
#include <systemd/sd-bus.h>

#include <algorithm>
#include <utility>

#include "property.hpp"
#include "trireme/systemd/scope.hpp"

namespace trireme::systemd {
namespace {

constexpr const char* kSlice = "trireme.slice";

/// The cgroup path of a slice: /trireme.slice/trireme-a.slice/trireme-a-b.slice for
/// "trireme-a-b.slice".
std::string slice_path(const std::string& slice) {
  const std::string stem = slice.substr(0, slice.size() - std::string_view(".slice").size());
  std::string path;
  for (std::size_t dash = stem.find('-');; dash = stem.find('-', dash + 1)) {
    path += "/" + stem.substr(0, dash) + ".slice";
    if (dash == std::string::npos) {
      return path;
    }
  }
}

/// systemd prefixes "_" to a directory name that could conflict with a file of the kernel:
/// "memory.scope" becomes "_memory.scope" (cg_escape() in systemd).
std::string directory_of(const std::string& unit) {
  static constexpr std::string_view kControllers[] = {"cpu",
                                                      "cpuacct",
                                                      "cpuset",
                                                      "io",
                                                      "blkio",
                                                      "memory",
                                                      "devices",
                                                      "pids",
                                                      "hugetlb",
                                                      "bpf-firewall",
                                                      "bpf-devices",
                                                      "bpf-foreign",
                                                      "bpf-socket-bind",
                                                      "bpf-restrict-network-interfaces"};
  const std::string stem = unit.substr(0, unit.rfind('.'));
  const bool taken = unit.starts_with('_') || unit.starts_with('.') ||
                     unit.starts_with("cgroup.") ||
                     std::ranges::find(kControllers, stem) != std::end(kControllers);
  return (taken ? "_" : "") + unit;
}

std::string slice_of(const ScopeRequest& request) {
  std::string slice = kSlice;
  for (const Property& property : request.properties) {
    slice = property.name == "Slice" ? property.value : slice;
  }
  return slice;
}

/// The driver's own properties come first, so that the caller's override them, except Slice and
/// PIDs.
int append_properties(sd_bus_message* message, const ScopeRequest& request) {
  int rc = sd_bus_message_append(message, "(sv)", "CollectMode", "s", "inactive-or-failed");
  rc =
      rc < 0 ? rc : sd_bus_message_append(message, "(sv)", "Slice", "s", slice_of(request).c_str());
  rc = rc < 0 ? rc : sd_bus_message_append(message, "(sv)", "PIDs", "au", 1, request.pid);
  for (const Property& property : request.properties) {
    const auto typed = parse_property(property);
    if (!typed || rc < 0) {
      return rc < 0 ? rc : -EINVAL;
    }
    rc = property.name == "Slice" ? rc : append_property(message, *typed);
  }
  return rc;
}

int fill_start_call(sd_bus_message* message, const ScopeRequest& request) {
  int rc = sd_bus_message_append(message, "ss", request.name.c_str(), "fail");
  rc = rc < 0 ? rc : sd_bus_message_open_container(message, 'a', "(sv)");
  rc = rc < 0 ? rc : append_properties(message, request);
  rc = rc < 0 ? rc : sd_bus_message_close_container(message);
  return rc < 0 ? rc : sd_bus_message_append(message, "a(sa(sv))", 0);
}

}  // namespace

/// One pending StartTransientUnit. `job` is empty until systemd has answered the call.
struct SystemdScopes::Pending {
  std::uint64_t id = 0;
  std::string name;
  std::string path;
  std::string job;
  Done done;
  event::Timer timer;
};

SystemdScopes::SystemdScopes(sd_event* loop, Bus& bus, std::chrono::seconds patience)
    : loop_(loop),
      bus_(bus),
      patience_(patience),
      slice_(bus.cgroup_root() + slice_path(kSlice)),
      alive_(std::make_shared<bool>(true)) {
  bus_.add_listener(*this);
}

SystemdScopes::~SystemdScopes() {
  bus_.remove_listener(*this);
}

Status SystemdScopes::check(const ScopeRequest& request) const {
  for (const Property& property : request.properties) {
    if (auto typed = parse_property(property); !typed) {
      return tl::unexpected(typed.error());
    }
  }
  return {};
}

void SystemdScopes::create(const ScopeRequest& request, Done done) {
  if (auto fine = check(request); !fine) {
    done(tl::unexpected(fine.error()));
    return;
  }
  sd_bus_message* message = bus_.manager_call("StartTransientUnit");
  if (message != nullptr) {
    if (const int rc = fill_start_call(message, request); rc < 0) {
      sd_bus_message_unref(message);
      done(fail_errno("cannot describe " + request.name + " to systemd", -rc));
      return;
    }
  }
  auto pending = std::make_unique<Pending>();
  pending->id = next_++;
  pending->name = request.name;
  pending->path =
      bus_.cgroup_root() + slice_path(slice_of(request)) + "/" + directory_of(request.name);
  pending->done = std::move(done);
  const std::uint64_t id = pending->id;
  Status timed = pending->timer.open(loop_, [this, id, name = pending->name] {
    finish(id, fail("systemd did not start " + name + " within " +
                    std::to_string(patience_.count()) + " s"));
  });
  if (!timed) {
    sd_bus_message_unref(message);
    pending->done(tl::unexpected(timed.error()));
    return;
  }
  pending->timer.arm(patience_);
  pending_.emplace(id, std::move(pending));
  bus_.send(message, [this, id, alive = std::weak_ptr(alive_)](Result<sd_bus_message*> reply) {
    if (!alive.expired()) {
      started(id, std::move(reply));
    }
  });
}

void SystemdScopes::started(std::uint64_t id, Result<sd_bus_message*> reply) {
  const auto pending = pending_.find(id);
  if (pending == pending_.end()) {
    return;
  }
  const char* job = nullptr;
  if (!reply) {
    finish(id, tl::unexpected(reply.error()));
  } else if (sd_bus_message_read(*reply, "o", &job) < 0) {
    finish(id, fail("systemd answered StartTransientUnit without a job"));
  } else {
    pending->second->job = job;
  }
}

void SystemdScopes::job_removed(const std::string& job, const std::string& result) {
  for (const auto& [id, pending] : pending_) {
    if (pending->job == job) {
      finish(id, result == "done"
                     ? Result<std::string>(pending->path)
                     : fail("systemd did not start " + pending->name + ": job " + result));
      return;
    }
  }
}

void SystemdScopes::disconnected() {
  while (!pending_.empty()) {
    const auto& [id, pending] = *pending_.begin();
    finish(id, fail("lost the connection to systemd while it was starting " + pending->name));
  }
}

void SystemdScopes::finish(std::uint64_t id, Result<std::string> result) {
  const auto node = pending_.extract(id);
  if (!node.empty()) {
    node.mapped()->done(std::move(result));
  }
}

}  // namespace trireme::systemd
