// SPDX-License-Identifier: Apache-2.0
#include "survey.hpp"

#include <systemd/sd-daemon.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>

#include "sockets_here.hpp"
#include "trireme/docker/running.hpp"
#include "trireme/policy/live_ends.hpp"
#include "trireme/systemd/unit_rule.hpp"
#include "trireme/workload/candidates.hpp"
#include "trireme/workload/network.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::daemon {
namespace {

using policy::Resident;

constexpr std::chrono::milliseconds kSystemdPatience(3000);
constexpr std::size_t kDeepest = 24;  // levels of cgroups that are searched, as in the gate

class Surveying {
 public:
  Surveying(const kernel::CgroupTree& tree, const config::Host& host) : tree_(tree), host_(host) {
    walk("", 0);
  }

  Survey run(std::chrono::milliseconds patience) {
    for (const workload::Workload& known : workload::recorded(tree_)) {
      if (known.kind == workload::Kind::process) {
        candidates_.processes.push_back({known.name, known.cgroup_path, known.own_labels});
      }
    }
    add_containers(patience);
    residents_ = workload::residents(host_, candidates_, unit_matcher());
    for (const Resident& resident : residents_) {
      if (!resident.blocked.empty()) {
        result_.quarantined.push_back(resident.name + ": " + resident.blocked);
      }
    }
    result_.workloads = residents_.size();
    note_owners();
    read_sockets();
    for (const policy::LiveConnection& live : policy::live_connections(sockets_, {})) {
      add(live);
    }
    for (auto& [key, connections] : connections_) {
      result_.connections.push_back(std::move(connections));
    }
    return std::move(result_);
  }

 private:
  void walk(const std::string& path, std::size_t depth) {
    for (const std::string& name : tree_.children(path.empty() ? "/" : path)) {
      std::string child = path;
      child += "/" + name;
      if (docker::is_container_cgroup(name) && tree_.populated(child)) {
        container_cgroups_.push_back(child);
      }
      if (systemd::cgroup_of_unit(child) == child) {
        candidates_.units.push_back(child);
      }
      if (depth < kDeepest) {
        walk(child, depth + 1);
      }
      paths_.push_back(std::move(child));
    }
  }

  [[nodiscard]] workload::MatchUnit unit_matcher() const {
    if (host_.units.empty() || sd_booted() <= 0 ||
        workload::network_of_process(1) != workload::own_network()) {
      return [](const std::string&) { return std::nullopt; };
    }
    return
        [this,
         view = systemd::view_units(std::make_shared<const config::Host>(host_), kSystemdPatience)](
            const std::string& cgroup) -> std::optional<std::pair<std::string, policy::LabelSet>> {
          const auto unit = systemd::match_unit(host_, view, cgroup);
          return unit ? std::optional(std::pair(unit->name, unit->rule->labels)) : std::nullopt;
        };
  }

  void add_containers(std::chrono::milliseconds patience) {
    if (host_.docker.containers == config::DockerSettings::Containers::none ||
        container_cgroups_.empty()) {
      return;
    }
    auto running = docker::running_containers(host_.docker, container_cgroups_, patience);
    for (const docker::UnreportedContainer& container : running.unreported) {
      result_.quarantined.push_back(container.name + ": " + container.reason);
    }
    for (const docker::UnreportedContainer& container : running.left_alone) {
      result_.left_alone.push_back(container.name + ": " + container.reason);
    }
    for (docker::RunningContainer& container : running.reported) {
      auto network = kernel::Netns::of_process(container.pid);
      if (container.cgroup.empty() || !network) {
        result_.problems.push_back(
            "container " + container.name +
            ": its connections were not checked: it has no cgroup of its own in cgroup v2");
        continue;
      }
      const bool has_own = (*network)->inode() != workload::own_network();
      if (has_own) {
        networks_.emplace((*network)->inode(), *network);
      }
      candidates_.containers.push_back({.id = container.id,
                                        .name = container.name,
                                        .cgroup = container.cgroup,
                                        .has_own_network = has_own,
                                        .labels = std::move(container.labels),
                                        .image_labels = std::move(container.image_labels)});
    }
  }

  /// The owner of a cgroup's sockets: 0 for no workload, else the index of the resident plus 1.
  void note_owners() {
    std::map<std::string, std::size_t> by_cgroup;
    for (std::size_t i = 0; i < residents_.size(); ++i) {
      by_cgroup[residents_[i].key] = i + 1;
    }
    for (const std::string& path : paths_) {
      const auto id = tree_.id(path);
      for (std::string part = path; id && !part.empty(); part.resize(part.rfind('/'))) {
        if (const auto found = by_cgroup.find(part); found != by_cgroup.end()) {
          owners_[*id] = found->second;
          break;
        }
      }
    }
  }

  void read_sockets() {
    networks_.emplace(0, nullptr);
    for (const auto& [inode, network] : networks_) {
      auto found = sockets_in(network);
      if (!found) {
        result_.problems.push_back("Open connections were not all checked: " +
                                   found.error().text());
        continue;
      }
      addresses_[inode] = std::move(found->addresses);
      for (const kernel::InetSocket& socket : found->tcp) {
        const auto owner = owners_.find(socket.cgroup_id);
        // A connection without a cgroup has been closed by its process.
        if (socket.remote_port == 0 || socket.cgroup_id != 0) {
          sockets_.push_back(
              live_socket(socket, inode, owner == owners_.end() ? 0 : owner->second));
        }
      }
    }
  }

  [[nodiscard]] const Resident* resident_of(const policy::LiveSocket* socket) const {
    return socket == nullptr || socket->owner == 0 ? nullptr : &residents_[socket->owner - 1];
  }

  void add(const policy::LiveConnection& live) {
    const Resident* client = resident_of(live.client);
    const Resident* server = resident_of(live.server);
    if (client == server) {
      return;  // no workload, or one with itself
    }
    Survey::Connections made;
    policy::SeenFlow& flow = made.flow;
    const bool is_whole = live.client != nullptr && live.server != nullptr;
    const std::uint64_t network = (client != nullptr ? live.client : live.server)->network;
    const auto is_here = [&](const policy::Address& address) {
      return is_whole ? live.client->network == live.server->network
                      : address.is_loopback() || addresses_[network].contains(address);
    };
    flow.from = end(client, live.from_client.source, is_here(live.from_client.source));
    flow.to = end(server, live.from_client.destination, is_here(live.from_client.destination));
    flow.protocol = 6;
    flow.port = live.from_client.destination_port;
    for (const Resident* resident : {client, server}) {
      if (resident != nullptr && !resident->blocked.empty()) {
        made.blocked = resident->name + " would be quarantined";
      }
    }
    flow.client_ports.push_back(live.from_client.source_port);
    const auto key = std::tuple(flow.from.workload + "\n" + flow.from.text(),
                                flow.to.workload + "\n" + flow.to.text(), flow.port);
    const auto [known, is_new] = connections_.try_emplace(key, made);
    if (!is_new) {
      known->second.flow.count++;
      known->second.flow.client_ports.push_back(live.from_client.source_port);
    }
  }

  /// `is_here`: an unlabeled process there is @host to the other end.
  static policy::SeenEnd end(const Resident* resident, const policy::Address& address,
                             bool is_here) {
    policy::SeenEnd made;
    if (resident != nullptr) {
      made.labels = resident->labels;
      made.workload = resident->name;
      return made;
    }
    made.host = is_here;
    made.address = address;
    return made;
  }

  const kernel::CgroupTree& tree_;
  const config::Host& host_;
  std::vector<std::string> paths_;
  std::vector<std::string> container_cgroups_;
  workload::Candidates candidates_;
  std::vector<Resident> residents_;
  std::unordered_map<std::uint64_t, std::size_t> owners_;  // by cgroup id
  std::map<std::uint64_t, std::shared_ptr<const kernel::Netns>> networks_;
  std::map<std::uint64_t, std::set<policy::Address>> addresses_;  // by network namespace
  std::vector<policy::LiveSocket> sockets_;
  std::map<std::tuple<std::string, std::string, std::uint16_t>, Survey::Connections> connections_;
  Survey result_;
};

}  // namespace

Survey look_at_host(const kernel::CgroupTree& tree, const config::Host& host,
                    std::chrono::milliseconds patience) {
  return Surveying(tree, host).run(patience);
}

}  // namespace trireme::daemon
