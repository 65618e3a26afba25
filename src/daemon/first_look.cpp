// SPDX-License-Identifier: Apache-2.0
#include "first_look.hpp"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "trireme/docker/running.hpp"
#include "trireme/kernel/sockets.hpp"
#include "trireme/systemd/unit_rule.hpp"
#include "trireme/workload/network.hpp"

namespace trireme::daemon {
namespace {

constexpr std::chrono::milliseconds kSystemdPatience(3000);
constexpr std::size_t kDeepest = 6;  // levels of cgroups that are searched

struct Candidate {
  std::string name;
  policy::LabelSet labels;
  std::string cgroup;
  std::shared_ptr<const kernel::Netns> network;  // null: this process's own
};

/// A connection as seen by one of its sockets. The first field is the inode of the network
/// namespace for loopback addresses, which exist in every namespace, and 0 for all others.
using Ends = std::tuple<std::uint64_t, std::uint8_t, policy::Address, std::uint16_t,
                        policy::Address, std::uint16_t>;

bool is_loopback_address(const policy::Address& address) {
  static const policy::Prefix four = policy::Prefix::parse("127.0.0.0/8").value();
  static const policy::Prefix six = policy::Prefix::parse("::1/128").value();
  return four.contains(address) || six.contains(address);
}

/// The addresses of the current network namespace.
std::set<policy::Address> addresses_here() {
  std::set<policy::Address> found;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) {
    return found;
  }
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    policy::Address address;
    if (entry->ifa_addr != nullptr && entry->ifa_addr->sa_family == AF_INET) {
      std::memcpy(address.bytes.data(),
                  &reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr, 4);
      found.insert(address);
    } else if (entry->ifa_addr != nullptr && entry->ifa_addr->sa_family == AF_INET6) {
      address.family = policy::Address::Family::v6;
      std::memcpy(address.bytes.data(),
                  &reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr)->sin6_addr, 16);
      found.insert(address);
    }
  }
  ::freeifaddrs(list);
  return found;
}

class Looking {
 public:
  Looking(const kernel::CgroupTree& tree, const config::Host& host) : tree_(tree), host_(host) {
    walk("", 0);
  }

  FirstLook run(std::chrono::milliseconds patience) {
    add_units();
    add_containers(patience);
    for (const Candidate& candidate : candidates_) {
      read_sockets(candidate);
    }
    for (const auto& [ends, owner] : connections_) {
      add_flow(ends, *owner);
    }
    result_.workloads = candidates_.size();
    for (auto& [key, flow] : flows_) {
      result_.flows.push_back(std::move(flow));
    }
    return std::move(result_);
  }

 private:
  void walk(const std::string& path, std::size_t depth) {
    for (const std::string& name : tree_.children(path.empty() ? "/" : path)) {
      std::string child = path;
      child += "/" + name;
      if (docker::is_container_cgroup(name) && tree_.populated(child)) {
        containers_.push_back(child);
      }
      if (depth < kDeepest) {
        walk(child, depth + 1);
      }
      paths_.push_back(std::move(child));
    }
  }

  void add(Candidate candidate) {
    if (Status added = candidate.labels.add_host_labels(host_.labels); !added) {
      result_.problems.push_back(candidate.name + ": " + added.error().text());
    }
    candidates_.push_back(std::move(candidate));
  }

  void add_units() {
    if (host_.units.empty() || sd_booted() <= 0 ||
        workload::network_of_process(1) != workload::own_network()) {
      return;
    }
    const systemd::Aliases aliases =
        systemd::view_units(std::make_shared<const config::Host>(host_), kSystemdPatience).aliases;
    for (const std::string& path : paths_) {
      if (const auto unit = systemd::match_unit(host_, aliases, path)) {
        add({unit->name, unit->rule->labels, path, nullptr});
      }
    }
  }

  void add_containers(std::chrono::milliseconds patience) {
    using Containers = config::DockerSettings::Containers;
    const config::DockerSettings& settings = host_.docker;
    if (settings.containers == Containers::none || containers_.empty()) {
      return;
    }
    const auto running = docker::running_containers(settings, containers_, patience);
    for (const docker::UnreportedContainer& container : running.unreported) {
      result_.quarantined.push_back(container.name + ": " + container.reason);
    }
    for (const docker::UnreportedContainer& container : running.left_alone) {
      result_.left_alone.push_back(container.name + ": " + container.reason);
    }
    for (const docker::RunningContainer& container : running.reported) {
      if (!container.labels) {
        result_.quarantined.push_back(container.name + ": " + container.labels.error().text());
        continue;
      }
      const bool elsewhere = workload::network_of_process(container.pid) != workload::own_network();
      if ((settings.containers == Containers::labeled && container.labels->empty()) ||
          (settings.containers == Containers::host_network && elsewhere)) {
        continue;
      }
      auto network = kernel::Netns::of_process(container.pid);
      if (container.cgroup.empty() || !network) {
        result_.problems.push_back(
            "container " + container.name +
            ": its connections were not checked: it has no cgroup of its own in cgroup v2");
        continue;
      }
      add({container.name, *container.labels, container.cgroup, elsewhere ? *network : nullptr});
    }
  }

  void read_sockets(const Candidate& candidate) {
    if (!candidate.network) {
      read_here(candidate);
    } else if (Status inside = candidate.network->within([&] { read_here(candidate); }); !inside) {
      result_.problems.push_back(candidate.name + ": " + inside.error().text());
    }
  }

  /// Called in the candidate's network namespace.
  void read_here(const Candidate& candidate) {
    auto table = kernel::SocketTable::open();
    if (!table) {
      result_.problems.push_back(candidate.name + ": " + table.error().text());
      return;
    }
    const std::uint64_t place = candidate.network ? candidate.network->inode() : 0;
    if (!addresses_.contains(place)) {
      addresses_[place] = addresses_here();
    }
    for (const std::string& path : paths_) {
      if (path != candidate.cgroup && !path.starts_with(candidate.cgroup + "/")) {
        continue;
      }
      const auto id = tree_.id(path);
      const auto sockets = id ? table->of_cgroup(*id) : tl::unexpected(id.error());
      for (const kernel::InetSocket& socket :
           sockets ? *sockets : std::vector<kernel::InetSocket>()) {
        take(socket, candidate, place);
      }
    }
  }

  void take(const kernel::InetSocket& socket, const Candidate& candidate, std::uint64_t place) {
    if (socket.remote_port == 0) {
      listeners_.insert({place, socket.protocol, socket.local_port});
      return;
    }
    connections_[ends_of(place, socket.protocol, socket.local, socket.local_port, socket.remote,
                         socket.remote_port)] = &candidate;
  }

  static Ends ends_of(std::uint64_t place, std::uint8_t protocol, const policy::Address& local,
                      std::uint16_t local_port, const policy::Address& remote,
                      std::uint16_t remote_port) {
    return {
        is_loopback_address(local) ? place : 0, protocol, local, local_port, remote, remote_port};
  }

  /// Adds a connection, seen from the socket of a candidate. If both endpoints are candidates, only
  /// the client's socket counts.
  void add_flow(const Ends& ends, const Candidate& owner) {
    const auto& [loopback_place, protocol, local, local_port, remote, remote_port] = ends;
    const std::uint64_t place = owner.network ? owner.network->inode() : 0;
    const bool is_server = listeners_.contains({place, protocol, local_port});
    const auto other =
        connections_.find({loopback_place, protocol, remote, remote_port, local, local_port});
    if (other != connections_.end() && (is_server || other->second == &owner)) {
      return;
    }
    const policy::SeenEnd own = end(owner);
    policy::SeenEnd peer;
    if (other != connections_.end()) {
      peer = end(*other->second);
    } else {
      peer.host = is_loopback_address(remote) || addresses_[place].contains(remote);
      peer.address = remote;
    }
    policy::SeenFlow flow;
    flow.from = is_server ? peer : own;
    flow.to = is_server ? own : peer;
    flow.protocol = protocol;
    flow.port = is_server ? local_port : remote_port;
    const auto key = std::tuple(flow.from.workload + "\n" + flow.from.text(),
                                flow.to.workload + "\n" + flow.to.text(), protocol, flow.port);
    const auto [known, is_new] = flows_.try_emplace(key, flow);
    known->second.count += is_new ? 0 : 1;
  }

  static policy::SeenEnd end(const Candidate& candidate) {
    policy::SeenEnd made;
    made.labels = candidate.labels;
    made.workload = candidate.name;
    return made;
  }

  const kernel::CgroupTree& tree_;
  const config::Host& host_;
  std::vector<std::string> paths_;
  std::vector<std::string> containers_;  // their cgroups
  std::vector<Candidate> candidates_;
  std::map<std::uint64_t, std::set<policy::Address>> addresses_;
  std::set<std::tuple<std::uint64_t, std::uint8_t, std::uint16_t>> listeners_;
  std::map<Ends, const Candidate*> connections_;
  std::map<std::tuple<std::string, std::string, std::uint8_t, std::uint16_t>, policy::SeenFlow>
      flows_;
  FirstLook result_;
};

}  // namespace

FirstLook look_at_host(const kernel::CgroupTree& tree, const config::Host& host,
                       std::chrono::milliseconds patience) {
  return Looking(tree, host).run(patience);
}

}  // namespace trireme::daemon
