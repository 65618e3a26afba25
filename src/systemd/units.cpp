#include "trireme/systemd/units.hpp"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "unit_name.hpp"

namespace trireme::systemd {
namespace {

bool shares_netns_with_init() {
  struct stat own {};
  struct stat init {};
  return ::stat("/proc/self/ns/net", &own) == 0 && ::stat("/proc/1/ns/net", &init) == 0 &&
         own.st_ino == init.st_ino;
}

std::string service_of(const std::string& socket) {
  return socket.substr(0, socket.rfind('.')) + ".service";
}

}  // namespace

UnitSource::UnitSource(const kernel::CgroupTree& tree, workload::Registry& registry,
                       workload::CgroupEvents& events, Bus* bus, std::string gate_command)
    : tree_(tree),
      registry_(registry),
      events_(events),
      bus_(bus),
      drop_ins_(std::move(gate_command)),
      alive_(std::make_shared<bool>(true)) {
  if (bus_ == nullptr) {
    off_ = "systemd is not running";
  } else if (!shares_netns_with_init()) {
    off_ = "systemd is in another network namespace";
  } else {
    bus_->add_listener(*this);
  }
}

UnitSource::~UnitSource() {
  if (is_on()) {
    bus_->remove_listener(*this);
  }
}

void UnitSource::configure(std::shared_ptr<const policy::Identity> identity) {
  identity_ = std::move(identity);
  if (!is_on()) {
    if (!identity_->units.empty()) {
      spdlog::warn("[[unit]] of identity.toml: no unit is a workload: {}", off_);
    }
    return;
  }
  reconcile_cgroups();
  look_at_units();
}

const policy::UnitRule* UnitSource::rule_for(const std::string& unit) const {
  // Its own start would wait for itself.
  if (!identity_ || unit.empty() || unit == "trireme.service" || unit == "init.scope") {
    return nullptr;
  }
  const auto found = std::ranges::find_if(
      identity_->units, [&](const policy::UnitRule& rule) { return matches(rule.name, unit); });
  if (found != identity_->units.end()) {
    return &*found;
  }
  if (!unit.ends_with(".socket")) {
    return nullptr;
  }
  for (const auto& [service, sockets] : listeners_) {
    if (sockets.contains(unit)) {
      return rule_for(service);
    }
  }
  return rule_for(service_of(unit));
}

const policy::UnitRule* UnitSource::rule_for_path(const std::string& path) const {
  const std::string unit = unit_of_path(path);
  if (unit.ends_with(".scope") && path.starts_with(events_.strict_slice() + "/")) {
    return nullptr;  // trirun's and Docker's
  }
  return rule_for(unit);
}

bool UnitSource::cgroup_born(const std::string& path) {
  const policy::UnitRule* rule = is_on() ? rule_for_path(path) : nullptr;
  if (rule == nullptr) {
    return false;
  }
  if (auto enrolled = enrol(path, *rule); !enrolled) {
    spdlog::error("unit {}: quarantined: {}", unit_of_path(path), enrolled.error().text());
  }
  return true;
}

void UnitSource::cgroup_gone(const std::string&) {}

Status UnitSource::enrol(const std::string& path, const policy::UnitRule& rule) {
  workload::Description description;
  description.name = unit_of_path(path);
  description.kind = workload::Kind::unit;
  description.labels = rule.labels;
  description.cgroup_path = path;
  const std::vector<std::uint32_t> pids = tree_.pids(path);
  description.pid = pids.empty() ? 0 : pids.front();
  description.warnings = socket_warnings(description.name);
  return registry_.enrol(description);
}

std::vector<std::string> UnitSource::socket_warnings(const std::string& service) const {
  std::vector<std::string> warnings;
  if (const auto found = listeners_.find(service); found != listeners_.end()) {
    for (const std::string& socket : found->second) {
      warnings.push_back("listens through " + socket +
                         ", which PID 1 opened: those connections are judged by the cgroup of " +
                         socket);
    }
  }
  return warnings;
}

Status UnitSource::gate(const std::string& unit, std::uint32_t pid) {
  const policy::UnitRule* rule = rule_for(unit);
  if (rule == nullptr) {
    return {};
  }
  const auto cgroup = kernel::CgroupTree::of(pid);
  if (!cgroup) {
    return tl::unexpected(cgroup.error());
  }
  const std::string path = unit_path(*cgroup);
  if (unit_of_path(path) != unit) {
    return fail("the caller is not in the cgroup of " + unit + " but in " + *cgroup);
  }
  if (auto enrolled = enrol(path, *rule); !enrolled) {
    return enrolled;
  }
  const workload::Workload* workload = registry_.find_cgroup(path);
  if (workload == nullptr || workload->state != workload::State::enforced) {
    return fail(unit + " is not enforced");
  }
  return {};
}

/// After a change of [[unit]] or of what is known of sockets: releases what no entry matches now,
/// and offers everything again.
void UnitSource::reconcile_cgroups() {
  std::vector<std::string> released;
  for (const workload::Workload* workload : registry_.all()) {
    if (workload->kind == workload::Kind::unit && rule_for_path(workload->cgroup_path) == nullptr) {
      released.push_back(workload->cgroup_path);
    }
  }
  std::ranges::for_each(released, [this](const std::string& path) { registry_.release(path); });
  for (const std::string& path : events_.known()) {
    const workload::Workload* known = registry_.find_cgroup(path);
    if (known == nullptr || known->kind == workload::Kind::unit) {
      std::ignore = cgroup_born(path);
    }
  }
}

std::string UnitSource::status() const {
  const std::size_t patterns = identity_ ? identity_->units.size() : 0;
  if (patterns == 0) {
    return "no [[unit]] in identity.toml";
  }
  if (!is_on()) {
    return "off: " + off_;
  }
  const auto units = std::ranges::count_if(registry_.all(), [](const workload::Workload* workload) {
    return workload->kind == workload::Kind::unit;
  });
  return std::to_string(units) + " running, " + std::to_string(patterns) +
         (patterns == 1 ? " pattern" : " patterns") + (problem_.empty() ? "" : "; " + problem_);
}

}  // namespace trireme::systemd
