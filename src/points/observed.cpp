// SPDX-License-Identifier: Apache-2.0
// What all enforcement points observe, together.
#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "trireme/points/network_names.hpp"
#include "trireme/points/points.hpp"

namespace trireme::points {

namespace {

template <typename Count>
std::uint64_t total(const Points& points, Count count) {
  std::uint64_t sum = 0;
  for (const Point* point : points.all()) {
    sum += count(*point);
  }
  return sum;
}

}  // namespace

Status Points::watch(sd_event* loop, Observers observers) {
  loop_ = loop;
  observers_.emplace(std::move(observers));
  if (Status opened = log_turns_.open(loop); !opened) {
    return opened;
  }
  return host_->watch(loop, *observers_, log_turns_, [this] { look_at_addresses(); });
}

void Points::remember_ended(const workload::Workload& workload) {
  for (Point* point : all()) {
    point->remember_ended(workload);
  }
}

policy::Flow Points::describe(const gate::Refused& refused) const {
  const Point* where = host_.get();  // unless an end is enrolled at another point
  for (const Point* point : all()) {
    const enforcer::Enforcer& enforcer = point->enforcer();
    if (enforcer.labels(refused.to) != nullptr || enforcer.labels(refused.from) != nullptr) {
      where = point;
    }
  }
  return where->describe(refused);
}

void Points::catch_up() {
  for (Point* point : all()) {
    point->catch_up();
  }
}

std::size_t Points::lose_unwritable() {
  std::vector<std::pair<Point*, Error>> unwritable;
  for (const auto& [inode, point] : points_) {
    if (std::string failure = point->failure(); !failure.empty()) {
      unwritable.emplace_back(point.get(), Error{std::move(failure)});
    }
  }
  for (const auto& [point, error] : unwritable) {
    lose(*point, error);
  }
  return unwritable.size();
}

std::vector<std::string> Points::problems() const {
  std::vector<std::string> lines;
  for (const Point* point : all()) {
    if (auto problem = point->problem()) {
      lines.push_back(std::move(*problem));
    }
  }
  return lines;
}

std::uint64_t Points::repairs() const {
  return total(*this, [](const Point& point) { return point.repairs(); });
}

std::uint64_t Points::logs_lost() const {
  return total(*this, [](const Point& point) { return point.logs_lost(); });
}

std::uint64_t Points::queued() const {
  return total(*this, [](const Point& point) { return point.queued(); });
}

AnswerCounts Points::answers() const {
  AnswerCounts sum;
  for (const Point* point : all()) {
    const AnswerCounts here = point->answers();
    sum.believed += here.believed;
    sum.doubted += here.doubted;
    sum.lost += here.lost;
  }
  return sum;
}

std::size_t Points::named() const {
  return total(*this, [](const Point& point) { return point.enforcer().named(); });
}

void Points::read_conntrack() {
  for (Point* point : all()) {
    point->read_conntrack();
  }
}

std::vector<Points::ConntrackUse> Points::conntrack() const {
  const auto names = observers_ ? network_names(observers_->registry.all())
                                : std::map<std::uint64_t, std::string>();
  std::vector<ConntrackUse> uses;
  for (const Point* point : all()) {
    if (const auto& count = point->conntrack()) {
      const auto name = point->is_host() ? names.end() : names.find(point->network()->inode());
      uses.push_back({point->is_host()      ? kHostNetwork
                      : name != names.end() ? name->second
                                            : network_name(point->network()->inode()),
                      *count, point->conntrack_is_full()});
    }
  }
  return uses;
}

}  // namespace trireme::points
