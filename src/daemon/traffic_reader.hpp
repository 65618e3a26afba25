// SPDX-License-Identifier: Apache-2.0
// A thread that reads the open TCP connections of this host for the method `traffic`, so that the
// daemon's loop never waits for it. It uses no processor time unless it is asked.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "socket_lister.hpp"
#include "sockets_here.hpp"
#include "traffic_count.hpp"
#include "trireme/base/event.hpp"
#include "trireme/handshake/identities.hpp"
#include "trireme/handshake/proved_flows.hpp"
#include "trireme/kernel/cgroup.hpp"
#include "trireme/kernel/netns.hpp"
#include "trireme/policy/labels.hpp"

namespace trireme::daemon {

/// Who and what is to be read.
struct TrafficRequest {
  struct Network {
    std::shared_ptr<const kernel::Netns> network;  // null: the daemon's own
    handshake::PointId point = 0;
  };
  /// A workload.
  struct Member {
    policy::Number number = 0;           // kQuarantine if it is not enforced
    std::string path;                    // of its cgroup; empty: none of its own
    std::vector<std::uint64_t> cgroups;  // ids: its cgroup's, and those of its earlier runs
    std::uint64_t network = 0;           // without a cgroup: inode of the namespace that it owns
    policy::LabelSet labels;
  };
  std::vector<Network> networks;
  std::vector<Member> members;
};

struct TrafficReading {
  std::vector<TrafficGroup> groups;
  /// The text of each label set and how many workloads have it: the most frequent first, and of
  /// equal ones the shorter.
  std::vector<std::pair<std::string, std::uint64_t>> identities;
  bool complete = false;
  std::chrono::steady_clock::time_point at;  // when the last of the sockets were read
  std::chrono::nanoseconds used{};           // processor time
};

/// Which workload the sockets of a cgroup belong to: that of the next cgroup above that is one's.
class CgroupNumbers {
 public:
  /// The paths of all cgroups, by id.
  using Paths = std::unordered_map<std::uint64_t, std::string>;
  explicit CgroupNumbers(std::function<Paths()> read_tree) : read_tree_(std::move(read_tree)) {}
  /// The workloads from now on, and the cgroups of all sockets that were listed. Reads the tree of
  /// cgroups only if one of these is not known, at most once.
  void use(const std::vector<TrafficRequest::Member>& members,
           const std::unordered_set<std::uint64_t>& cgroups);
  /// kHost if the cgroup is no workload's; nullopt if it is gone, or 0.
  [[nodiscard]] std::optional<policy::Number> find(std::uint64_t cgroup);

 private:
  [[nodiscard]] bool is_known(std::uint64_t cgroup) const;

  std::function<Paths()> read_tree_;
  std::unordered_map<std::uint64_t, policy::Number> by_id_;
  std::unordered_map<std::string, policy::Number> by_path_;
  Paths paths_;
  std::unordered_set<std::uint64_t> gone_;  // not found when the tree was read
};

/// Paths of all cgroups of the tree.
[[nodiscard]] CgroupNumbers::Paths paths_of(const kernel::CgroupTree& tree);

/// The order in which a reading goes through network namespaces, if it cannot read all of them: the
/// daemon's own is first, and the others from where the last reading ended.
class NetworkTurns {
 public:
  /// Indices of `networks`, whose first is the daemon's own; inode numbers, ascending after it.
  [[nodiscard]] std::vector<std::size_t> order(const std::vector<std::uint64_t>& networks) const;
  /// The reading has ended before this one. Nullopt: it has read all of them.
  void end_before(std::optional<std::uint64_t> network) { next_ = network.value_or(0); }

 private:
  std::uint64_t next_ = 0;
};

class TrafficReader {
 public:
  using Done = std::function<void(Result<TrafficReading>)>;

  /// `proved` and `identities` must outlive the reader. `done` is called on the loop's thread after
  /// each read(). Errors: the event loop, no descriptor.
  [[nodiscard]] static Result<std::unique_ptr<TrafficReader>> open(
      sd_event* loop, const kernel::CgroupTree& tree, const handshake::ProvedFlows& proved,
      const handshake::IdentityBook& identities, Done done);
  TrafficReader(const TrafficReader&) = delete;
  TrafficReader& operator=(const TrafficReader&) = delete;

  /// Starts a reading. The one before must be done.
  void read(TrafficRequest request);

 private:
  TrafficReader(const kernel::CgroupTree& tree, const handshake::ProvedFlows& proved,
                const handshake::IdentityBook& identities, Done done)
      : proved_(proved),
        identities_(identities),
        done_(std::move(done)),
        numbers_([tree] { return paths_of(tree); }) {}
  void run(const std::stop_token& stop);
  [[nodiscard]] Result<TrafficReading> read_now(const TrafficRequest& request,
                                                const std::stop_token& stop);
  [[nodiscard]] Result<bool> read_sockets(const TrafficRequest& request,
                                          const std::stop_token& stop);
  [[nodiscard]] Result<SocketsHere> read_network(
      const std::shared_ptr<const kernel::Netns>& network, const std::stop_token& stop);
  [[nodiscard]] bool count(const TrafficRequest& request, TrafficReading& reading);
  [[nodiscard]] std::optional<TrafficProof> proof_of(const policy::Direction& sends,
                                                     handshake::PointId point) const;
  void take_result();

  const handshake::ProvedFlows& proved_;
  const handshake::IdentityBook& identities_;
  Done done_;
  Fd ready_;  // eventfd
  event::Io readable_;

  std::mutex mutex_;  // for the next three
  std::condition_variable_any asked_;
  std::optional<TrafficRequest> request_;
  std::optional<Result<TrafficReading>> result_;

  // Of the thread alone.
  SocketLister lister_;
  bool wants_bytes_ = false;  // in this reading
  bool has_warned_ = false;   // that it does not answer, since it last did
  NetworkTurns turns_;
  std::map<std::uint64_t, SocketsHere> sockets_;  // as last read, by network namespace
  CgroupNumbers numbers_;
  TrafficBaseline baseline_;

  std::jthread thread_;  // the last member: it ends before the others
};

}  // namespace trireme::daemon
