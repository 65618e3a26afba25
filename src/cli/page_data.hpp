// SPDX-License-Identifier: Apache-2.0
// What `policy graph` and `ui` show, read from the daemon: the graph of the policy in force, the
// map of it, and why a flow was denied and which rules would allow it.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "command.hpp"
#include "loaded.hpp"
#include "trireme/policy/access.hpp"
#include "trireme/policy/graph.hpp"
#include "trireme/policy/policy.hpp"

namespace trireme::cli {

struct DrawnPolicy {
  policy::Policy policy;
  std::vector<policy::Party> present;  // as present_parties()
  policy::Graph graph;
  std::vector<std::string> notes;  // what is not in the graph
};

/// Asks the daemon, as often as read() is called, for its policy, workloads and flows (samples of
/// allowed ones too). Open connections it reads in its loop, with conntrack: for those it is asked
/// at most once a minute, and so seldom that this takes at most a 200th of its time.
class PolicyReader {
 public:
  explicit PolicyReader(Globals globals) : globals_(std::move(globals)) {}
  [[nodiscard]] Result<DrawnPolicy> read();

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] Status read_live();

  Globals globals_;
  LiveFlows live_;
  Clock::time_point next_live_;  // no earlier than this
};

/// PolicyReader::read(), once.
[[nodiscard]] Result<DrawnPolicy> drawn_policy(const Globals& globals);

/// "map_time" of page(): the time now.
[[nodiscard]] std::string time_now();
/// "map" of page(), with "title".
[[nodiscard]] nlohmann::json page_map(const DrawnPolicy& drawn);

/// {"why": what `policy explain` says of the flow, "allow": what `policy suggest` says of it
/// alone}. Either says why there is no answer: no rule decides about an end in quarantine, for
/// example. `flow` is an object of the control method `flows`.
[[nodiscard]] nlohmann::json denial_answer(const Globals& globals, const DrawnPolicy& drawn,
                                           const nlohmann::json& flow);

/// The data of a page without a server, see page().
[[nodiscard]] Result<nlohmann::json> page_from_disk(const Globals& globals,
                                                    const DrawnPolicy& drawn);

}  // namespace trireme::cli
