// SPDX-License-Identifier: Apache-2.0
#include "traffic_count.hpp"

#include <algorithm>
#include <utility>

#include "connection_groups.hpp"
#include "sockets_here.hpp"

namespace trireme::daemon {

void TrafficBaseline::begin(const std::set<std::uint64_t>& networks) {
  std::erase_if(networks_, [&](const auto& each) { return !networks.contains(each.first); });
  for (auto& [inode, network] : networks_) {
    network.before = std::exchange(network.now, {});
  }
}

void TrafficBaseline::note(std::uint64_t network, const kernel::InetSocket& socket) {
  if (socket.bytes) {
    networks_[network].now.bytes[socket.whole_cookie()] = *socket.bytes;
  }
}

void TrafficBaseline::complete(std::uint64_t network) {
  networks_[network].now.is_complete = true;
}

std::uint64_t TrafficBaseline::moved(std::uint64_t network, std::uint64_t cookie) const {
  const auto there = networks_.find(network);
  if (there == networks_.end()) {
    return 0;
  }
  const auto& [before, now] = there->second;
  const auto last = now.bytes.find(cookie);
  if (last == now.bytes.end()) {
    return 0;
  }
  const auto first = before.bytes.find(cookie);
  if (first == before.bytes.end()) {
    return before.is_complete ? last->second : 0;
  }
  return last->second - std::min(last->second, first->second);
}

/// Returns false if the socket's bytes are not known.
bool TrafficCounter::note(std::uint64_t network, const kernel::InetSocket& socket) {
  if (!socket.bytes || noted_ >= kMostNoted) {
    return false;
  }
  ++noted_;
  baseline_.note(network, socket);
  return true;
}

bool TrafficCounter::has_room_of(policy::Number number) {
  const bool has_room = sockets_.size() < kMostSockets && ++sockets_of_[number] <= kMostSockets / 2;
  is_complete_ = is_complete_ && has_room;
  return has_room;
}

void TrafficCounter::add(std::uint64_t network, const std::vector<kernel::InetSocket>& tcp,
                         std::set<policy::Address> addresses, std::optional<policy::Number> whole) {
  addresses_[network] = std::move(addresses);
  bool is_noted = true;
  for (const kernel::InetSocket& socket : tcp) {
    // Sockets that are not counted are noted too: the next reading may know their owner, and they
    // are no new connections then.
    const bool listens = socket.remote_port == 0;
    const bool has_bytes = listens || note(network, socket);
    is_noted = is_noted && has_bytes;
    auto number = owner_of_(socket.cgroup_id);
    if (whole && number.value_or(abi::kHost) == abi::kHost) {
      number = whole;
    }
    if ((listens || number) && has_room_of(number.value_or(abi::kHost))) {
      sockets_.push_back(live_socket(socket, network, owners_.size()));
      owners_.push_back({number.value_or(abi::kHost), socket.whole_cookie(), has_bytes});
    }
  }
  if (is_noted) {
    baseline_.complete(network);
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
  if (const auto proof = is_whole ? std::nullopt : proved_by_(known)) {
    // The handshake knows which end began the connection.
    if (live.is_guess && proof->is_client != (live.client != nullptr)) {
      std::swap(live.client, live.server);
      live.from_client = live.from_client.reversed();
    }
    if (proof->is_near && live.client != nullptr) {
      return;  // NAT separates the ends; the server's counts for both
    }
    proved = proof->remote;
  }
  const TrafficEnd from = end_of(live.client, live.from_client.source, is_local, proved);
  const TrafficEnd to = end_of(live.server, live.from_client.destination, is_local, proved);
  if (!(is_workload(from.number) || is_workload(to.number)) || from.number == to.number ||
      abi::is_blocked(from.number) || abi::is_blocked(to.number)) {
    return;
  }
  const auto place = group_of(from, to, network);
  if (place == groups_.end()) {
    is_complete_ = false;
    return;
  }
  place->second.connections++;
  if (const auto bytes = moved(live)) {
    place->second.bytes = place->second.bytes.value_or(0) + *bytes;
  }
}

/// The end of the list if there is no room for another group.
TrafficCounter::Groups::iterator TrafficCounter::group_of(TrafficEnd from, TrafficEnd to,
                                                          std::uint64_t network) {
  if (const auto known = groups_.find({from, to, network}); known != groups_.end()) {
    return known;
  }
  limit_address(from, to.number, false);
  limit_address(to, from.number, true);
  if (const auto known = groups_.find({from, to, network}); known != groups_.end()) {
    return known;
  }
  return groups_.size() >= kMostGroups ? groups_.end()
                                       : groups_.emplace(Ends(from, to, network), Count()).first;
}

/// Removes the address of the end if `workload`, the other end, has no room for one more.
/// `begins`: it began the connection.
void TrafficCounter::limit_address(TrafficEnd& end, policy::Number workload, bool begins) {
  if (end.address == policy::Address{}) {
    return;
  }
  std::size_t& count = addresses_of_[{workload, begins}];
  if (count >= kMostAddresses || groups_.size() >= kMostGroups / 2) {
    end.address = {};
  } else {
    ++count;
  }
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
std::optional<std::uint64_t> TrafficCounter::moved(const policy::LiveConnection& live) const {
  const policy::LiveSocket& counted = live.client != nullptr ? *live.client : *live.server;
  const Owner& owner = owners_[counted.owner];
  return owner.has_bytes ? std::optional(baseline_.moved(counted.network, owner.cookie))
                         : std::nullopt;
}

}  // namespace trireme::daemon
