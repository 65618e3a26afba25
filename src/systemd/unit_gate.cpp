// SPDX-License-Identifier: Apache-2.0
// The unit gate: decides when the start of a unit may continue.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "trireme/kernel/sockets.hpp"
#include "trireme/systemd/units.hpp"
#include "trireme/workload/network.hpp"
#include "unit_name.hpp"

namespace trireme::systemd {

/// One start of a unit, and what systemd reports about it.
struct UnitSource::Start {
  std::string unit;
  std::uint32_t pid = 0;
  std::optional<std::set<std::uint32_t>> alone;
  GateDone done;
  UnitFacts facts;
  std::vector<UnitFacts> sockets;  // the units that trigger it
  Status asked_all;                // an error of the queries about those
  std::size_t asked = 0;
};

void UnitSource::gate(const std::string& unit, std::uint32_t pid,
                      std::optional<std::set<std::uint32_t>> alone, GateDone done) {
  if (!is_on()) {
    done(fail("units cannot be enforced: " + off_));
    return;
  }
  const auto start = std::make_shared<Start>(Start{.unit = unit,
                                                   .pid = pid,
                                                   .alone = std::move(alone),
                                                   .done = std::move(done),
                                                   .facts = {},
                                                   .sockets = {},
                                                   .asked_all = {}});
  ask_about(start);
}

void UnitSource::ask_about(const std::shared_ptr<Start>& start) {
  if (!bus_->is_connected()) {
    offline_.emplace_back([this, start] { ask_about(start); });
    return;
  }
  ask_unit(*bus_, start->unit,
           [this, start, alive = std::weak_ptr(alive_)](Result<UnitFacts> facts) {
             if (!alive.expired()) {
               with_unit(start, std::move(facts));
             }
           });
}

void UnitSource::with_unit(const std::shared_ptr<Start>& start, Result<UnitFacts> facts) {
  if (!facts && !bus_->is_connected()) {
    ask_about(start);  // waits for the connection and repeats the queries
    return;
  }
  if (!facts) {
    start->done(tl::unexpected(facts.error()));
    return;
  }
  start->facts = std::move(*facts);
  learn_aliases(view_.aliases, start->facts);
  start->asked = start->facts.triggered_by.size() + 1;
  const auto answered = [this, start] {
    if (--start->asked == 0) {
      with_sockets(start);
    }
  };
  for (const std::string& socket : start->facts.triggered_by) {
    ask_unit(*bus_, socket,
             [start, answered, alive = std::weak_ptr(alive_)](Result<UnitFacts> found) {
               if (alive.expired()) {
                 return;
               }
               if (found) {
                 start->sockets.push_back(std::move(*found));
               } else {
                 start->asked_all = tl::unexpected(found.error());
               }
               answered();
             });
  }
  answered();
}

void UnitSource::with_sockets(const std::shared_ptr<Start>& start) {
  if (!start->asked_all && !bus_->is_connected()) {
    start->asked_all = Status{};
    start->sockets.clear();
    ask_about(start);
    return;
  }
  const auto answer = [this, start] {
    start->done(start->asked_all ? admit(*start) : tl::unexpected(start->asked_all.error()));
  };
  if (looking_ && rule_for(start->unit) == nullptr) {
    waiting_.emplace_back(answer);
  } else {
    answer();
  }
}

Result<std::set<std::uint32_t>> UnitSource::admit(const Start& start) {
  const config::UnitRule* rule = rule_for(start.unit);
  if (rule == nullptr) {
    workload::Description unit;
    unit.name = start.unit;
    unit.kind = workload::Kind::unit;
    if (const workload::Hold* hold = registry_.hold_on(unit)) {
      return fail(start.unit + " is not enforced: " + hold->text(),
                  "'trirectl release " + start.unit + "' ends that");
    }
    if (DropIns::exist(names_of(view_.aliases, start.unit))) {
      return fail(
          "no [[unit]] entry of identity.toml matches " + start.unit + ", but its drop-in exists",
          "'trirectl status' shows which entries match nothing");
    }
    return std::set<std::uint32_t>();
  }
  const auto cgroup = kernel::CgroupTree::of(start.pid);
  if (!cgroup) {
    return tl::unexpected(cgroup.error());
  }
  const std::string path = unit_path(*cgroup);
  if (unit_of_path(path) != start.unit) {
    return fail("the caller is not in the cgroup of " + start.unit + " but in " + *cgroup);
  }
  if (Status here = check_network(start); !here) {
    return tl::unexpected(here.error());
  }
  for (const UnitFacts& socket : start.sockets) {
    if (Status covered = check_socket(socket, *rule); !covered) {
      return tl::unexpected(covered.error());
    }
  }
  if (start.facts.most_descriptors > 0) {
    view_.facts[start.unit] = start.facts;
  }
  Kept kept = kept_by(start.facts, start.pid, path, *rule, start.alone);
  if (auto enrolled = enrol(path, *rule, std::move(kept.cgroups)); !enrolled) {
    return tl::unexpected(enrolled.error());
  }
  const workload::Workload* workload = registry_.find_cgroup(path);
  if (workload == nullptr || workload->state != workload::State::enforced) {
    return fail(start.unit + " is not enforced" +
                (workload == nullptr ? "" : ": " + workload->reason));
  }
  return kept.unsure;
}

/// Error: the unit gate is not in the network namespace that the unit's processes will be in.
Status UnitSource::check_network(const Start& start) {
  const std::uint64_t inode = workload::network_of_process(start.pid);
  bool there = !start.facts.private_network || inode != workload::own_network();
  if (!start.facts.network_namespace.empty()) {
    const auto declared = kernel::Netns::at(start.facts.network_namespace);
    there = declared && (*declared)->inode() == inode;
  }
  return there ? Status{}
               : fail(
                     "the unit gate is not in the network namespace that the unit's settings name, "
                     "so policy cannot be enforced there");
}

/// Checks a .socket unit that passes its listeners or connections to a service with this rule.
/// Policy applies to a socket by the cgroup that it was created in, so that cgroup must be enforced
/// with the same labels.
Status UnitSource::check_socket(const UnitFacts& socket, const config::UnitRule& rule) {
  if (!socket.has_ip_listener || socket.active_state != "active") {
    return {};
  }
  view_.sockets[socket.id] = socket;
  const workload::Workload* workload = registry_.find_name(socket.id);
  if (workload == nullptr) {
    const auto known = events_.known();
    const auto path = std::ranges::find(known, socket.id, unit_of_path);
    if (path != known.end()) {
      std::ignore = cgroup_born(*path);
    }
    workload = registry_.find_name(socket.id);
  }
  if (workload == nullptr) {
    return fail("its listeners belong to " + socket.id + ", which is not a workload",
                "add a [[unit]] entry that matches the service it starts");
  }
  if (workload->state != workload::State::enforced) {
    return fail("its listeners belong to " + socket.id +
                ", which is not enforced: " + workload->reason);
  }
  if (!(workload->own_labels == rule.labels)) {
    return fail("its listeners belong to " + socket.id +
                ", which has other labels: " + workload->own_labels.text());
  }
  bool listens = false;
  const auto look = [&] {
    auto table = kernel::SocketTable::open();
    const auto found =
        table ? table->of_cgroup(workload->cgroup_id) : tl::unexpected(table.error());
    listens = listens || (found && std::ranges::any_of(*found, [](const kernel::InetSocket& each) {
                            return each.remote_port == 0;
                          }));
  };
  for (const workload::Place& place : workload->places) {
    if (place.network == nullptr) {
      look();
    } else if (Status entered = place.network->within(look); !entered) {
      return entered;
    }
  }
  return listens ? Status{}
                 : fail("the listeners of " + socket.id +
                            " are not in its cgroup, so its traffic cannot be identified",
                        "systemd needs cgroup BPF support to open them there");
}

}  // namespace trireme::systemd
