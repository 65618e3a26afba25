// SPDX-License-Identifier: Apache-2.0
#include "trireme/base/log_shares.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace trireme {
namespace {

constexpr std::size_t kCounted = 1024;  // owners that are counted separately
constexpr std::size_t kNamed = 3;       // of these, named in the summary

}  // namespace

bool LogShares::admit(std::string_view owner, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (shares_.take(owner, now)) {
    return true;
  }
  left_out_++;
  if (const auto known = counts_.find(owner); known != counts_.end()) {
    known->second++;
  } else if (counts_.size() < kCounted) {
    counts_.emplace(owner, 1);
  } else {
    others_++;
  }
  return false;
}

std::string LogShares::take_summary() {
  const std::lock_guard lock(mutex_);
  if (counts_.empty()) {
    return {};
  }
  std::vector<std::pair<std::string, std::uint64_t>> owners(counts_.begin(), counts_.end());
  const std::uint64_t sum =
      std::accumulate(owners.begin(), owners.end(), others_,
                      [](std::uint64_t before, const auto& item) { return before + item.second; });
  const auto named = owners.begin() + static_cast<std::ptrdiff_t>(std::min(kNamed, owners.size()));
  std::partial_sort(owners.begin(), named, owners.end(),
                    [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string text =
      fmt::format("rate limit: {} log {} left out:", sum, sum == 1 ? "line" : "lines");
  std::uint64_t shown = 0;
  for (auto owner = owners.begin(); owner != named; ++owner) {
    text += fmt::format("{} {} for {}", owner == owners.begin() ? "" : ",", owner->second,
                        loggable(owner->first, 80));
    shown += owner->second;
  }
  if (sum > shown) {
    text += fmt::format(", {} for others", sum - shown);
  }
  counts_.clear();
  others_ = 0;
  return text;
}

std::uint64_t LogShares::left_out() const {
  const std::lock_guard lock(mutex_);
  return left_out_;
}

LogShares& log_shares() {
  static LogShares shares;
  return shares;
}

std::string loggable(std::string_view text, std::size_t most) {
  constexpr std::string_view kCut = "...";
  const bool cut = text.size() > most;
  std::string line(text.substr(0, cut ? most - std::min(most, kCut.size()) : text.size()));
  std::ranges::replace_if(
      line, [](char byte) { return byte < ' ' || byte > '~'; }, '?');
  return cut ? line.append(kCut) : line;
}

}  // namespace trireme
