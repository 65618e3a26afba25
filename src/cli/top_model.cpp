// SPDX-License-Identifier: Apache-2.0
#include "top_model.hpp"

#include <algorithm>
#include <array>
#include <tuple>

#include "trireme/base/printable.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;
using Key = TrafficAnswer::Key;

/// Growth per second; nullopt if a counter began again.
std::optional<double> rate(std::uint64_t before, std::uint64_t now, double seconds) {
  return now < before || seconds <= 0 ? std::nullopt
                                      : std::optional(static_cast<double>(now - before) / seconds);
}

/// A sum in which an unknown number counts as nothing, unless all are unknown.
void add_rate(std::optional<double>& sum, const std::optional<double>& more) {
  if (more) {
    sum = sum.value_or(0) + *more;
  }
}

bool holds(const std::string& text, const std::string& part) {
  const auto lower = [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  return std::search(text.begin(), text.end(), part.begin(), part.end(), [&](char one, char other) {
           return lower(one) == lower(other);
         }) != text.end();
}

/// What numbers and times are sorted by; what is not known comes last.
double magnitude(const TopRow& row, TopColumn column) {
  switch (column) {
    case TopColumn::workloads:
      return row.workloads ? static_cast<double>(*row.workloads) : -1;
    case TopColumn::connections:
      return static_cast<double>(row.connections);
    case TopColumn::bytes_rate:
      return row.bytes_rate.value_or(-1);
    case TopColumn::denied_rate:
      return row.denied_rate.value_or(-1);
    case TopColumn::audited_rate:
      return row.audited_rate.value_or(-1);
    case TopColumn::denied:
      return static_cast<double>(row.denied);
    case TopColumn::last:
      return static_cast<double>(row.last);
    case TopColumn::name:
    case TopColumn::other:
      break;
  }
  return 0;
}

}  // namespace

Result<TrafficAnswer> TrafficAnswer::read_json(const json& answer) {
  TrafficAnswer made;
  try {
    made.at = answer.at("at").get<double>();
    made.read = answer.at("read").get<double>();
    made.since = answer.at("since").get<double>();
    made.complete = answer.value("complete", true);
    for (const json& identity : answer.at("identities")) {
      made.identities.emplace_back(printable(identity.at("labels").get<std::string>()),
                                   identity.at("workloads").get<std::uint64_t>());
    }
    for (const json& each : answer.at("pairs")) {
      Pair pair;
      pair.connections = each.at("connections").get<std::uint64_t>();
      if (each.contains("bytes")) {
        pair.bytes = each["bytes"].get<std::uint64_t>();
      }
      pair.denied = each.at("denied").get<std::uint64_t>();
      pair.audited = each.value("audited", std::uint64_t{0});
      pair.last = each.at("last").get<std::int64_t>();
      made.pairs.insert_or_assign({printable(each.at("from").get<std::string>()),
                                   printable(each.at("to").get<std::string>())},
                                  pair);
    }
    const json left_out = answer.value("left_out", json::object());
    made.identities_left_out = left_out.value("identities", std::uint64_t{0});
    made.pairs_left_out = left_out.value("pairs", std::uint64_t{0});
  } catch (const json::exception& error) {
    return fail(std::string("trireme's answer is not understood: ") + error.what(),
                "triremed and trirectl may be of different versions");
  }
  return made;
}

void TopModel::take(TrafficAnswer answer) {
  if (now_ && now_->at == answer.at) {
    return;  // the daemon has given the same answer again
  }
  const bool counts_go_on = now_ && now_->since == answer.since;
  if (!counts_go_on) {
    rates_.clear();
  }
  if (counts_go_on) {
    const TrafficAnswer& before = *now_;
    std::map<Key, Rates> rates;
    for (const auto& [key, pair] : answer.pairs) {
      const auto old = before.pairs.find(key);
      if (old == before.pairs.end() && before.pairs_left_out > 0) {
        continue;  // it may be one of those that were left out
      }
      const TrafficAnswer::Pair none;
      const TrafficAnswer::Pair& from = old == before.pairs.end() ? none : old->second;
      Rates& made = rates[key];
      made.denied = rate(from.denied, pair.denied, answer.at - before.at);
      made.audited = rate(from.audited, pair.audited, answer.at - before.at);
      if (answer.read > before.read) {
        made.bytes = pair.bytes
                         ? rate(from.bytes.value_or(0), *pair.bytes, answer.read - before.read)
                         : std::nullopt;
      } else if (const auto kept = rates_.find(key); kept != rates_.end()) {
        made.bytes = kept->second.bytes;  // still the newest
      }
    }
    rates_ = std::move(rates);
  }
  now_ = std::move(answer);
}

void TopModel::lose() {
  now_.reset();
  rates_.clear();
}

std::vector<TopRow> TopModel::rows(TopView view) const {
  if (!now_) {
    return {};
  }
  return view == TopView::pairs ? pair_rows() : identity_rows();
}

std::vector<TopRow> TopModel::pair_rows() const {
  std::vector<TopRow> rows;
  rows.reserve(now_->pairs.size());
  for (const auto& [key, pair] : now_->pairs) {
    const auto known = rates_.find(key);
    const Rates rates = known == rates_.end() ? Rates() : known->second;
    rows.push_back({.name = key.first,
                    .other = key.second,
                    .workloads = std::nullopt,
                    .connections = pair.connections,
                    .bytes_rate = rates.bytes,
                    .denied_rate = rates.denied,
                    .audited_rate = rates.audited,
                    .denied = pair.denied,
                    .last = pair.last});
  }
  return rows;
}

/// Each identity, and each other end of a pair, with the sums of the pairs that it is an end of.
std::vector<TopRow> TopModel::identity_rows() const {
  std::map<std::string, TopRow> rows;
  for (const auto& [labels, workloads] : now_->identities) {
    TopRow& row = rows[labels];
    row.workloads = row.workloads.value_or(0) + workloads;
  }
  for (const TopRow& pair : pair_rows()) {
    const std::array<const std::string*, 2> ends = {&pair.name, &pair.other};
    for (std::size_t i = 0; i < (pair.name == pair.other ? 1U : 2U); ++i) {
      TopRow& row = rows[*ends.at(i)];
      row.connections += pair.connections;
      row.denied += pair.denied;
      row.last = std::max(row.last, pair.last);
      add_rate(row.bytes_rate, pair.bytes_rate);
      add_rate(row.denied_rate, pair.denied_rate);
      add_rate(row.audited_rate, pair.audited_rate);
    }
  }
  std::vector<TopRow> list;
  list.reserve(rows.size());
  for (auto& [name, row] : rows) {
    row.name = name;
    list.push_back(std::move(row));
  }
  return list;
}

const std::vector<TopColumn>& columns_of(TopView view) {
  using enum TopColumn;
  static const std::vector<TopColumn> pairs = {name,        other,        connections, bytes_rate,
                                               denied_rate, audited_rate, denied,      last};
  static const std::vector<TopColumn> identities = {
      name, workloads, connections, bytes_rate, denied_rate, audited_rate, denied, last};
  return view == TopView::pairs ? pairs : identities;
}

TopColumn next_column(TopView view, TopColumn column, int steps) {
  const std::vector<TopColumn>& columns = columns_of(view);
  const auto found = std::ranges::find(columns, column);
  const auto count = static_cast<int>(columns.size());
  const auto at = found == columns.end() ? 0 : static_cast<int>(found - columns.begin());
  return columns[static_cast<std::size_t>((at + steps + count) % count)];
}

std::vector<TopRow> arranged(std::vector<TopRow> rows, const TopOrder& order) {
  std::erase_if(rows, [&order](const TopRow& row) {
    return !holds(row.name, order.filter) && !holds(row.other, order.filter);
  });
  const auto comes_first = [&order](const TopRow& one, const TopRow& other) {
    const auto names = [](const TopRow& row) { return std::tie(row.name, row.other); };
    const TopRow& left = order.reversed ? other : one;
    const TopRow& right = order.reversed ? one : other;
    if (order.column == TopColumn::name) {
      return names(left) < names(right);
    }
    if (order.column == TopColumn::other && left.other != right.other) {
      return left.other < right.other;
    }
    const double more = magnitude(left, order.column);
    const double less = magnitude(right, order.column);
    return more != less ? more > less : names(one) < names(other);
  };
  std::ranges::sort(rows, comes_first);
  return rows;
}

}  // namespace trireme::cli
