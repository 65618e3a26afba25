// SPDX-License-Identifier: Apache-2.0
#include "traffic_count.hpp"

#include <algorithm>
#include <utility>

#include "connection_groups.hpp"
#include "sockets_here.hpp"

namespace trireme::daemon {

void TrafficBaseline::begin() {
  now_.clear();
}

void TrafficBaseline::note(std::uint64_t network, const kernel::InetSocket& socket) {
  now_[{network, socket.whole_cookie()}] = socket.bytes;
}

void TrafficBaseline::end(bool complete) {
  before_ = std::exchange(now_, {});
  has_before_ = complete;
}

std::uint64_t TrafficBaseline::moved(std::uint64_t network, std::uint64_t cookie) const {
  const auto now = now_.find({network, cookie});
  if (now == now_.end()) {
    return 0;
  }
  const auto before = before_.find({network, cookie});
  if (before == before_.end()) {
    return has_before_ ? now->second : 0;
  }
  return now->second - std::min(now->second, before->second);
}

void TrafficCounter::add(std::uint64_t network, const std::vector<kernel::InetSocket>& tcp,
                         std::set<policy::Address> addresses, std::optional<policy::Number> whole) {
  addresses_[network] = std::move(addresses);
  for (const kernel::InetSocket& socket : tcp) {
    if (sockets_.size() >= kMostSockets) {
      is_complete_ = false;
      return;
    }
    const bool listens = socket.remote_port == 0;
    if (!listens) {
      baseline_.note(network, socket);
    }
    auto number = owner_of_(socket.cgroup_id);
    if (whole && number.value_or(abi::kHost) == abi::kHost) {
      number = whole;
    }
    if (listens || number) {
      sockets_.push_back(live_socket(socket, network, owners_.size()));
      owners_.push_back({number.value_or(abi::kHost), socket.whole_cookie()});
    }
  }
}

std::vector<TrafficGroup> TrafficCounter::groups() {
  for (const policy::LiveConnection& live : policy::live_connections(sockets_, {})) {
    count(live);
  }
  std::vector<TrafficGroup> found;
  found.reserve(groups_.size());
  for (const auto& [ends, sum] : groups_) {
    const auto& [from, to, network] = ends;
    found.push_back({.from = from,
                     .to = to,
                     .network = network,
                     .connections = sum.connections,
                     .bytes = sum.bytes});
  }
  return found;
}

/// True if its process has closed the other end, which was in the same network namespace.
bool TrafficCounter::is_closing(const policy::LiveConnection& live) const {
  if (live.client != nullptr && live.server != nullptr) {
    return false;
  }
  const policy::LiveSocket& known = live.server != nullptr ? *live.server : *live.client;
  const auto own = addresses_.find(known.network);
  return known.sends.destination.is_loopback() ||
         (own != addresses_.end() && own->second.contains(known.sends.destination));
}

void TrafficCounter::count(policy::LiveConnection live) {
  if (is_to_resolver(live) || is_closing(live)) {
    return;
  }
  const bool is_whole = live.client != nullptr && live.server != nullptr;
  const policy::LiveSocket& known = live.server != nullptr ? *live.server : *live.client;
  const std::uint64_t network = known.network;
  const bool is_local = is_whole && live.client->network == live.server->network;
  std::optional<policy::Number> proved;
  if (const auto flow = is_whole ? std::nullopt : proved_by_(known)) {
    // The handshake knows which end began the connection.
    const bool is_client = flow->key.role == handshake::Role::client;
    if (live.is_guess && is_client != (live.client != nullptr)) {
      std::swap(live.client, live.server);
      live.from_client = live.from_client.reversed();
    }
    proved = flow->remote;
  }
  const TrafficEnd from = end_of(live.client, live.from_client.source, is_local, proved);
  const TrafficEnd to = end_of(live.server, live.from_client.destination, is_local, proved);
  if (!(is_workload(from.number) || is_workload(to.number)) || from.number == to.number ||
      abi::is_blocked(from.number) || abi::is_blocked(to.number)) {
    return;
  }
  auto place = groups_.find({from, to, network});
  if (place == groups_.end()) {
    if (groups_.size() >= kMostGroups) {
      is_complete_ = false;
      return;
    }
    place = groups_.emplace(Ends(from, to, network), Count()).first;
  }
  place->second.connections++;
  place->second.bytes += moved(live);
}

/// `socket` is null if the end is elsewhere; `proved`: what that end has proved.
TrafficEnd TrafficCounter::end_of(const policy::LiveSocket* socket, const policy::Address& address,
                                  bool is_local, std::optional<policy::Number> proved) const {
  TrafficEnd end{.number = abi::kNoNumber, .address = address};
  if (socket == nullptr) {
    end.number = proved.value_or(abi::kNoNumber);
  } else {
    end.number = owners_[socket->owner].number;
    if (end.number == abi::kHost && !is_local) {
      end.number = abi::kNoNumber;  // from another network namespace it is the world's
    }
  }
  if (is_workload(end.number) || end.number == abi::kHost) {
    end.address = {};  // does not tell ends apart
  }
  return end;
}

/// Each end counts both directions, so one of them is enough.
std::uint64_t TrafficCounter::moved(const policy::LiveConnection& live) const {
  const policy::LiveSocket& counted = live.client != nullptr ? *live.client : *live.server;
  return baseline_.moved(counted.network, owners_[counted.owner].cookie);
}

}  // namespace trireme::daemon
