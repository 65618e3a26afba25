// SPDX-License-Identifier: Apache-2.0
// Keeps the memory of proved flows: connections while they have sockets, and all of it over a
// restart.
#pragma once

#include <chrono>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "trireme/enforcer/points.hpp"
#include "trireme/handshake/proved_flows.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::daemon {

class ProvedMemory {
 public:
  using Points = std::vector<enforcer::Point*>;

  /// `proved` outlives this object.
  ProvedMemory(handshake::Proved& proved, const std::string& runtime_dir);

  /// What an earlier daemon has saved, and what conntrack has of its flows: of enforcement points,
  /// workloads and peers that are known by now; before the tables are written. A file that is
  /// missing holds nothing.
  void recall(const Points& points, const workload::Registry& registry,
              const verifier::Identities& identities);
  /// Once in a minute, sooner where room is short, however often it is called: forgets connections
  /// whose sockets have gone and old flows of UDP, and saves the others.
  void look(const Points& points);
  /// Errors: the file cannot be written.
  [[nodiscard]] Status save(const Points& points);
  /// Adds the numbers of peers that connections remembered here still need.
  void add_numbers(std::unordered_set<policy::Number>& numbers) const;

 private:
  void forget_closed(enforcer::Point& point, const std::vector<handshake::ProvedFlow>& candidates,
                     handshake::Milliseconds before);
  void forget_old(const Points& points);

  void keep_clients(const Points& points);

  handshake::Proved& proved_;
  std::string file_;
  std::string saved_;  // what the file holds
  std::chrono::steady_clock::time_point looked_;
  bool made_room_ = true;                      // at the last look
  std::set<handshake::PointId> with_clients_;  // whose sets may hold some
};

}  // namespace trireme::daemon
