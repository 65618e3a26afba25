// SPDX-License-Identifier: Apache-2.0
// Counts open TCP connections and their bytes by the workloads at their ends, from the sockets of
// network namespaces. Pure: knows neither the daemon nor the kernel.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "trireme/handshake/proved_flows.hpp"
#include "trireme/kernel/sockets.hpp"
#include "trireme/policy/live_ends.hpp"

namespace trireme::daemon {

/// One end of open connections.
struct TrafficEnd {
  policy::Number number = abi::kNoNumber;
  policy::Address address;  // only if it is not a workload
  auto operator<=>(const TrafficEnd&) const = default;
};

/// Open connections that have the same ends.
struct TrafficGroup {
  TrafficEnd from;
  TrafficEnd to;
  std::uint64_t network = 0;  // whose DNS names the addresses may have: as in LiveSocket
  std::uint64_t connections = 0;
  std::uint64_t bytes = 0;  // moved since the reading before
};

/// The bytes of each socket at the last reading, to count what has moved since.
class TrafficBaseline {
 public:
  /// Begins the next reading.
  void begin();
  void note(std::uint64_t network, const kernel::InetSocket& socket);
  /// Ends the reading. Only sockets that it has noted are remembered. `complete`: it has read every
  /// network namespace, so that a socket which the next one finds in addition is a new connection.
  void end(bool complete);
  /// Bytes that the socket has moved since the reading before. Of a connection that began since:
  /// all of them. 0 if that is not known.
  [[nodiscard]] std::uint64_t moved(std::uint64_t network, std::uint64_t cookie) const;

 private:
  struct Key {
    std::uint64_t network = 0;
    std::uint64_t cookie = 0;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const {
      return std::hash<std::uint64_t>()(key.cookie * 31 + key.network);
    }
  };
  using Bytes = std::unordered_map<Key, std::uint64_t, Hash>;
  Bytes before_;
  Bytes now_;
  bool has_before_ = false;
};

class TrafficCounter {
 public:
  static constexpr std::size_t kMostSockets = 200'000;
  static constexpr std::size_t kMostGroups = 20'000;

  /// The workload whose sockets are created in this cgroup, kHost if it is none; nullopt: not
  /// known.
  using OwnerOf = std::function<std::optional<policy::Number>(std::uint64_t cgroup)>;
  /// What the other end of this socket's connection has proved.
  using ProvedBy = std::function<std::optional<handshake::ProvedFlow>(const policy::LiveSocket&)>;

  /// `baseline` must outlive the counter.
  TrafficCounter(TrafficBaseline& baseline, OwnerOf owner_of, ProvedBy proved_by)
      : baseline_(baseline), owner_of_(std::move(owner_of)), proved_by_(std::move(proved_by)) {}

  /// Adds the TCP sockets and the addresses of a network namespace. `whole`: the workload that owns
  /// all of it, because it has no cgroup of its own.
  void add(std::uint64_t network, const std::vector<kernel::InetSocket>& tcp,
           std::set<policy::Address> addresses, std::optional<policy::Number> whole);
  /// Connections with a workload at an end, and another end than that workload. Without those of
  /// workloads in quarantine, and queries to Docker's resolver.
  [[nodiscard]] std::vector<TrafficGroup> groups();
  /// False if there were more sockets or groups than the limits above.
  [[nodiscard]] bool is_complete() const { return is_complete_; }

 private:
  struct Owner {
    policy::Number number = 0;
    std::uint64_t cookie = 0;
  };
  using Ends = std::tuple<TrafficEnd, TrafficEnd, std::uint64_t>;
  struct Count {
    std::uint64_t connections = 0;
    std::uint64_t bytes = 0;
  };
  void count(policy::LiveConnection live);
  [[nodiscard]] bool is_closing(const policy::LiveConnection& live) const;
  [[nodiscard]] TrafficEnd end_of(const policy::LiveSocket* socket, const policy::Address& address,
                                  bool is_local, std::optional<policy::Number> proved) const;
  [[nodiscard]] std::uint64_t moved(const policy::LiveConnection& live) const;

  TrafficBaseline& baseline_;
  OwnerOf owner_of_;
  ProvedBy proved_by_;
  std::vector<policy::LiveSocket> sockets_;
  std::vector<Owner> owners_;  // LiveSocket::owner is an index
  std::map<std::uint64_t, std::set<policy::Address>> addresses_;
  std::map<Ends, Count> groups_;
  bool is_complete_ = true;
};

}  // namespace trireme::daemon
