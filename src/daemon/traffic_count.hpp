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
#include <utility>
#include <vector>

#include "trireme/kernel/sockets.hpp"
#include "trireme/policy/compile.hpp"
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
  std::optional<std::uint64_t> bytes;  // moved since the reading before; nullopt: not known
};

/// What the other end of a connection has proved.
struct TrafficProof {
  bool is_client = false;  // the end whose socket is here
  policy::Number remote = 0;
  bool is_near = false;  // the other end's workload is on this host too: it has a proof of its own
};

/// The bytes of each socket at the last reading, to count what has moved since.
class TrafficBaseline {
 public:
  /// Begins the next reading. Other network namespaces than these are forgotten.
  void begin(const std::set<std::uint64_t>& networks);
  /// Does nothing if the bytes of the socket were not read.
  void note(std::uint64_t network, const kernel::InetSocket& socket);
  /// All sockets of the network namespace are noted, so that one which its next reading finds in
  /// addition is a new connection.
  void complete(std::uint64_t network);
  /// Bytes that the socket has moved since the reading of its network namespace before. Of a
  /// connection that began since: all of them. 0 if that is not known.
  [[nodiscard]] std::uint64_t moved(std::uint64_t network, std::uint64_t cookie) const;

 private:
  using Bytes = std::unordered_map<std::uint64_t, std::uint64_t>;  // by cookie
  struct Sockets {
    Bytes bytes;
    bool is_complete = false;
  };
  struct Network {
    Sockets before;
    Sockets now;
  };
  std::map<std::uint64_t, Network> networks_;
};

class TrafficCounter {
 public:
  /// Sockets of workloads and of this host's processes. One owner can have half of them.
  static constexpr std::size_t kMostSockets = 200'000;
  static constexpr std::size_t kMostGroups = 20'000;
  /// Addresses that one workload has connections to, or from. Beyond them, and from half of the
  /// groups above on, those of others are counted under an empty address.
  static constexpr std::size_t kMostAddresses = 1'000;
  /// Sockets whose bytes are remembered, of whatever owner.
  static constexpr std::size_t kMostNoted = 400'000;

  /// The workload whose sockets are created in this cgroup, kHost if it is none; nullopt: not
  /// known.
  using OwnerOf = std::function<std::optional<policy::Number>(std::uint64_t cgroup)>;
  /// What the other end of this socket's connection has proved.
  using ProvedBy = std::function<std::optional<TrafficProof>(const policy::LiveSocket&)>;

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
  /// False if connections are missing because of the limits above.
  [[nodiscard]] bool is_complete() const { return is_complete_; }

 private:
  struct Owner {
    policy::Number number = 0;
    std::uint64_t cookie = 0;
    bool has_bytes = false;
  };
  using Ends = std::tuple<TrafficEnd, TrafficEnd, std::uint64_t>;
  struct Count {
    std::uint64_t connections = 0;
    std::optional<std::uint64_t> bytes;
  };
  using Groups = std::map<Ends, Count>;
  void count(policy::LiveConnection live);
  [[nodiscard]] bool is_closing(const policy::LiveConnection& live) const;
  [[nodiscard]] TrafficEnd end_of(const policy::LiveSocket* socket, const policy::Address& address,
                                  bool is_local, std::optional<policy::Number> proved) const;
  [[nodiscard]] Groups::iterator group_of(TrafficEnd from, TrafficEnd to, std::uint64_t network);
  void limit_address(TrafficEnd& end, policy::Number workload, bool begins);
  [[nodiscard]] bool note(std::uint64_t network, const kernel::InetSocket& socket);
  [[nodiscard]] bool has_room_of(policy::Number number);
  [[nodiscard]] std::optional<std::uint64_t> moved(const policy::LiveConnection& live) const;

  TrafficBaseline& baseline_;
  OwnerOf owner_of_;
  ProvedBy proved_by_;
  std::vector<policy::LiveSocket> sockets_;
  std::vector<Owner> owners_;  // LiveSocket::owner is an index
  std::map<std::uint64_t, std::set<policy::Address>> addresses_;
  std::unordered_map<policy::Number, std::size_t> sockets_of_;
  std::map<std::pair<policy::Number, bool>, std::size_t> addresses_of_;  // bool: it begins
  Groups groups_;
  std::size_t noted_ = 0;
  bool is_complete_ = true;
};

}  // namespace trireme::daemon
