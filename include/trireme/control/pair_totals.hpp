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
  };                                // one owner may use an eighth of each
  struct Key {
    std::string from;
    std::string to;
    auto operator<=>(const Key&) const = default;
  };
  struct Totals {
    std::uint64_t connections = 0;       // open, at the last reading
    std::optional<std::uint64_t> bytes;  // nullopt: those of no TCP connection were read
    std::uint64_t denied = 0;
    std::uint64_t audited = 0;
    std::uint64_t allowed = 0;  // samples, and flows that a rule logs
    Time last;                  // of the newest flow, or when connections were seen open
  };
  /// The open connections of a pair.
  struct Open {
    std::uint64_t connections = 0;
    std::optional<std::uint64_t> bytes = std::nullopt;  // since the reading before, if known
    std::string owner;                                  // whose share it uses: as owner_of()
  };
  struct Pair {
    const Key* key = nullptr;
    const Totals* totals = nullptr;
    const std::string* owner = nullptr;
  };

  PairTotals() : PairTotals(Limits()) {}
  explicit PairTotals(Limits limits);
  PairTotals(const PairTotals&) = delete;
  PairTotals& operator=(const PairTotals&) = delete;

  void count(const Flow& flow);
  /// Begins a reading of open connections: add_open() for each pair that has any, then end_open().
  /// count() may be called in between.
  void begin_open(Time now);
  /// Replaces the number of open connections, and adds bytes. For a pair that is not known yet,
  /// only pairs without open connections make room, and only while they are more than half: else it
  /// is left out. So one reading does not displace what the one before has counted.
  void add_open(const Key& key, const Open& found);
  /// Pairs that were not added have no open connection any more.
  void end_open();
  /// Pairs with open connections that the last reading left out.
  [[nodiscard]] std::uint64_t left_out() const { return left_out_; }
  /// All pairs, the one that changed last first: a flow, another number of connections, or bytes.
  /// Valid until the next change.
  [[nodiscard]] std::vector<Pair> newest() const;
  /// Pairs that were removed because there was no room; they begin at 0 when they come back.
  [[nodiscard]] std::uint64_t forgotten() const { return forgotten_; }

  /// flow_owner() of a flow with this source; all addresses outside this host are one owner.
  [[nodiscard]] static std::string owner_of(const FlowEnd& source);

 private:
  struct Entry;
  using Item = std::pair<const Key, Entry>;
  using Ages = std::map<std::uint64_t, Item*>;  // oldest first
  struct Ranks {
    Ages all;
    Ages closed;  // those without open connections
  };
  struct Owner {
    std::string name;
    Ranks ranks;
    std::size_t bytes = 0;
  };
  struct Entry {
    Totals totals;
    std::uint64_t order = 0;    // grows with each change: greater is newer
    std::uint64_t reading = 0;  // the last one that found open connections
    Owner* owner = nullptr;
  };

  Item& put(const Key& key, const std::string& owner);
  void insert(Item& item);
  void remove(Item& item);
  void move_to_front(Item& item);
  void make_room(const Owner& owner);
  [[nodiscard]] bool has_room_for_open(const Key& key, const std::string& owner);
  void forget(Item& which);

  Limits limits_;
  Limits share_;
  std::map<Key, Entry> entries_;
  std::map<std::string, Owner> owners_;
  Ranks ranks_;
  std::uint64_t order_ = 0;
  std::size_t bytes_ = 0;
  std::uint64_t forgotten_ = 0;
  std::uint64_t reading_ = 0;
  Time read_at_;
  std::uint64_t left_out_now_ = 0;  // in this reading
  std::uint64_t left_out_ = 0;
};

}  // namespace trireme::control
