// SPDX-License-Identifier: Apache-2.0
// The method `survey`: whose sockets exist on this host.
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <set>
#include <string_view>
#include <unordered_map>

#include "daemon.hpp"
#include "trireme/control/flow.hpp"
#include "trireme/docker/running.hpp"
#include "trireme/policy/explain.hpp"
#include "trireme/systemd/unit_rule.hpp"
#include "trireme/workload/network.hpp"
#include "unmanaged.hpp"

namespace trireme::daemon {
namespace {

using nlohmann::json;
using OwnerKind = SocketOwner::Kind;

/// Units that cannot or must not be workloads: their sockets belong to containers or to trireme.
constexpr std::array<std::string_view, 4> kNoCandidates = {"trireme.service", "docker.service",
                                                           "containerd.service", "podman.service"};

/// Threads of a unit or container whose network namespace is looked at.
constexpr std::size_t kThreads = 256;

policy::LabelSet labels_of(std::initializer_list<std::pair<const char*, std::string>> items) {
  policy::LabelSet labels;
  for (const auto& [key, value] : items) {
    std::ignore = labels.set(key, label_value(value));  // every label_value() is valid
  }
  return labels;
}

class Collecting {
 public:
  explicit Collecting(Daemon& daemon) : daemon_(daemon) {
    for (docker::KnownContainer& container : daemon.docker().known()) {
      containers_.emplace(container.id, std::move(container));
    }
    note_owners();
  }

  Result<std::vector<OwnedSocket>> sockets() {
    if (Status here = read_network(nullptr); !here) {
      return tl::unexpected(here.error());
    }
    for (const auto& [inode, network] : networks_) {
      if (time_.is_over()) {
        unseen_.unread++;
        continue;
      }
      if (Status there = read_network(network); !there) {
        notes_.insert("the sockets of a network namespace were not listed: " +
                      there.error().message);
      }
    }
    return std::move(sockets_);
  }

  [[nodiscard]] const AddressesByNetwork& addresses() const { return addresses_; }

  json notes() {
    using Containers = config::DockerSettings::Containers;
    const Containers containers = daemon_.settings().host()->docker.containers;
    if (has_containers_ && containers == Containers::none) {
      notes_.insert(
          "no container is a workload: set containers = \"labeled\" or \"all\" in [docker] of "
          "identity.toml");
    } else if (has_containers_ && containers == Containers::host_network) {
      notes_.insert(
          "only containers with --net=host are workloads: containers = \"host-network\" is set in "
          "[docker] of identity.toml");
    }
    if (has_compose_) {
      notes_.insert(
          "for all compose services at once, without labels in compose files: label_from = { app = "
          "\"com.docker.compose.project\", tier = \"com.docker.compose.service\" } in [docker] of "
          "identity.toml");
    }
    unseen_.unopened = unopened_.size();
    for (std::string& note : notes_on(unseen_)) {
      notes_.insert(std::move(note));
    }
    return notes_;
  }

 private:
  /// Assigns each cgroup to its owner: its own, or that of its parent.
  void note_owners() {
    std::unordered_map<std::string, SocketOwner> by_path;
    for (const std::string& path : daemon_.tree().all()) {
      const std::size_t slash = path.rfind('/');
      const auto own = owner_of(path, path.substr(slash + 1));
      const SocketOwner owner = own.value_or(by_path[path.substr(0, slash)]);
      if (const auto id = daemon_.tree().id(path)) {
        owners_.emplace(*id, owner);
      }
      if (own) {
        note_networks(path);
      }
      by_path.emplace(path, owner);
    }
  }

  /// nullopt: it has no owner of its own.
  std::optional<SocketOwner> owner_of(const std::string& path, const std::string& name) {
    const workload::Workload* workload = daemon_.registry().find_cgroup(path);
    if (workload != nullptr) {
      return SocketOwner{
          .kind = OwnerKind::workload, .name = workload->name, .labels = workload->labels};
    }
    if (const std::string id = docker::container_id(name); !id.empty()) {
      has_containers_ = true;
      return container_owner(id);
    }
    const std::string unit = systemd::enclosing_unit(path);
    if (unit.empty() || !path.ends_with(unit) || path.starts_with("/user.slice/") ||
        std::ranges::find(kNoCandidates, unit) != kNoCandidates.end()) {
      return std::nullopt;
    }
    // The .socket of a matched service becomes a workload with it.
    const std::string stem = systemd::plain_name(unit);
    return SocketOwner{
        .kind = OwnerKind::unit,
        .name = unit.ends_with(".socket") ? unit.substr(0, unit.rfind('.')) + ".service" : unit,
        .labels = labels_of({{"app", stem}})};
  }

  SocketOwner container_owner(const std::string& id) {
    const auto known = containers_.find(id);
    if (known == containers_.end()) {
      const std::string name = id.substr(0, 12);
      return {.kind = OwnerKind::container, .name = name, .labels = labels_of({{"app", name}})};
    }
    const docker::KnownContainer& container = known->second;
    const config::RawLabels labels = container.labels.value_or(config::RawLabels());
    const auto label = [&labels](const char* key) {
      const auto found = labels.find(key);
      return found == labels.end() ? std::string() : found->second;
    };
    const std::string project = label("com.docker.compose.project");
    const std::string service = label("com.docker.compose.service");
    if (project.empty() || service.empty()) {
      return {.kind = OwnerKind::container,
              .name = container.name,
              .labels = labels_of({{"app", container.name}})};
    }
    has_compose_ = true;
    return {.kind = OwnerKind::compose,
            .name = project + "/" + service,
            .project = project,
            .service = service,
            .labels = labels_of({{"app", project}, {"tier", service}})};
  }

  /// The network namespaces, other than the daemon's, of the threads of the cgroup and of those
  /// below it.
  void note_networks(const std::string& path) {
    if (time_.is_over()) {
      unseen_.unsearched++;
      return;
    }
    std::size_t left = kThreads;
    for (const auto& [inode, thread] : workload::networks_of(daemon_.tree(), path, left)) {
      if (inode == own_network_ || networks_.contains(inode)) {
        continue;
      }
      if (auto network = workload::hold_network(thread, inode)) {
        networks_.emplace(inode, std::move(network));
        unopened_.erase(inode);
      } else {
        unopened_.insert(inode);
      }
    }
    unseen_.cut += left == 0 ? 1 : 0;
  }

  Status read_network(const std::shared_ptr<const kernel::Netns>& network) {
    auto found = sockets_in(network);
    if (!found) {
      return tl::unexpected(found.error());
    }
    const std::uint64_t inode = inode_of(network);
    addresses_[inode] = std::move(found->addresses);
    for (const auto* list : {&found->tcp, &found->udp}) {
      for (const kernel::InetSocket& socket : *list) {
        if (const auto owner = owners_.find(socket.cgroup_id); owner != owners_.end()) {
          sockets_.push_back({socket, inode, owner->second, found->ephemeral});
        }
      }
    }
    return {};
  }

  Daemon& daemon_;
  const ReadingTime time_;
  const std::uint64_t own_network_ = workload::own_network();
  std::map<std::string, docker::KnownContainer> containers_;  // by id
  std::map<std::uint64_t, SocketOwner> owners_;               // by id of the cgroup
  std::map<std::uint64_t, std::shared_ptr<const kernel::Netns>> networks_;
  std::set<std::uint64_t> unopened_;  // inodes of network namespaces that could not be opened
  AddressesByNetwork addresses_;
  std::vector<OwnedSocket> sockets_;
  std::set<std::string> notes_;
  Unseen unseen_;
  bool has_containers_ = false;
  bool has_compose_ = false;
};

json end_json(const policy::SeenEnd& end) {
  json object = json::object();
  if (end.labels) {
    control::put_labels(object, *end.labels);
    object["workload"] = end.workload;
  } else {
    object["entity"] = end.host ? "@host" : "@world";
  }
  if (end.address) {
    object["address"] = end.address->text();
  }
  return object;
}

json candidate_json(const Unmanaged::Candidate& candidate) {
  json object = {{"kind", candidate.owner.kind == OwnerKind::unit        ? "unit"
                          : candidate.owner.kind == OwnerKind::container ? "container"
                                                                         : "compose"},
                 {"name", candidate.owner.name},
                 {"listens", candidate.listens},
                 {"connects", candidate.connects},
                 {"lines", lines_for(candidate.owner)}};
  control::put_labels(object, candidate.owner.labels);
  return object;
}

}  // namespace

Result<json> survey_json(Daemon& daemon) {
  Collecting collecting(daemon);
  const auto sockets = collecting.sockets();
  if (!sockets) {
    return tl::unexpected(sockets.error());
  }
  const Unmanaged found =
      find_unmanaged(*sockets, collecting.addresses(), *daemon.settings().policy(),
                     daemon.tokens().verifier() != nullptr);
  json candidates = json::array();
  for (const Unmanaged::Candidate& candidate : found.candidates) {
    candidates.push_back(candidate_json(candidate));
  }
  json denied = json::array();
  for (const policy::SeenFlow& flow : found.denied) {
    const std::string port = policy::port_text(flow.protocol, flow.port);
    denied.push_back({{"count", flow.count},
                      {"source", end_json(flow.from)},
                      {"destination", end_json(flow.to)},
                      {"protocol", port.substr(0, port.find('/'))},
                      {"port", flow.port}});
  }
  return json{{"candidates", std::move(candidates)},
              {"connections", found.connections},
              {"denied", std::move(denied)},
              {"notes", collecting.notes()}};
}

}  // namespace trireme::daemon
