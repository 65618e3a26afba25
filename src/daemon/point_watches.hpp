// SPDX-License-Identifier: Apache-2.0
// The watches of all enforcement points, and what they count together.
#pragma once

#include <map>
#include <optional>

#include "point_watch.hpp"

namespace trireme::daemon {

/// Of answers of name servers.
struct AnswerCounts {
  std::uint64_t believed = 0;
  std::uint64_t doubted = 0;
  std::uint64_t lost = 0;
};

/// What this host's own network namespace is called beside those of workloads: an entity's name,
/// which no workload has.
inline constexpr const char* kHostNetwork = "@host";

/// A different name for each network namespace of these workloads, by inode number: that of the
/// first workload there. A further namespace of a workload has the kernel's name for it added:
/// "web net:[4026532281]".
[[nodiscard]] std::map<std::uint64_t, std::string> network_names(
    const std::vector<const workload::Workload*>& workloads);
/// The kernel's own name: of one in which there is no workload any more.
[[nodiscard]] std::string network_name(std::uint64_t inode);

class PointWatches {
 public:
  /// In the point's network namespace; see PointWatch::open().
  [[nodiscard]] Status open(sd_event* loop, enforcer::Points& points, enforcer::Point& point,
                            FlowFeed& feed, const workload::Registry& registry,
                            Drift::Handlers handlers);
  void close(const enforcer::Point& point) { watches_.erase(point.id); }
  void ended(const workload::Workload& workload);
  /// What the gate has refused, for the flow log; nullopt where rules have refused the same a
  /// moment ago, and it is there already.
  [[nodiscard]] std::optional<policy::Flow> tell(const gate::Refused& refused,
                                                 const workload::Registry& registry) const;
  /// Repairs of tables that are due.
  void catch_up();

  /// Points of containers whose tables could not be repaired, tried more than once, and why.
  [[nodiscard]] std::vector<std::pair<enforcer::Point*, Error>> unwritable() const;
  [[nodiscard]] std::vector<std::string> problems() const;
  /// Of tables that somebody else had changed.
  [[nodiscard]] std::uint64_t repairs() const;
  /// Times at which the kernel's log messages did not fit.
  [[nodiscard]] std::uint64_t logs_lost() const;
  /// Packets that wait in the verifier's queues.
  [[nodiscard]] std::uint64_t queued() const;
  [[nodiscard]] AnswerCounts answers() const;

  /// Reads how full conntrack is, in all network namespaces.
  void look_at_conntrack();
  struct ConntrackUse {
    std::string network;  // kHostNetwork, or as network_names() has it; different for each
    kernel::ConntrackUse::Count count;
    bool full = false;
  };
  /// As it was then, one for each network namespace.
  [[nodiscard]] std::vector<ConntrackUse> conntrack(const workload::Registry& registry) const;

 private:
  std::map<handshake::PointId, std::unique_ptr<PointWatch>> watches_;
};

}  // namespace trireme::daemon
