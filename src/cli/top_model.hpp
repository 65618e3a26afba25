// SPDX-License-Identifier: Apache-2.0
// What `trirectl top` shows: rates from two answers of the method `traffic`, sorted and filtered.
// Pure.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trireme/base/result.hpp"

namespace trireme::cli {

/// An answer of the method `traffic`. Times are in seconds of CLOCK_MONOTONIC.
struct TrafficAnswer {
  struct Pair {
    std::uint64_t connections = 0;
    std::optional<std::uint64_t> bytes;
    std::uint64_t denied = 0;
    std::uint64_t audited = 0;
    std::int64_t last = 0;  // Unix time
  };
  using Key = std::pair<std::string, std::string>;  // from, to

  double at = 0;     // when flows were counted
  double read = 0;   // when connections and bytes were
  double since = 0;  // since when the daemon counts
  bool complete = true;
  std::vector<std::pair<std::string, std::uint64_t>> identities;  // labels, workloads
  std::map<Key, Pair> pairs;
  std::uint64_t identities_left_out = 0;
  std::uint64_t pairs_left_out = 0;

  /// Control characters of all texts are replaced: printable(). Errors: the answer is not what the
  /// method sends.
  [[nodiscard]] static Result<TrafficAnswer> read_json(const nlohmann::json& answer);
};

enum class TopView : std::uint8_t { pairs, identities };

/// One line. nullopt: not known, shown as "-".
struct TopRow {
  std::string name;                             // of pairs: from
  std::string other = {};                       // of pairs: to; else empty
  std::optional<std::uint64_t> workloads = {};  // of identities
  std::uint64_t connections = 0;
  std::optional<double> bytes_rate = {};  // bytes per second
  std::optional<double> denied_rate = {};
  std::optional<double> audited_rate = {};
  std::uint64_t denied = 0;
  std::int64_t last = 0;
};

/// The newest answer, and the rates since the one before.
class TopModel {
 public:
  void take(TrafficAnswer answer);
  /// The daemon does not answer: nothing is known until the next take().
  void lose();
  [[nodiscard]] bool has_answer() const { return now_.has_value(); }
  [[nodiscard]] const TrafficAnswer& answer() const { return *now_; }
  /// Rows of the view, unsorted; none without an answer.
  [[nodiscard]] std::vector<TopRow> rows(TopView view) const;

 private:
  struct Rates {
    std::optional<double> bytes;
    std::optional<double> denied;
    std::optional<double> audited;
  };
  [[nodiscard]] std::vector<TopRow> pair_rows() const;
  [[nodiscard]] std::vector<TopRow> identity_rows() const;

  std::optional<TrafficAnswer> now_;
  std::map<TrafficAnswer::Key, Rates> rates_;
};

enum class TopColumn : std::uint8_t {
  name,
  other,
  workloads,
  connections,
  bytes_rate,
  denied_rate,
  audited_rate,
  denied,
  last,
};

/// How the rows are chosen and ordered.
struct TopOrder {
  TopColumn column = TopColumn::connections;
  bool reversed = false;
  std::string filter = {};  // without distinction of upper and lower case; empty: all rows
};

/// The columns of a view, from left to right.
[[nodiscard]] const std::vector<TopColumn>& columns_of(TopView view);
/// The column `steps` (1 or -1) from `column`, around the ends.
[[nodiscard]] TopColumn next_column(TopView view, TopColumn column, int steps);
/// Rows whose name or other name contains the filter. Numbers and times are sorted with the
/// greatest first, names from A to Z, or the reverse; equal rows by name.
[[nodiscard]] std::vector<TopRow> arranged(std::vector<TopRow> rows, const TopOrder& order);

}  // namespace trireme::cli
