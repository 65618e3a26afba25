// SPDX-License-Identifier: Apache-2.0
// Maintains the memory of proved flows: keeps connections as long as their sockets exist, and saves
// all flows for the next start of the daemon.
#pragma once

#include <chrono>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "trireme/handshake/proved_flows.hpp"
#include "trireme/points/points.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::daemon {

class ProvedMemory {
 public:
  using Points = std::vector<points::Point*>;

  /// `proved` must outlive this object. The flows are saved in RUNTIME-DIR.
  ProvedMemory(handshake::Proved& proved, const std::string& runtime_dir);

  /// Restores the flows that an earlier daemon has saved, and its flows that are in conntrack, for
  /// enforcement points, workloads and peers that are known already. Call it before the tables are
  /// written. It is not an error if the file does not exist.
  void recall(const Points& points, const workload::Registry& registry,
              const verifier::Identities& identities);
  /// Removes connections whose sockets are closed and old UDP flows, and saves the others. Does
  /// nothing if the last time was less than a minute ago (5 s if the memory is almost full), so it
  /// can be called more often.
  void look(const Points& points);
  /// Saves all flows. Errors: the file cannot be written.
  [[nodiscard]] Status save(const Points& points);
  /// Adds the numbers of the peers of remembered connections.
  void add_numbers(std::unordered_set<policy::Number>& numbers) const;

 private:
  void forget_closed(points::Point& point, const std::vector<handshake::ProvedFlow>& candidates,
                     handshake::Milliseconds before);
  void forget_old(const Points& points);

  void keep_clients(const Points& points);

  handshake::Proved& proved_;
  std::string file_;
  std::string saved_;                             // the content of the file
  std::chrono::steady_clock::time_point looked_;  // when look() last did its work
  bool made_room_ = true;                         // the last look() removed connections
  std::set<handshake::PointId> with_clients_;     // points whose client sets can have elements
};

}  // namespace trireme::daemon
