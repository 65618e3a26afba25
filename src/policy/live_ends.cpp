// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/live_ends.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <tuple>

namespace trireme::policy {
namespace {

constexpr std::uint16_t kFirstClientPort =
    32768;  // Linux's default of net.ipv4.ip_local_port_range

/// True if only sockets of one network namespace can have this address.
bool is_confined(const Direction& direction) {
  return direction.source.is_loopback() || direction.destination.is_loopback();
}

class Pairing {
 public:
  Pairing(const std::vector<LiveSocket>& sockets, const std::vector<LiveTrack>& tracks)
      : sockets_(sockets), tracks_(tracks), is_paired_(sockets.size()) {
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      const LiveSocket& socket = sockets[i];
      if (socket.sends.destination_port == 0) {
        listeners_.insert({socket.network, socket.sends.source, socket.sends.source_port});
        continue;
      }
      here_.try_emplace({socket.network, socket.sends}, i);
      if (!is_confined(socket.sends)) {
        anywhere_[socket.sends].push_back(i);
      }
    }
    for (std::size_t i = 0; i < tracks.size(); ++i) {
      for (const Direction* way : {&tracks[i].original, &tracks[i].reply}) {
        tracks_here_.try_emplace({tracks[i].network, *way}, i);
        if (!is_confined(*way)) {
          tracks_anywhere_[*way].push_back(i);
        }
      }
    }
  }

  std::vector<LiveConnection> run() {
    std::vector<LiveConnection> found;
    for (std::size_t i = 0; i < sockets_.size(); ++i) {
      if (sockets_[i].sends.destination_port == 0 || is_paired_[i]) {
        continue;
      }
      is_paired_[i] = true;
      const std::optional<std::size_t> other = other_end(i);
      if (other) {
        is_paired_[*other] = true;
      }
      found.push_back(connection(i, other));
    }
    return found;
  }

 private:
  using Key = std::pair<std::uint64_t, Direction>;

  [[nodiscard]] std::optional<std::size_t> other_end(std::size_t socket) const {
    const LiveSocket& one = sockets_[socket];
    if (const auto near = in(one.network, one.sends.reversed(), socket)) {
      return near;
    }
    if (const auto track = track_of(one)) {
      // Another socket sends in the other direction of the same track.
      const LiveTrack& known = tracks_[*track];
      const Direction& other = known.original == one.sends ? known.reply : known.original;
      if (const auto translated = in(one.network, other, socket)) {
        return translated;
      }
    }
    for (const std::size_t track : tracks_anywhere(one.sends)) {
      const LiveTrack& known = tracks_[track];
      const Direction& other = known.original == one.sends ? known.reply : known.original;
      if (const auto far = only_one(other, one, socket)) {
        return far;
      }
    }
    return only_one(one.sends.reversed(), one, socket);
  }

  /// An unpaired socket of this network namespace that sends like this.
  [[nodiscard]] std::optional<std::size_t> in(std::uint64_t network, const Direction& sends,
                                              std::size_t except) const {
    const auto found = here_.find({network, sends});
    return found == here_.end() || found->second == except || is_paired_[found->second]
               ? std::nullopt
               : std::optional(found->second);
  }

  /// The only unpaired socket of all other network namespaces that sends like this.
  [[nodiscard]] std::optional<std::size_t> only_one(const Direction& sends, const LiveSocket& of,
                                                    std::size_t except) const {
    const auto found = anywhere_.find(sends);
    // A second socket that sends like `of` would have an equal claim.
    const auto rivals = anywhere_.find(of.sends);
    if (found == anywhere_.end() || found->second.size() != 1 || rivals == anywhere_.end() ||
        rivals->second.size() != 1) {
      return std::nullopt;
    }
    const std::size_t only = found->second.front();
    return only == except || is_paired_[only] ? std::nullopt : std::optional(only);
  }

  [[nodiscard]] std::optional<std::size_t> track_of(const LiveSocket& socket) const {
    const auto found = tracks_here_.find({socket.network, socket.sends});
    return found == tracks_here_.end() ? std::nullopt : std::optional(found->second);
  }

  [[nodiscard]] const std::vector<std::size_t>& tracks_anywhere(const Direction& sends) const {
    static const std::vector<std::size_t> none;
    const auto found = tracks_anywhere_.find(sends);
    return found == tracks_anywhere_.end() ? none : found->second;
  }

  [[nodiscard]] bool has_listener(const LiveSocket& socket) const {
    return std::ranges::any_of(bound_addresses(socket.sends.source), [&](const Address& address) {
      return listeners_.contains({socket.network, address, socket.sends.source_port});
    });
  }

  /// Whether the socket is the client's, as far as listeners and its track show.
  [[nodiscard]] std::optional<bool> is_client(std::size_t socket,
                                              std::optional<std::size_t> other) const {
    const LiveSocket& one = sockets_[socket];
    const bool listens_here = has_listener(one);
    const bool listens_there = other && has_listener(sockets_[*other]);
    if (listens_here != listens_there) {
      return listens_there;
    }
    const std::array<std::optional<std::size_t>, 2> ends = {socket, other};
    for (const auto& end : ends) {
      const auto track = end ? track_of(sockets_[*end]) : std::nullopt;
      if (track && tracks_[*track].is_from_start) {
        const bool is_its_client = tracks_[*track].original == sockets_[*end].sends;
        return end == ends.front() ? is_its_client : !is_its_client;
      }
    }
    return std::nullopt;
  }

  /// Clients usually have a port of the ephemeral range, or at least the higher one.
  static bool looks_like_client(const LiveSocket& socket) {
    const std::uint16_t own = socket.sends.source_port;
    const std::uint16_t peer = socket.sends.destination_port;
    const bool is_high = own >= kFirstClientPort;
    return is_high != (peer >= kFirstClientPort) ? is_high : own > peer;
  }

  [[nodiscard]] LiveConnection connection(std::size_t socket,
                                          std::optional<std::size_t> other) const {
    LiveConnection made;
    const std::optional<bool> known = is_client(socket, other);
    made.is_guess = !known;
    const bool client_first = known.value_or(looks_like_client(sockets_[socket]));
    const LiveSocket* one = &sockets_[socket];
    const LiveSocket* two = other ? &sockets_[*other] : nullptr;
    made.client = client_first ? one : two;
    made.server = client_first ? two : one;
    made.client_track = made.client == nullptr ? std::nullopt : track_of(*made.client);
    made.server_track = made.server == nullptr ? std::nullopt : track_of(*made.server);
    made.from_client = way_of(made);
    return made;
  }

  /// LiveConnection::from_client.
  [[nodiscard]] Direction way_of(const LiveConnection& made) const {
    if (made.server != nullptr && made.client != nullptr) {
      return made.server->sends.reversed();
    }
    const LiveSocket& end = made.server != nullptr ? *made.server : *made.client;
    const auto& track = made.server != nullptr ? made.server_track : made.client_track;
    Direction way = made.server != nullptr ? end.sends.reversed() : end.sends;
    if (track) {
      const LiveTrack& known = tracks_[*track];
      const bool sends_original = known.original == end.sends;
      const Direction& far = sends_original ? known.reply : known.original;
      // The remote end as it is elsewhere: behind the translation of its address.
      (made.server != nullptr ? way.source : way.destination) = far.source;
      (made.server != nullptr ? way.source_port : way.destination_port) = far.source_port;
    }
    return way;
  }

  const std::vector<LiveSocket>& sockets_;
  const std::vector<LiveTrack>& tracks_;
  std::vector<bool> is_paired_;
  std::map<Key, std::size_t> here_;
  std::map<Direction, std::vector<std::size_t>> anywhere_;
  std::map<Key, std::size_t> tracks_here_;
  std::map<Direction, std::vector<std::size_t>> tracks_anywhere_;
  std::set<std::tuple<std::uint64_t, Address, std::uint16_t>> listeners_;
};

}  // namespace

std::vector<LiveConnection> live_connections(const std::vector<LiveSocket>& sockets,
                                             const std::vector<LiveTrack>& tracks) {
  return Pairing(sockets, tracks).run();
}

}  // namespace trireme::policy
