// What a unit's start waits for.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <utility>

#include "trireme/kernel/sockets.hpp"
#include "trireme/systemd/units.hpp"
#include "trireme/workload/network.hpp"
#include "unit_name.hpp"

namespace trireme::systemd {

namespace {

/// Inode numbers of the sockets that the process has descriptors of.
std::set<std::uint32_t> sockets_of_process(std::uint32_t pid) {
  constexpr std::string_view kSocket = "socket:[";
  std::set<std::uint32_t> inodes;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", error)) {
    const std::string target = std::filesystem::read_symlink(entry.path(), error).string();
    std::uint32_t inode = 0;
    if (!error && target.starts_with(kSocket) &&
        std::from_chars(target.data() + kSocket.size(), target.data() + target.size(), inode).ec ==
            std::errc()) {
      inodes.insert(inode);
    }
  }
  return inodes;
}

/// Those of the present network namespace that were made in the cgroup and that a process holds.
std::set<std::uint32_t> sockets_of_cgroup(std::uint64_t cgroup_id) {
  std::set<std::uint32_t> inodes;
  auto table = kernel::SocketTable::open();
  const auto found = table ? table->of_cgroup(cgroup_id) : tl::unexpected(table.error());
  for (const kernel::InetSocket& socket : found.value_or(std::vector<kernel::InetSocket>())) {
    if (socket.inode != 0) {
      inodes.insert(socket.inode);
    }
  }
  return inodes;
}

}  // namespace

/// One start, and what systemd says about it.
struct UnitSource::Start {
  std::string unit;
  std::uint32_t pid = 0;
  GateDone done;
  UnitFacts facts;
  std::vector<UnitFacts> sockets;  // that start it
  Status asked_all;                // the first error of asking about those
  std::size_t asked = 0;
};

void UnitSource::gate(const std::string& unit, std::uint32_t pid, GateDone done) {
  if (!is_on()) {
    done(fail("units cannot be enforced: " + off_));
    return;
  }
  const auto start = std::make_shared<Start>(Start{.unit = unit,
                                                   .pid = pid,
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
    ask_about(start);  // again, when it is
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
  const auto answer = [this, start] {
    start->done(start->asked_all ? admit(*start) : start->asked_all);
  };
  if (looking_ && rule_for(start->unit) == nullptr) {
    waiting_.emplace_back(answer);
  } else {
    answer();
  }
}

Status UnitSource::admit(const Start& start) {
  const policy::UnitRule* rule = rule_for(start.unit);
  if (rule == nullptr) {
    return drop_ins_.exist(names_of(view_.aliases, start.unit))
               ? Status(fail("no [[unit]] of identity.toml matches " + start.unit +
                                 ", though it waits for one",
                             "'trirectl status' shows which entries match nothing"))
               : Status{};
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
    return here;
  }
  for (const UnitFacts& socket : start.sockets) {
    if (Status covered = check_socket(socket, *rule); !covered) {
      return covered;
    }
  }
  if (start.facts.most_descriptors > 0) {
    view_.facts[start.unit] = start.facts;
  }
  if (auto enrolled = enrol(path, *rule, kept_by(start, path, *rule)); !enrolled) {
    return enrolled;
  }
  const workload::Workload* workload = registry_.find_cgroup(path);
  if (workload == nullptr || workload->state != workload::State::enforced) {
    return fail(start.unit + " is not enforced" +
                (workload == nullptr ? "" : ": " + workload->reason));
  }
  return {};
}

/// The gate is in the network namespace that the unit's processes will be in.
Status UnitSource::check_network(const Start& start) {
  const std::uint64_t inode = workload::network_of_process(start.pid);
  bool there = !start.facts.private_network || inode != workload::own_network();
  if (!start.facts.network_namespace.empty()) {
    const auto declared = kernel::Netns::at(start.facts.network_namespace);
    there = declared && (*declared)->inode() == inode;
  }
  return there ? Status{}
               : fail(
                     "its gate is not in the network namespace that its settings name, so that "
                     "one cannot be enforced");
}

/// Cgroups of the unit's earlier runs whose sockets systemd has kept for this one: every socket
/// that was made there and that a process holds is held by PID 1, and there are no more of them
/// than what systemd says it keeps for the unit. A cgroup of which somebody else has a socket stays
/// in quarantine, and one that was in a network namespace that cannot be looked at any more.
std::vector<std::uint64_t> UnitSource::kept_by(const Start& start, const std::string& path,
                                               const policy::UnitRule& rule) {
  const auto node = former_.extract(path);
  const auto network = kernel::Netns::of_process(start.pid);
  if (node.empty() || !(node.mapped().labels == rule.labels) || !network) {
    return {};
  }
  std::set<std::uint64_t> unseen = node.mapped().networks;
  unseen.erase(workload::own_network());
  unseen.erase((*network)->inode());
  const std::set<std::uint32_t> at_init = sockets_of_process(1);
  std::vector<std::uint64_t> kept;
  for (const std::uint64_t cgroup : node.mapped().cgroups) {
    std::set<std::uint32_t> inodes = sockets_of_cgroup(cgroup);
    const Status entered = (*network)->within([&] { inodes.merge(sockets_of_cgroup(cgroup)); });
    if (entered && unseen.empty() && !inodes.empty() &&
        inodes.size() <= start.facts.stored_descriptors && std::ranges::includes(at_init, inodes)) {
      kept.push_back(cgroup);
    } else if (!inodes.empty()) {
      spdlog::warn(
          "{}: sockets of an earlier run may be held by others too, and stay in quarantine",
          start.unit);
    }
  }
  return kept;
}

/// Of a .socket unit that gives a service with this rule its listeners or connections: they are
/// judged by the cgroup that they were made in, which has to be enforced under the same labels.
Status UnitSource::check_socket(const UnitFacts& socket, const policy::UnitRule& rule) {
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
    return fail("its listeners are those of " + socket.id + ", which is no workload",
                "name it by the service that it starts in a [[unit]] entry");
  }
  if (workload->state != workload::State::enforced) {
    return fail("its listeners are those of " + socket.id +
                ", which is not enforced: " + workload->reason);
  }
  if (!(workload->own_labels == rule.labels)) {
    return fail("its listeners are those of " + socket.id +
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
                            " are not in its cgroup, so nobody can tell whose they are",
                        "systemd needs BPF on cgroups for that");
}

}  // namespace trireme::systemd
