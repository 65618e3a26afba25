// SPDX-License-Identifier: Apache-2.0
// Who talks to whom: for each pair of identities, its open connections, their bytes, and how many
// flows were denied, audited and allowed. In bounded memory.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "trireme/control/flow.hpp"

namespace trireme::control {

/// The text of a label set as an identity: LabelSet::text(), or "(no labels)".
[[nodiscard]] std::string identity_text(const policy::LabelSet& labels);
/// What an end counts as in a pair: its identity, "@host", "@world", the networks that its address
/// is in ("@corp,@dns", in the order of the policy), "(quarantined)" or "(ended)".
[[nodiscard]] std::string identity_text(const FlowEnd& end);

class PairTotals {
 public:
  using Time = std::chrono::system_clock::time_point;
  struct Limits {
    std::size_t pairs = 4096;
    std::size_t bytes = 4U << 20U;  // of the texts of all pairs
  };
  struct Key {
    std::string from;
    std::string to;
    auto operator<=>(const Key&) const = default;
  };
  struct Totals {
    std::uint64_t connections = 0;       // open, at the last set_open()
    std::optional<std::uint64_t> bytes;  // nullopt: no TCP connection was seen
    std::uint64_t denied = 0;
    std::uint64_t audited = 0;
    std::uint64_t allowed = 0;  // samples, and flows that a rule logs
    Time last;                  // of the newest flow, or when connections were seen open
  };
  /// The open connections of a pair.
  struct Open {
    std::uint64_t connections = 0;
    std::uint64_t bytes = 0;  // since the reading before
    std::string owner;        // whose share the pair uses: as owner_of()
  };
  struct Pair {
    const Key* key = nullptr;
    const Totals* totals = nullptr;
  };

  PairTotals() : PairTotals(Limits()) {}
  explicit PairTotals(Limits limits) : limits_(limits) {}
  PairTotals(const PairTotals&) = delete;
  PairTotals& operator=(const PairTotals&) = delete;

  void count(const Flow& flow);
  /// Replaces the numbers of open connections: 0 for pairs that are not in `open`.
  void set_open(const std::map<Key, Open>& open, Time now);
  /// All pairs, the one that changed last first. Valid until the next change.
  [[nodiscard]] std::vector<Pair> newest() const;
  /// Pairs that were removed because there was no room; they begin at 0 when they come back.
  [[nodiscard]] std::uint64_t forgotten() const { return forgotten_; }

  /// flow_owner() of a flow with this source; all addresses outside this host are one owner.
  [[nodiscard]] static std::string owner_of(const FlowEnd& source);

 private:
  struct Entry;
  using Item = std::pair<const Key, Entry>;
  using Ages = std::map<std::uint64_t, Item*>;  // oldest first
  struct Owner {
    std::string name;
    Ages ages;
  };
  struct Entry {
    Totals totals;
    std::uint64_t order = 0;  // grows with each change: greater is newer
    Owner* owner = nullptr;
  };

  Totals& touch(const Key& key, const std::string& owner);
  void make_room(const Owner& owner);
  void forget(Item& which);

  Limits limits_;
  std::map<Key, Entry> entries_;
  std::map<std::string, Owner> owners_;
  Ages ages_;
  std::uint64_t order_ = 0;
  std::size_t bytes_ = 0;
  std::uint64_t forgotten_ = 0;
};

}  // namespace trireme::control
