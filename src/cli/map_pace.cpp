// SPDX-License-Identifier: Apache-2.0
#include "map_pace.hpp"

#include <algorithm>

namespace trireme::cli {
namespace {

using namespace std::chrono_literals;

constexpr MapPace::Duration kShortestRest = 1s;
constexpr MapPace::Duration kLongestRest = 60s;
/// Maps use at most this part of the time, for the daemon and trirectl together.
constexpr int kShareOfMaps = 20;

}  // namespace

MapPace::Duration MapPace::after(std::optional<Duration> took) {
  if (!took) {
    return kShortestRest;
  }
  const Duration cost = std::min(*took, last_.value_or(*took));
  last_ = took;
  return std::clamp(cost * kShareOfMaps, kShortestRest, kLongestRest);
}

}  // namespace trireme::cli
