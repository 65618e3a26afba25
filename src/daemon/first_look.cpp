// SPDX-License-Identifier: Apache-2.0
#include "first_look.hpp"

#include <netinet/in.h>
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

class Looking {
 public:
  Looking(const kernel::CgroupTree& tree, const config::Host& host, bool has_handshakes)
      : tree_(tree), host_(host), has_handshakes_(has_handshakes) {
    note_cgroups();
  }

  FirstLook run(std::chrono::milliseconds patience) {
    for (const workload::Workload& known : workload::recorded(tree_)) {
      recorded_.emplace(known.cgroup_path, known.own_labels);
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
    for (const auto& [protocol, sockets] : sockets_) {
      for (const policy::LiveConnection& live : policy::live_connections(sockets, {})) {
        add(live, protocol);
      }
    }
    for (auto& [key, connections] : connections_) {
      result_.connections.push_back(std::move(connections));
    }
    return std::move(result_);
  }

 private:
  void note_cgroups() {
    paths_ = tree_.all();
    for (const std::string& path : paths_) {
      if (docker::is_container_cgroup(path.substr(path.rfind('/') + 1)) && tree_.populated(path)) {
        container_cgroups_.push_back(path);
      }
      if (systemd::cgroup_of_unit(path) == path) {
        candidates_.units.push_back(path);
      }
    }
  }

  [[nodiscard]] workload::MatchUnit unit_matcher() const {
    if (host_.units.empty() || sd_booted() <= 0 ||
        workload::network_of_process(1) != workload::own_network()) {
      return [](const std::string&) { return std::nullopt; };
    }
    return
        [this, view = systemd::view_units(std::make_shared<const config::Host>(host_))](
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
      for (const auto* list : {&found->tcp, &found->udp}) {
        for (const kernel::InetSocket& socket : *list) {
          take(socket, inode);
        }
      }
    }
  }

  void take(const kernel::InetSocket& socket, std::uint64_t network) {
    const auto found = owners_.find(socket.cgroup_id);
    const std::size_t owner = found == owners_.end() ? 0 : found->second;
    // A connection without a cgroup has been closed by its process.
    if (socket.remote_port == 0 || socket.cgroup_id != 0) {
      sockets_[socket.protocol].push_back(live_socket(socket, network, owner));
    }
    if (socket.protocol == IPPROTO_UDP && socket.remote_port == 0) {
      datagram_owners_.insert_or_assign({network, socket.local, socket.local_port}, owner);
    }
  }

  /// The workload whose UDP socket there is not connected; null if there is none.
  [[nodiscard]] const Resident* datagram_server(std::uint64_t network,
                                                const policy::Address& address,
                                                std::uint16_t port) const {
    for (const policy::Address& local : policy::bound_addresses(address)) {
      const auto found = datagram_owners_.find({network, local, port});
      if (found != datagram_owners_.end()) {
        return found->second == 0 ? nullptr : &residents_[found->second - 1];
      }
    }
    return nullptr;
  }

  [[nodiscard]] const Resident* resident_of(const policy::LiveSocket* socket) const {
    return socket == nullptr || socket->owner == 0 ? nullptr : &residents_[socket->owner - 1];
  }

  /// False for a workload that would be new, or have other labels: it has not proved these to the
  /// other end of an open connection.
  [[nodiscard]] bool is_unchanged(const Resident* resident) const {
    const auto found = resident == nullptr ? recorded_.end() : recorded_.find(resident->key);
    return found != recorded_.end() && found->second == resident->labels.own();
  }

  void add(const policy::LiveConnection& live, std::uint8_t protocol) {
    const Resident* client = resident_of(live.client);
    const Resident* server = resident_of(live.server);
    if (protocol == IPPROTO_UDP && live.server == nullptr) {
      server = datagram_server(live.client->network, live.from_client.destination,
                               live.from_client.destination_port);
    }
    if (client == server || is_to_resolver(live)) {
      return;  // no workload, or one with itself: policy does not apply
    }
    FirstLook::Connections made;
    policy::SeenFlow& flow = made.flow;
    flow.from =
        end(client, live.from_client.source, is_beside(live, live.from_client.source, addresses_));
    flow.to = end(server, live.from_client.destination,
                  is_beside(live, live.from_client.destination, addresses_));
    flow.protocol = protocol;
    flow.port = live.from_client.destination_port;
    const bool is_whole = live.client != nullptr && live.server != nullptr;
    flow.is_local = is_whole && live.client->network == live.server->network;
    flow.is_unproved = is_whole && !flow.is_local &&
                       (!has_handshakes_ || (protocol == IPPROTO_TCP &&
                                             !(is_unchanged(client) && is_unchanged(server))));
    for (const Resident* resident : {client, server}) {
      if (resident != nullptr && !resident->blocked.empty()) {
        made.blocked = resident->name + " would be quarantined";
      }
    }
    const auto key = std::tuple(kind_of(flow, flow.from), kind_of(flow, flow.to), protocol,
                                flow.port, flow.is_local);
    const auto [known, is_new] = connections_.try_emplace(key, made);
    policy::SeenFlow& counted = known->second.flow;
    counted.count += is_new ? 0U : 1U;
    if (protocol == IPPROTO_TCP) {
      counted.client_ports.push_back(live.from_client.source_port);
    }
  }

  /// `is_here`: an unlabeled process there is @host to the other end.
  static policy::SeenEnd end(const Resident* resident, const policy::Address& address,
                             bool is_here) {
    policy::SeenEnd made;
    made.address = address;
    if (resident != nullptr) {
      made.labels = resident->labels;
      made.workload = resident->name;
      return made;
    }
    made.host = is_here;
    return made;
  }

  const kernel::CgroupTree& tree_;
  const config::Host& host_;
  const bool has_handshakes_;
  std::vector<std::string> paths_;
  std::vector<std::string> container_cgroups_;
  std::map<std::string, policy::LabelSet> recorded_;  // by cgroup: of workloads in force
  workload::Candidates candidates_;
  std::vector<Resident> residents_;
  std::unordered_map<std::uint64_t, std::size_t> owners_;  // by cgroup id
  std::map<std::uint64_t, std::shared_ptr<const kernel::Netns>> networks_;
  AddressesByNetwork addresses_;
  std::map<std::uint8_t, std::vector<policy::LiveSocket>> sockets_;  // by protocol
  std::map<std::tuple<std::uint64_t, policy::Address, std::uint16_t>, std::size_t> datagram_owners_;
  std::map<std::tuple<std::string, std::string, std::uint8_t, std::uint16_t, bool>,
           FirstLook::Connections>
      connections_;
  FirstLook result_;
};

}  // namespace

FirstLook look_at_host(const kernel::CgroupTree& tree, const config::Host& host,
                       bool has_handshakes, std::chrono::milliseconds patience) {
  return Looking(tree, host, has_handshakes).run(patience);
}

}  // namespace trireme::daemon
