// SPDX-License-Identifier: Apache-2.0
#include "trireme/systemd/units.hpp"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "trireme/systemd/unit_rule.hpp"
#include "trireme/workload/network.hpp"
#include "unit_name.hpp"

namespace trireme::systemd {
namespace {

constexpr std::size_t kExamined = 64;  // processes of a unit to examine for its network namespace

bool shares_netns_with_init() {
  struct stat own {};
  struct stat init {};
  return ::stat("/proc/self/ns/net", &own) == 0 && ::stat("/proc/1/ns/net", &init) == 0 &&
         own.st_ino == init.st_ino;
}

}  // namespace

UnitSource::UnitSource(sd_event* loop, const kernel::CgroupTree& tree, workload::Registry& registry,
                       workload::CgroupEvents& events, Bus* bus, std::string gate_command)
    : loop_(loop),
      tree_(tree),
      registry_(registry),
      events_(events),
      bus_(bus),
      drop_ins_(std::move(gate_command)),
      alive_(std::make_shared<bool>(true)) {
  event::require(loop_, timer_.open(loop_, [this] { look_soon(); }));
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

void UnitSource::configure(std::shared_ptr<const config::Host> host) {
  host_ = std::move(host);
  is_reconfigured_ = true;
  if (!is_on()) {
    if (!host_->units.empty()) {
      spdlog::warn("the [[unit]] entries of identity.toml have no effect: {}", off_);
    }
    return;
  }
  offer_cgroups();  // with the aliases known so far
  look();           // afterwards, units whose entry was removed are released
}

const config::UnitRule* UnitSource::rule_for(const std::string& unit) const {
  return host_ ? rule_of(*host_, view_, unit) : nullptr;
}

const config::UnitRule* UnitSource::rule_for_path(const std::string& path) const {
  const std::string unit = unit_of_path(path);
  if (unit.ends_with(".scope") && path.starts_with(events_.strict_slice() + "/")) {
    return nullptr;  // a scope of trirun or of Docker
  }
  return rule_for(unit);
}

bool UnitSource::cgroup_born(const std::string& path) {
  const config::UnitRule* rule = is_on() ? rule_for_path(path) : nullptr;
  if (rule == nullptr) {
    return is_on() && keep_held(path);
  }
  if (auto enrolled = enrol(path, *rule); !enrolled) {
    spdlog::error("unit {}: quarantined: {}", unit_of_path(path), enrolled.error().text());
  }
  return true;
}

/// Quarantines a unit that no entry matches any more and that an operator's order covers.
bool UnitSource::keep_held(const std::string& path) {
  workload::Description description;
  description.name = unit_of_path(path);
  description.kind = workload::Kind::unit;
  description.cgroup_path = path;
  const bool is_foreign =
      description.name.ends_with(".scope") && path.starts_with(events_.strict_slice() + "/");
  const workload::Hold* hold =
      description.name.empty() || is_foreign ? nullptr : registry_.hold_on(description);
  if (hold == nullptr) {
    return false;
  }
  const workload::Workload* known = registry_.find_cgroup(path);
  const auto id = tree_.id(path);
  if (known == nullptr || !id || known->cgroup_id != *id) {
    if (const Status held = registry_.quarantine(description, hold->text()); !held) {
      spdlog::error("unit {}: {}", description.name, held.error().text());
    }
  }
  return true;
}

void UnitSource::cgroup_gone(const std::string&) {}

Status UnitSource::enrol(const std::string& path, const config::UnitRule& rule,
                         std::vector<std::uint64_t> former) {
  workload::Description description;
  description.name = unit_of_path(path);
  description.kind = workload::Kind::unit;
  description.labels = rule.labels;
  description.cgroup_path = path;
  const std::vector<std::uint32_t> pids = tree_.pids(path);
  description.pid = pids.empty() ? 0 : pids.front();
  description.warnings = socket_warnings(description.name);
  description.former = std::move(former);
  auto network = network_of(path, description.name);
  if (!network) {
    const Status blocked = registry_.quarantine(description, network.error().message);
    return blocked ? tl::unexpected(network.error()) : blocked;
  }
  description.places = {{std::move(*network)}};
  return registry_.enrol(description);
}

/// The network namespace of the unit's processes, or of its listeners if it has no process. Null:
/// the daemon's own.
Result<std::shared_ptr<const kernel::Netns>> UnitSource::network_of(const std::string& path,
                                                                    const std::string& unit) const {
  if (const auto socket = view_.sockets.find(unit); socket != view_.sockets.end()) {
    if (!socket->second.network_namespace.empty()) {
      return kernel::Netns::at(socket->second.network_namespace);
    }
    if (socket->second.private_network) {
      return fail("its listeners are in a private network namespace, which cannot be entered");
    }
  }
  std::size_t limit = kExamined;
  const auto networks = workload::networks_of(tree_, path, limit);
  if (networks.contains(workload::own_network())) {
    return nullptr;
  }
  const workload::Workload* known = registry_.find_cgroup(path);
  const std::vector<workload::Place> places =
      known == nullptr ? std::vector<workload::Place>() : known->places;
  const auto place = std::ranges::find_if(places, [&](const workload::Place& each) {
    return networks.empty() || (each.network && networks.contains(each.network->inode()));
  });
  if (place != places.end()) {
    return place->network;
  }
  if (networks.empty()) {
    return nullptr;
  }
  const auto& [inode, pid] = *networks.begin();
  return workload::hold_network(pid, inode);
}

std::vector<std::string> UnitSource::socket_warnings(const std::string& service) const {
  std::vector<std::string> warnings;
  for (const auto& [socket, facts] : view_.sockets) {
    if (facts.has_ip_listener &&
        std::ranges::find(facts.triggers, service) != facts.triggers.end()) {
      warnings.push_back("listens through " + socket +
                         ", which PID 1 opened: policy sees those connections as those of " +
                         socket);
    }
  }
  return warnings;
}

void UnitSource::offer_cgroups() {
  for (const std::string& path : events_.known()) {
    const workload::Workload* known = registry_.find_cgroup(path);
    if (known == nullptr || known->kind == workload::Kind::unit) {
      std::ignore = cgroup_born(path);
    }
  }
}

void UnitSource::release_cgroups() {
  std::vector<std::string> released;
  for (const workload::Workload* workload : registry_.all()) {
    if (workload->kind == workload::Kind::unit && rule_for_path(workload->cgroup_path) == nullptr) {
      released.push_back(workload->cgroup_path);
    }
  }
  std::ranges::for_each(released, [this](const std::string& path) { registry_.release(path); });
}

std::string UnitSource::status() const {
  const std::size_t patterns = host_ ? host_->units.size() : 0;
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
         (patterns == 1 ? " pattern" : " patterns") + (problem_.empty() ? "" : "; " + problem_) +
         (unanswered_.empty() ? "" : "; " + unanswered_);
}

}  // namespace trireme::systemd
