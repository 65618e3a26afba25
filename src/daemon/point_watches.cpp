// SPDX-License-Identifier: Apache-2.0
#include "point_watches.hpp"

#include <fmt/format.h>

namespace trireme::daemon {

Status PointWatches::open(sd_event* loop, enforcer::Points& points, enforcer::Point& point,
                          FlowFeed& feed, const workload::Registry& registry,
                          Drift::Handlers handlers) {
  auto watch = PointWatch::open(loop, points, point, feed, registry, std::move(handlers));
  if (!watch) {
    return tl::unexpected(watch.error());
  }
  watches_[point.id] = std::move(*watch);
  return {};
}

void PointWatches::ended(const workload::Workload& workload) {
  for (const auto& [id, watch] : watches_) {
    watch->ended(workload);
  }
}

std::optional<policy::Flow> PointWatches::tell(const gate::Refused& refused,
                                               const workload::Registry& registry) const {
  PointWatch* where = nullptr;  // where one of both is enrolled; else this host
  for (const auto& [id, watch] : watches_) {
    if (watch->log().told(refused)) {
      return std::nullopt;
    }
    const enforcer::Enforcer& enforcer = *watch->point().enforcer;
    if (where == nullptr || enforcer.labels(refused.to) != nullptr ||
        enforcer.labels(refused.from) != nullptr) {
      where = watch.get();
    }
  }
  return where == nullptr
             ? std::nullopt
             : std::optional(where->log().tell(refused, registry, *where->point().enforcer));
}

void PointWatches::catch_up() {
  for (const auto& [id, watch] : watches_) {
    watch->drift().catch_up();
  }
}

std::vector<std::pair<enforcer::Point*, Error>> PointWatches::unwritable() const {
  std::vector<std::pair<enforcer::Point*, Error>> points;
  for (const auto& [id, watch] : watches_) {
    if (std::string failure = watch->drift().failure();
        watch->point().network != nullptr && !failure.empty()) {
      points.emplace_back(&watch->point(), Error{std::move(failure)});
    }
  }
  return points;
}

std::vector<std::string> PointWatches::problems() const {
  std::vector<std::string> lines;
  for (const auto& [id, watch] : watches_) {
    if (const auto drift = watch->drift().problem()) {
      lines.push_back(*drift);
    }
  }
  return lines;
}

std::uint64_t PointWatches::repairs() const {
  std::uint64_t count = 0;
  for (const auto& [id, watch] : watches_) {
    count += watch->drift().repairs();
  }
  return count;
}

std::uint64_t PointWatches::logs_lost() const {
  std::uint64_t count = 0;
  for (const auto& [id, watch] : watches_) {
    count += watch->lost();
  }
  return count;
}

std::uint64_t PointWatches::queued() const {
  std::uint64_t count = 0;
  for (const auto& [id, watch] : watches_) {
    count += watch->queued();
  }
  return count;
}

void PointWatches::look_at_conntrack() {
  for (const auto& [id, watch] : watches_) {
    watch->look_at_conntrack();
  }
}

std::string network_name(std::uint64_t inode) {
  return fmt::format("net:[{}]", inode);
}

std::map<std::uint64_t, std::string> network_names(
    const std::vector<const workload::Workload*>& workloads) {
  std::map<std::uint64_t, std::string> names;
  for (const workload::Workload* workload : workloads) {
    bool named = false;
    for (const workload::Place& place : workload->places) {
      if (place.network == nullptr || names.contains(place.network->inode())) {
        continue;
      }
      const std::uint64_t inode = place.network->inode();
      names[inode] = named ? workload->name + " " + network_name(inode) : workload->name;
      named = true;
    }
  }
  return names;
}

std::vector<PointWatches::ConntrackUse> PointWatches::conntrack(
    const workload::Registry& registry) const {
  const auto names = network_names(registry.all());
  std::vector<ConntrackUse> uses;
  for (const auto& [id, watch] : watches_) {
    if (const auto& count = watch->conntrack()) {
      const auto& network = watch->point().network;
      const auto name = network == nullptr ? names.end() : names.find(network->inode());
      uses.push_back({network == nullptr    ? kHostNetwork
                      : name != names.end() ? name->second
                                            : network_name(network->inode()),
                      *count, watch->conntrack_is_full()});
    }
  }
  return uses;
}

AnswerCounts PointWatches::answers() const {
  AnswerCounts sum;
  for (const auto& [id, watch] : watches_) {
    if (const AnswerWatch* answers = watch->answers()) {
      sum.believed += answers->believed();
      sum.doubted += answers->doubted();
      sum.lost += answers->lost();
    }
  }
  return sum;
}

}  // namespace trireme::daemon
