// SPDX-License-Identifier: Apache-2.0
#include "connections.hpp"

#include <netinet/in.h>

#include <array>
#include <map>
#include <set>
#include <tuple>

#include "connection_groups.hpp"
#include "socket_owners.hpp"
#include "sockets_here.hpp"
#include "trireme/abi/flow_label.hpp"
#include "trireme/handshake/proved_flows.hpp"
#include "trireme/policy/live_ends.hpp"

namespace trireme::daemon {
namespace {

using abi::FlowLabel;
using policy::Number;

policy::Direction direction(const kernel::FlowTuple& tuple) {
  return {tuple.source, tuple.destination, tuple.source_port, tuple.destination_port};
}

using Owner = SocketOwners::Owner;

class Reading {
 public:
  Reading(Daemon& daemon, Scope scope, enforcer::LocalPolicy::Owners numbers)
      : daemon_(daemon),
        owners_(daemon.tree(), std::move(numbers), scope == Scope::everything),
        groups_(daemon, scope) {}

  Status read(points::Point& point) {
    const std::uint64_t network = inode_of(point.network());
    points_[network] = &point;
    auto sockets = sockets_in(point.network());
    if (!sockets) {
      return tl::unexpected(sockets.error());
    }
    take_sockets(*sockets, network);
    return point.enforcer().each_flow([&](const kernel::TrackedFlow& flow) {
      if (!flow.ended) {
        flows_.push_back({flow, &point, false});
      }
    });
  }

  /// A network namespace of containers that are no workloads.
  Status read(const std::shared_ptr<const kernel::Netns>& network) {
    auto sockets = sockets_in(network);
    if (sockets) {
      take_sockets(*sockets, inode_of(network));
    }
    return sockets ? Status{} : Status(tl::unexpected(sockets.error()));
  }

  Connections result() {
    std::vector<policy::LiveTrack> tracks;
    std::vector<std::size_t> flow_of_track;
    for (std::size_t i = 0; i < flows_.size(); ++i) {
      const kernel::TrackedFlow& flow = flows_[i].flow;
      if (flow.protocol == IPPROTO_TCP) {
        tracks.push_back({inode_of(flows_[i].point->network()), direction(flow.original),
                          direction(flow.reply),
                          (FlowLabel{flow.label}.flags() & abi::kResumed) == 0});
        flow_of_track.push_back(i);
      }
    }
    for (const policy::LiveConnection& live : policy::live_connections(sockets_, tracks)) {
      take(live, flow_of_track);
    }
    for (const Tracked& tracked : flows_) {
      if (!tracked.is_taken) {
        take(tracked);
      }
    }
    return groups_.result();
  }

 private:
  struct Tracked {
    kernel::TrackedFlow flow;
    points::Point* point = nullptr;
    bool is_taken = false;  // its connection was found by sockets
  };

  void take_sockets(const SocketsHere& found, std::uint64_t network) {
    addresses_[network] = found.addresses;
    for (const kernel::InetSocket& socket : found.tcp) {
      const bool listens = socket.remote_port == 0;
      const auto owner = owners_.find(socket.cgroup_id);
      if (listens || owner) {
        sockets_.push_back(live_socket(socket, network, owner.value_or(0)));
      }
    }
    owners_.note_datagram_sockets(found.udp, network);
  }

  // --- connections found by sockets ---

  void take(policy::LiveConnection live, const std::vector<std::size_t>& flow_of_track) {
    if (is_to_resolver(live)) {
      return;
    }
    const bool is_whole = live.client != nullptr && live.server != nullptr;
    const policy::LiveSocket& known = live.server != nullptr ? *live.server : *live.client;
    if (!is_whole && (known.sends.destination.is_loopback() ||
                      addresses_[known.network].contains(known.sends.destination))) {
      return;  // its process has closed the other end: conntrack may still know it
    }
    std::array<const Tracked*, 2> tracked{};
    for (std::size_t i = 0; i < 2; ++i) {
      if (const auto track = i == 0 ? live.client_track : live.server_track) {
        Tracked& flow = flows_[flow_of_track[*track]];
        flow.is_taken = true;
        tracked.at(i) = &flow;
      }
    }
    const Tracked* track = tracked[0] != nullptr ? tracked[0] : tracked[1];
    const bool client_began =
        track == nullptr ||
        (tracked[0] != nullptr ? direction(track->flow.original) == live.client->sends
                               : direction(track->flow.reply) == live.server->sends);
    std::optional<Number> client_number = labeled_number(track, client_began);
    std::optional<Number> server_number = labeled_number(track, !client_began);
    if (const auto proved = is_whole ? std::nullopt : proved_flow(known)) {
      // Conntrack may have forgotten what was proved when the connection began.
      const bool is_client = proved->key.role == handshake::Role::client;
      if (live.is_guess && is_client != (live.client != nullptr)) {
        std::swap(live.client, live.server);
        live.from_client = live.from_client.reversed();
      }
      live.is_guess = false;
      (live.client != nullptr ? server_number : client_number) = proved->remote;
    }
    ConnectionKind kind;
    kind.protocol = IPPROTO_TCP;
    kind.port = live.from_client.destination_port;
    kind.is_guess = live.is_guess;
    kind.is_local = is_whole && live.client->network == live.server->network;
    kind.from = end_of(live.client, live.from_client.source, kind.is_local, client_number);
    kind.to = end_of(live.server, live.from_client.destination, kind.is_local, server_number);
    kind.from.has_token = has_token(kind.from.number, tracked[0]);
    kind.to.has_token = has_token(kind.to.number, tracked[1]);
    // With NAT, each end knows the other by another address than this connection has here.
    kind.is_unproved = is_whole && !kind.is_local && is_workload(kind.from.number) &&
                       is_workload(kind.to.number) && live.client->sends == live.from_client &&
                       !(has_proof(*live.client, kind.from.number, tracked[0]) &&
                         has_proof(*live.server, kind.to.number, tracked[1]));
    groups_.add(std::move(kind), point_of(known.network).enforcer(), live.from_client.source_port);
  }

  /// SeenEnd::has_token. `track`: the conntrack entry of the end's own network namespace.
  static bool has_token(Number own, const Tracked* track) {
    return is_workload(own) && track != nullptr &&
           (FlowLabel{track->flow.label}.flags() & abi::kToken) != 0;
  }

  /// Whether the other end of the connection has proved labels to the workload `own`, whose socket
  /// this is, as long as it has had this number.
  [[nodiscard]] bool has_proof(const policy::LiveSocket& socket, Number own,
                               const Tracked* track) const {
    if (const auto proved = proved_flow(socket)) {
      return proved->local == own;
    }
    const FlowLabel label{track == nullptr ? std::array<std::uint32_t, 4>() : track->flow.label};
    const Number source = label.source().value_or(abi::kNoNumber);
    const Number destination = label.destination().value_or(abi::kNoNumber);
    return (label.flags() & abi::kToken) != 0 && is_workload(source) && is_workload(destination) &&
           (source == own || destination == own);
  }

  /// What the remote end of the connection has proved.
  [[nodiscard]] std::optional<handshake::ProvedFlow> proved_flow(
      const policy::LiveSocket& socket) const {
    const policy::Direction& sends = socket.sends;
    for (const handshake::Role role : {handshake::Role::client, handshake::Role::server}) {
      if (auto proved = daemon_.tokens().proved().connections.find(
              {sends.source, sends.destination, sends.source_port, sends.destination_port,
               point_of(socket.network).id(), role})) {
        return proved;
      }
    }
    return std::nullopt;
  }

  /// `socket` is null if the end is elsewhere. `labeled`: its number in the conntrack entry.
  ConnectionEnd end_of(const policy::LiveSocket* socket, const policy::Address& address,
                       bool is_local, std::optional<Number> labeled) const {
    ConnectionEnd end{.number = abi::kNoNumber, .address = address, .cgroup = {}};
    if (socket == nullptr) {
      end.number = labeled && is_workload(*labeled) ? *labeled : abi::kNoNumber;
      return end;
    }
    const Owner& owner = owners_[socket->owner];
    end.number = owner.number;
    end.cgroup = owner.cgroup;
    if (end.number == abi::kHost) {
      // A container without a cgroup of its own is known by its network namespace alone.
      const workload::Workload* workload =
          labeled ? daemon_.registry().find_number(*labeled) : nullptr;
      if (workload != nullptr && workload->cgroup_path.empty() && socket->network != 0) {
        end.number = *labeled;
      } else if (!is_local) {
        end.number = abi::kNoNumber;  // from another network namespace it is the world's
      }
    }
    return end;
  }

  /// The number of the end that sends in the original direction, or of the other one, in the label
  /// of the conntrack entry, if that has a verdict.
  static std::optional<Number> labeled_number(const Tracked* track, bool is_original) {
    const FlowLabel label{track == nullptr ? std::array<std::uint32_t, 4>() : track->flow.label};
    if ((label.flags() & (abi::kAuthorized | abi::kAudited)) == 0) {
      return std::nullopt;
    }
    return is_original ? label.source() : label.destination();
  }

  /// The point of a network namespace; the host's if there is none.
  [[nodiscard]] const points::Point& point_of(std::uint64_t network) const {
    const auto found = points_.find(network);
    return *(found == points_.end() ? points_.begin() : found)->second;
  }

  // --- flows that only conntrack shows ---

  /// True if conntrack has the connection in the wrong direction: if it forgets a connection and
  /// then sees a reply first, it takes the server for the client. The ports are the only hint,
  /// since clients usually have the higher one.
  static bool is_turned(const kernel::TrackedFlow& flow, const FlowLabel& label) {
    return (label.flags() & abi::kResumed) != 0 &&
           flow.original.source_port < flow.reply.source_port;
  }

  void take(const Tracked& tracked) {
    kernel::TrackedFlow flow = tracked.flow;
    const FlowLabel label{flow.label};
    const bool turned = is_turned(flow, label);
    auto source = (turned ? label.destination() : label.source()).value_or(abi::kNoNumber);
    auto destination = (turned ? label.source() : label.destination()).value_or(abi::kNoNumber);
    if (turned) {
      std::swap(flow.original, flow.reply);
    }
    if (is_to_resolver(inode_of(tracked.point->network()), flow.original.destination)) {
      return;
    }
    const bool passes = (label.flags() & (abi::kAuthorized | abi::kAudited)) != 0;
    const bool has_ends = is_workload(source) || is_workload(destination);
    if ((label.flags() & abi::kAudited) != 0 && source == abi::kNoNumber &&
        destination == abi::kNoNumber) {
      groups_.add_unknown();
      return;
    }
    if (flow.protocol != IPPROTO_UDP && !(passes && has_ends)) {
      return;
    }
    ConnectionKind kind;
    kind.protocol = flow.protocol;
    kind.port = flow.reply.source_port;
    kind.is_guess = (label.flags() & abi::kResumed) != 0;
    kind.from = {source, flow.original.source, {}};
    kind.to = {destination, flow.reply.source, {}};
    if (flow.protocol == IPPROTO_UDP) {
      add_datagram_owners(kind, flow, inode_of(tracked.point->network()), passes && has_ends);
    }
    if (passes && has_ends) {
      kind.verdict =
          (label.flags() & abi::kAudited) != 0 ? policy::Verdict::audit : policy::Verdict::allow;
      kind.is_local = source != abi::kNoNumber && destination != abi::kNoNumber &&
                      (label.flags() & abi::kToken) == 0;
      // A connection between two enforcement points is in the tables of both: count it once.
      if ((label.flags() & abi::kToken) != 0 &&
          !between_points_
               .emplace(flow.original.source, flow.reply.source, flow.original.source_port,
                        flow.reply.source_port)
               .second) {
        return;
      }
    } else if (is_workload(kind.from.number) || is_workload(kind.to.number)) {
      return;  // has not been evaluated yet: its next datagram is
    }
    groups_.add(std::move(kind), tracked.point->enforcer(), std::nullopt);
  }

  /// Completes the ends with the owners of their sockets. `labeled`: the numbers are known.
  void add_datagram_owners(ConnectionKind& kind, const kernel::TrackedFlow& flow,
                           std::uint64_t network, bool labeled) const {
    const Owner* from =
        owners_.of_datagrams(network, flow.original.source, flow.original.source_port);
    const Owner* to = owners_.of_datagrams(network, flow.reply.source, flow.reply.source_port);
    const bool is_local = from != nullptr && to != nullptr;
    for (const auto& [end, owner] : {std::pair(&kind.from, from), std::pair(&kind.to, to)}) {
      if (owner == nullptr) {
        continue;
      }
      if (!labeled) {
        end->number = is_workload(owner->number) ? owner->number
                      : is_local                 ? abi::kHost
                                                 : abi::kNoNumber;
      }
      if (!is_workload(end->number)) {
        end->cgroup = owner->cgroup;
      }
    }
    kind.is_local = kind.is_local || (!labeled && is_local);
  }

  Daemon& daemon_;
  SocketOwners owners_;
  ConnectionGroups groups_;
  std::map<std::uint64_t, points::Point*> points_;  // by network namespace, the host's first
  AddressesByNetwork addresses_;
  std::vector<policy::LiveSocket> sockets_;
  std::vector<Tracked> flows_;
  std::set<std::tuple<policy::Address, policy::Address, std::uint16_t, std::uint16_t>>
      between_points_;
};

}  // namespace

Result<Connections> connections(Daemon& daemon, Scope scope) {
  auto owners = daemon.local().owners();
  if (!owners) {
    return tl::unexpected(owners.error());
  }
  const ReadingTime budget;
  Reading reading(daemon, scope, std::move(*owners));
  std::set<std::uint64_t> networks;
  std::size_t unread = 0;
  for (points::Point* point : daemon.enforcement().all()) {
    networks.insert(inode_of(point->network()));
    if (budget.is_over() && point->network() != nullptr) {
      unread++;
      continue;
    }
    if (Status read = reading.read(*point); !read) {
      return tl::unexpected(read.error());
    }
  }
  if (scope == Scope::everything) {
    for (const docker::KnownContainer& container : daemon.docker().known()) {
      if (!container.network || !networks.insert(container.network->inode()).second) {
        continue;
      }
      if (budget.is_over()) {
        unread++;
        continue;
      }
      std::ignore = reading.read(container.network);  // its container may be ending
    }
  }
  Connections found = reading.result();
  found.unread = unread;
  found.complete = found.complete && unread == 0;
  return found;
}

}  // namespace trireme::daemon
