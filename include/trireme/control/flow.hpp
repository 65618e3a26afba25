// SPDX-License-Identifier: Apache-2.0
// Reported flows: their JSON form, a filter over them, and a store of the newest ones in bounded
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

/// Sets "labels" and, if the set has labels from [host], "host_labels" (a list of their keys).
void put_labels(nlohmann::json& object, const policy::LabelSet& labels);
/// Inverse of put_labels(). Errors: "labels" is not an object of strings, or an invalid label.
[[nodiscard]] Result<policy::LabelSet> labels_of(const nlohmann::json& object);
/// The JSON form of a flow, as methods.hpp describes it.
[[nodiscard]] nlohmann::json to_json(const Flow& flow);
/// Reads a flow back for suggestions and graphs, with the "count" of a summary line if there is
/// one. Returns nullopt if a rule could not change the flow: one endpoint is quarantined or has
/// ended, the handshake failed for a reason other than policy, or the protocol or an address is not
/// known here.
[[nodiscard]] std::optional<policy::SeenFlow> seen_flow(const nlohmann::json& flow);

/// Equal for flows that are one kind: those that are counted together.
[[nodiscard]] std::string flow_key(const Flow& flow);
/// The owner whose share of the log and of memory the flow uses: "host NAME" (the remote host that
/// vouches for the source), "workload NAME", "address ADDRESS" (IPv6: its /64), an entity such as
/// "@host", or "workloads in quarantine".
[[nodiscard]] std::string flow_owner(const Flow& flow);

/// Selects flows. Different conditions are ANDed; the values of one condition are ORed.
class FlowFilter {
 public:
  FlowFilter() = default;
  /// Reads {"verdict": ["deny"], "from": [MATCH], "to": [MATCH], "with": [MATCH],
  /// "port": ["tcp/80", "8000-8010"], "protocol": ["udp"], "since": SECONDS}; each key is optional,
  /// and a single string is accepted in place of a list. MATCH is a workload's name (a trailing '*'
  /// matches a prefix), a selector with an operator ("app=web,env in (a, b)", "app=*"; a single
  /// word is a workload's name), @host, @world, @NAME of a network of `policy`, an address or a
  /// CIDR. "with" matches either endpoint. "since" is the greatest age of a flow. Errors (usage): a
  /// value that cannot be parsed, an unknown network.
  [[nodiscard]] static Result<FlowFilter> parse(const nlohmann::json& params,
                                                const policy::Policy& policy);
  [[nodiscard]] bool matches(const Flow& flow) const;
  /// The time of the oldest flow that can match.
  [[nodiscard]] std::chrono::system_clock::time_point since() const {
    return since_ ? std::chrono::system_clock::now() - *since_
                  : std::chrono::system_clock::time_point::min();
  }

 private:
  using EndTest = std::function<bool(const FlowEnd&)>;
  [[nodiscard]] static Result<EndTest> parse_end(const std::string& text,
                                                 const policy::Policy& policy);

  std::vector<policy::Verdict> verdicts_;
  std::vector<EndTest> from_, to_, with_;
  std::vector<policy::PortRange> ports_;  // protocol 0: any
  std::vector<std::uint8_t> protocols_;
  std::optional<std::chrono::seconds> since_;
};

/// Identical flows counted together: same verdict, labels on both sides (names, for workloads
/// without labels of their own; addresses, for other endpoints), protocol, port, rule, reason and
/// cause.
struct FlowTally {
  Flow last;                                    // the newest one
  std::chrono::system_clock::time_point first;  // time of the oldest one
  std::uint64_t count = 0;
};

/// The newest flows, and tallies that reach further back in time. Both are limited in number and in
/// bytes. If there is no room, the owner (flow_owner()) with the most bytes loses its oldest entry.
/// Owners that are addresses outside this host count as one group: if together they have more bytes
/// than all other owners, one of them loses an entry, so that a scan from many addresses cannot
/// displace the flows of workloads.
class FlowStore {
 public:
  struct Limits {
    std::size_t recent = 4096;      // flows
    std::size_t tallies = 10'000;   // entries
    std::size_t bytes = 8U << 20U;  // limit for the flows, and again for the tallies
  };
  FlowStore() : FlowStore(Limits()) {}
  explicit FlowStore(Limits limits) : limits_(limits) {}

  /// Adds the flow to both. The reference is valid until the next call.
  const Flow& add(Flow flow);
  /// The newest `limit` flows that match, oldest first. Pointers are valid until the next add().
  [[nodiscard]] std::vector<const Flow*> recent(const FlowFilter& filter, std::size_t limit) const;
  /// The `limit` tallies with the highest counts that match, highest first. The filter is applied
  /// to the newest flow of each tally. `left_out` receives how many more match. Pointers are valid
  /// until the next add().
  [[nodiscard]] std::vector<const FlowTally*> tallies(const FlowFilter& filter, std::size_t limit,
                                                      std::size_t* left_out = nullptr) const;
  /// Tallies dropped because there was no room.
  [[nodiscard]] std::uint64_t forgotten() const { return forgotten_; }

 private:
  struct Owner;
  struct Kept {
    std::uint64_t order = 0;  // grows with each added flow: greater is newer
    std::size_t bytes = 0;
    std::string key;  // of a tally; empty for a single flow
    FlowTally tally;  // its count is 1 for a single flow
    Owner* owner = nullptr;
  };
  using List = std::list<Kept>;
  struct Owner {
    std::string name;
    List kept;  // oldest first
    std::size_t bytes = 0;
  };
  /// The entries of all owners: once for single flows, once for tallies.
  struct Pot {
    std::map<std::string, Owner, std::less<>> owners;
    /// Sorts owners by bytes. Of owners with equal bytes, the one with the oldest entry is last.
    using Size = std::tuple<std::size_t, std::uint64_t, Owner*>;
    std::array<std::set<Size>, 2> by_size;  // [1]: owners that are addresses; [0]: all others
    std::size_t count = 0;
    std::array<std::size_t, 2> bytes{};

    Owner& owner(const Flow& flow);
    [[nodiscard]] static Size size(Owner& of);
    List::iterator put(Owner& of, Kept kept);
    Kept take(List::iterator which);
    /// The entry that is dropped next: the oldest of the owner with the most bytes.
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
