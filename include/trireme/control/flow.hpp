// SPDX-License-Identifier: Apache-2.0
// A flow as operators hear of it: its JSON, what a filter picks, and the newest ones in bounded
// memory.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "trireme/policy/flow.hpp"
#include "trireme/policy/policy.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::control {

using policy::Flow;
using policy::FlowEnd;

/// Writes "labels" and, where there are any, "host_labels" (the keys of those that [host] gave).
void put_labels(nlohmann::json& object, const policy::LabelSet& labels);
/// The inverse. Errors: not an object of strings, not labels.
[[nodiscard]] Result<policy::LabelSet> labels_of(const nlohmann::json& object);
/// As methods.hpp describes it.
[[nodiscard]] nlohmann::json to_json(const Flow& flow);
/// The inverse for suggestions and graphs: {"count": n} where it is a summary's. Empty where policy
/// has no say in the flow: a quarantined end, a handshake that failed for another reason than
/// policy, a protocol without a number here.
[[nodiscard]] std::optional<policy::SeenFlow> seen_flow(const nlohmann::json& flow);

/// Whose share of logs and memory the flow takes: the workload that began it, the remote host that
/// vouches for one, else the address it came from (IPv6: its /64), or "@host".
[[nodiscard]] std::string flow_owner(const Flow& flow);

/// Which flows are asked for; all conditions hold together, the alternatives of one are OR.
class FlowFilter {
 public:
  FlowFilter() = default;
  /// {"verdict": ["deny"], "from": [END], "to": [END], "with": [END], "port": ["tcp/80",
  /// "8000-8010"], "protocol": ["udp"], "since": seconds}. An END is a workload's name ('*' at its
  /// end is a prefix), a selector ("app=web,env in (a, b)"), @host, @world, @NAME of a network of
  /// `policy`, an address or a CIDR. "with": either end.
  [[nodiscard]] static Result<FlowFilter> parse(const nlohmann::json& params,
                                                const policy::Policy& policy);
  [[nodiscard]] bool matches(const Flow& flow) const;

 private:
  using EndTest = std::function<bool(const FlowEnd&)>;
  [[nodiscard]] static Result<EndTest> parse_end(const std::string& text,
                                                 const policy::Policy& policy);
  [[nodiscard]] static Result<policy::PortRange> parse_ports(const std::string& text);

  std::vector<policy::Verdict> verdicts_;
  std::vector<EndTest> from_, to_, with_;
  std::vector<policy::PortRange> ports_;  // protocol 0: any
  std::vector<std::uint8_t> protocols_;
  std::optional<std::chrono::seconds> since_;
};

/// The same flow, again and again: same verdict, labels or addresses at both ends, port, rule and
/// reason.
struct FlowTally {
  Flow last;
  std::chrono::system_clock::time_point first;
  std::uint64_t count = 0;
};

/// The newest flows, and tallies that reach further back. Both are bounded in number and in bytes.
/// When there is no more room, the owner that takes most of it (flow_owner()) loses its oldest;
/// addresses of strangers are counted together first, however many there are.
class FlowStore {
 public:
  struct Limits {
    std::size_t recent = 4096;
    std::size_t tallies = 10'000;
    std::size_t bytes = 8U << 20U;  // of each
  };
  FlowStore() : FlowStore(Limits()) {}
  explicit FlowStore(Limits limits) : limits_(limits) {}

  const Flow& add(Flow flow);
  /// The newest `limit` that match, oldest first.
  [[nodiscard]] std::vector<const Flow*> recent(const FlowFilter& filter, std::size_t limit) const;
  /// The `limit` most frequent, most frequent first. `since` is compared with the newest of each.
  /// `left_out`, where given: how many more match.
  [[nodiscard]] std::vector<const FlowTally*> tallies(const FlowFilter& filter, std::size_t limit,
                                                      std::size_t* left_out = nullptr) const;
  /// Tallies that had to go.
  [[nodiscard]] std::uint64_t forgotten() const { return forgotten_; }

 private:
  struct Owner;
  struct Kept {
    std::uint64_t order = 0;  // of when it was counted last
    std::size_t bytes = 0;
    std::string key;  // of a tally
    FlowTally tally;  // of a single flow: 1
    Owner* owner = nullptr;
  };
  using List = std::list<Kept>;
  struct Owner {
    std::string name;
    List kept;  // oldest first
    std::size_t bytes = 0;
  };
  /// What is kept alike, by its owners.
  struct Pot {
    std::map<std::string, Owner, std::less<>> owners;
    /// Bytes, and of those with as many the one whose oldest is oldest comes last.
    using Size = std::tuple<std::size_t, std::uint64_t, Owner*>;
    std::array<std::set<Size>, 2> by_size;  // strangers are the second
    std::size_t count = 0;
    std::array<std::size_t, 2> bytes{};

    Owner& owner(const Flow& flow);
    [[nodiscard]] static Size size(Owner& of);
    List::iterator put(Owner& of, Kept kept);
    Kept take(List::iterator which);
    [[nodiscard]] List::iterator victim();
    [[nodiscard]] bool is_over(std::size_t most, std::size_t most_bytes) const {
      return count > 1 && (count > most || bytes[0] + bytes[1] > most_bytes);
    }
  };
  void count(const Flow& flow);

  Limits limits_;
  Pot recent_;
  Pot tallies_;
  std::unordered_map<std::string_view, List::iterator> by_key_;
  std::uint64_t order_ = 0;
  std::uint64_t forgotten_ = 0;
};

[[nodiscard]] nlohmann::json to_json(const FlowTally& tally);

}  // namespace trireme::control
