// SPDX-License-Identifier: Apache-2.0
#include "trireme/enforcer/points.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>

#include "trireme/base/log_shares.hpp"
#include "trireme/enforcer/local_policy.hpp"
#include "trireme/workload/network.hpp"

namespace trireme::enforcer {

using policy::Number;
using workload::CgroupRef;

namespace {

Error unwritable(const Error& error) {
  return {"its network namespace cannot be enforced: " + error.message, error.hint};
}

bool is_link_local(const policy::Address& address) {
  const bool v4 = address.family == policy::Address::Family::v4;
  return v4 ? address.bytes[0] == 169 && address.bytes[1] == 254
            : address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0U) == 0x80;
}

}  // namespace

Result<std::unique_ptr<Points>> Points::open(Common& common, verifier::Verifier* verifier,
                                             kernel::QueueMechanism mechanism,
                                             std::shared_ptr<const policy::Policy> policy) {
  std::unique_ptr<Points> points(new Points(common, verifier, mechanism, std::move(policy)));
  if (Status opened = points->open_here(points->host_, false); !opened) {
    return tl::unexpected(opened.error());
  }
  points->look_at_addresses();
  return points;
}

Layout Points::layout(handshake::PointId point, bool owned) const {
  return {.home = owned ? home_ : 0,
          .owned = owned,
          .point = point,
          .queues = verifier_ == nullptr ? 0 : verifier_->threads(),
          .mechanism = mechanism_};
}

/// In the present namespace.
Status Points::open_here(Point& point, bool owned) {
  auto enforcer = Enforcer::open(common_, layout(point.id, owned), policy_);
  if (!enforcer) {
    return tl::unexpected(enforcer.error());
  }
  point.enforcer = std::move(*enforcer);
  if (!owned) {
    auto addresses = kernel::AddressWatch::open();
    if (!addresses) {
      return tl::unexpected(addresses.error());
    }
    point.addresses = std::make_unique<kernel::AddressWatch>(std::move(*addresses));
  }
  if (verifier_ != nullptr) {
    auto sockets = verifier::PointSockets::open(verifier_->threads());
    if (!sockets) {
      return tl::unexpected(sockets.error());
    }
    verifier_->add_point(point.id, std::move(*sockets));
  }
  return {};
}

Status Points::start() {
  live_ = true;
  // Without an earlier gate, ours before rules that rely on it.
  const bool is_first = !common_.local.takes_over();
  if (Status judged = is_first ? common_.local.start() : Status{}; !judged) {
    return judged;
  }
  if (Status started = host_.enforcer->start(); !started) {
    return started;
  }
  std::vector<std::pair<Point*, Error>> refused;
  for (const auto& [inode, point] : points_) {
    if (const Status done = point->enforcer->start(); !done) {
      refused.emplace_back(point.get(), done.error());
    }
  }
  for (const auto& [point, error] : refused) {
    lose(*point, error);
  }
  // Else the gate last: until then rules judge, and an earlier daemon's gate where there is one.
  // What the kernel has to wait for while maps are exchanged would make its exchange of tables
  // longer, during which allowed flows can be refused.
  return is_first ? Status{} : common_.local.start();
}

void Points::lose(Point& point, const Error& error) {
  const std::shared_ptr<const kernel::Netns> network = point.network;
  point.enforcer->abandon();
  close(point);
  if (on_lost) {
    on_lost(network, unwritable(error));
  }
}

Point* Points::find(const std::shared_ptr<const kernel::Netns>& network) {
  if (network == nullptr) {
    return &host_;
  }
  const auto found = points_.find(network->inode());
  return found == points_.end() ? nullptr : found->second.get();
}

Result<Point*> Points::point_of(const std::shared_ptr<const kernel::Netns>& network) {
  if (Point* known = find(network)) {
    return known;
  }
  auto point = std::make_unique<Point>();
  point->id = ++last_id_;
  point->network = network;
  Status opened;
  const Status entered = network->within([&] {
    opened = open_here(*point, true);
    if (opened && on_open) {
      opened = on_open(*point);
    }
  });
  if (!entered || !opened) {
    if (verifier_ != nullptr) {
      verifier_->remove_point(point->id);
    }
    return tl::unexpected(!entered ? entered.error() : opened.error());
  }
  std::ignore = point->enforcer->set_speakers(speakers_);  // nothing is written yet
  return points_.emplace(network->inode(), std::move(point)).first->second.get();
}

/// `joins` puts the cgroup into the point of its network, which is made where there is none.
Status Points::join(const CgroupRef& cgroup, const std::function<Status(Enforcer&)>& joins) {
  const auto point = point_of(cgroup.network);
  if (!point) {
    return tl::unexpected(point.error());
  }
  const bool is_new = live_ && (*point)->network != nullptr && (*point)->enforcer->empty();
  Status joined = joins(*(*point)->enforcer);
  if (joined && is_new) {
    // The table is written with its first workload in it.
    if (Status started = (*point)->enforcer->start(); !started) {
      std::ignore = (*point)->enforcer->end(cgroup, 0);
      joined = tl::unexpected(unwritable(started.error()));
    }
  }
  // A table of an earlier daemon, where there is one, goes on refusing.
  if (!joined && (*point)->network != nullptr && (*point)->enforcer->empty()) {
    close(**point);
  }
  return joined ? come_home(cgroup, true) : joined;
}

Result<Number> Points::enrol(CgroupRef cgroup, const policy::LabelSet& labels, Number number) {
  const Status joined = join(cgroup, [&](Enforcer& enforcer) -> Status {
    const auto enrolled = enforcer.enrol(cgroup, labels, number);
    number = enrolled.value_or(0);
    return enrolled ? Status{} : Status(tl::unexpected(enrolled.error()));
  });
  if (!joined) {
    return tl::unexpected(joined.error());
  }
  if (cgroup.id != 0) {
    Status judged = common_.local.enrol(cgroup, number, labels);
    for (const std::uint64_t former : cgroup.former) {
      judged = judged ? common_.local.adopt(former, number) : judged;
    }
    if (!judged) {
      return tl::unexpected(judged.error());
    }
  }
  return number;
}

Status Points::extend(CgroupRef cgroup, const policy::LabelSet& labels, Number number) {
  return join(cgroup, [&](Enforcer& enforcer) { return enforcer.extend(cgroup, labels, number); });
}

/// A cgroup stays wherever it has been enrolled. Where it only waited for its network to be known
/// it is no more.
Status Points::come_home(const CgroupRef& cgroup, bool enrolled) {
  if (cgroup.id == 0) {
    return {};
  }
  std::vector<Home>& homes = homes_[cgroup.id];
  Status left;
  std::erase_if(homes, [&](const Home& home) {
    if (workload::is_same_network(home.cgroup.network, cgroup.network)) {
      enrolled = enrolled || home.was_enrolled;
      return true;
    }
    Point* point = home.was_enrolled ? nullptr : find(home.cgroup.network);
    if (point != nullptr) {
      const Status ended = point->enforcer->end(home.cgroup, 0);
      left = left ? ended : left;
      close_if_empty(*point);
    }
    return !home.was_enrolled;
  });
  homes.push_back({cgroup, enrolled});
  if (!left && log_shares().admit("cgroup " + cgroup.path)) {
    spdlog::error("cgroup {}: {}", cgroup.path, left.error().text());
  }
  return {};
}

Status Points::quarantine(CgroupRef cgroup) {
  // Whatever network the cgroup's sockets are in; rules at the points say so in the flow log.
  Status shut = cgroup.id == 0 ? Status{} : common_.local.quarantine(cgroup);
  const Status left = orphan(cgroup);
  shut = shut ? left : shut;
  Point* point = find(cgroup.network);
  if (point == nullptr) {
    cgroup.network = nullptr;  // nothing of it was ever enforced there
    cgroup.whole_network = false;
    point = &host_;
    if (cgroup.path.empty()) {
      return fail(
          "it has no cgroup that could be shut, and nothing is enforced in its network namespace");
    }
  }
  Status dropped = point->enforcer->quarantine(cgroup);
  std::ignore = come_home(cgroup, false);
  for (const Home& home : cgroup.id == 0 ? std::vector<Home>() : homes_.at(cgroup.id)) {
    Point* other = find(home.cgroup.network);
    if (other != nullptr && other != point) {
      const Status there = other->enforcer->quarantine(home.cgroup);
      dropped = dropped ? there : dropped;
    }
  }
  return shut ? dropped : shut;
}

/// What was kept for the cgroup is nobody's.
Status Points::orphan(const CgroupRef& cgroup) {
  Status done;
  for (const std::uint64_t former : cgroup.former) {
    const Status left = common_.local.orphan(former);
    done = done ? left : done;
  }
  return done;
}

Status Points::end(const CgroupRef& cgroup, Number number) {
  Status judged = cgroup.id == 0 ? Status{} : common_.local.end(cgroup.id);
  const Status left = orphan(cgroup);
  judged = judged ? left : judged;
  const Status ended = end_at_points(cgroup, number);
  return judged ? ended : judged;
}

Status Points::release(const CgroupRef& cgroup, Number number) {
  const auto there = cgroup.path.empty() ? Result<std::uint64_t>(0) : common_.tree.id(cgroup.path);
  if (!there || *there != cgroup.id) {
    return end(cgroup, number);  // it has gone meanwhile
  }
  Status judged = cgroup.id == 0 ? Status{} : common_.local.release(cgroup.id);
  const Status left = orphan(cgroup);
  judged = judged ? left : judged;
  const Status ended = end_at_points(cgroup, number);
  return judged ? ended : judged;
}

Status Points::end_at_points(const CgroupRef& cgroup, Number number) {
  std::vector<Home> homes = {{cgroup, true}};
  if (const auto known = homes_.find(cgroup.id); cgroup.id != 0 && known != homes_.end()) {
    homes = std::move(known->second);
    homes_.erase(known);
  }
  Status ended;
  for (const Home& home : homes) {
    if (Point* point = find(home.cgroup.network)) {
      const Status here = point->enforcer->end(home.cgroup, number);
      ended = ended ? here : ended;
      close_if_empty(*point);
    }
  }
  return ended;
}

void Points::close_if_empty(Point& point) {
  if (point.network == nullptr || !point.enforcer->empty()) {
    return;
  }
  if (Status removed = point.enforcer->remove();
      !removed && log_shares().admit("network namespaces")) {
    spdlog::error("a network namespace that has no workload any more keeps its table: {}",
                  removed.error().text());
  }
  close(point);
}

/// Lets go of the namespace; what is written there stays.
void Points::close(Point& point) {
  if (on_close) {
    on_close(point);
  }
  if (verifier_ != nullptr) {
    verifier_->remove_point(point.id);
  }
  points_.erase(point.network->inode());
}

Status Points::apply(std::shared_ptr<const policy::Policy> policy) {
  // A packet has to pass the gate and the rules. While the rules change, the gate lets pass what
  // either policy allows; so what both allow never fails, and what both refuse never passes.
  if (Status prepared = common_.local.prepare(policy); !prepared) {
    common_.local.cancel();
    return prepared;
  }
  if (Status applied = host_.enforcer->apply(policy); !applied) {
    common_.local.cancel();
    return applied;
  }
  if (Status finished = common_.local.finish(); !finished) {
    spdlog::error("the gate still lets pass what the former policy allowed: {}",
                  finished.error().text());
  }
  policy_ = policy;
  if (verifier_ != nullptr) {
    verifier_->set_policy(policy);
  }
  for (const auto& [inode, point] : points_) {
    point->enforcer->apply_soon(policy);
  }
  return {};
}

void Points::set_peers(std::vector<policy::Prefix> peers) {
  peers_ = std::move(peers);
  spread_speakers();
}

void Points::set_container_networks(std::vector<policy::Prefix> networks) {
  container_networks_ = std::move(networks);
  spread_speakers();
}

void Points::look_at_addresses() {
  const auto listed = host_.addresses->list();
  if (!listed) {
    if (log_shares().admit("network namespaces")) {
      spdlog::error("{}", listed.error().text());
    }
    return;
  }
  own_addresses_.clear();
  for (const kernel::InterfaceAddress& item : *listed) {
    // An address on lo is this host's as any other is (anycast, a virtual IP).
    if (!item.address.is_loopback() && !is_link_local(item.address)) {
      own_addresses_.push_back({item.address, static_cast<std::uint8_t>(item.address.size() * 8)});
    }
  }
  if (Status told = common_.local.set_own(own_addresses_);
      !told && log_shares().admit("network namespaces")) {
    spdlog::error("the gate does not know this host's addresses: {}", told.error().text());
  }
  spread_speakers();
}

/// One list for all points: what a namespace sends to itself never leaves by an interface.
void Points::spread_speakers() {
  std::vector<policy::Prefix> together = peers_;
  for (const auto* part : {&container_networks_, &own_addresses_}) {
    together.insert(together.end(), part->begin(), part->end());
  }
  together = policy::disjoint(std::move(together));
  if (verifier_ == nullptr) {
    return;
  }
  if (auto near = find_near(); near != near_) {
    near_ = std::move(near);
    verifier_->set_near(near_);
  }
  if (together == speakers_) {
    return;
  }
  speakers_ = std::move(together);
  for (Point* point : all()) {
    if (Status set = point->enforcer->set_speakers(speakers_);
        !set && log_shares().admit("network namespaces")) {
      spdlog::error("{}", set.error().text());
    }
  }
}

/// A network of containers may reach to other hosts, if [host] peers has some of it.
std::vector<policy::Prefix> Points::find_near() const {
  std::vector<policy::Prefix> list = own_addresses_;
  std::ranges::copy_if(
      container_networks_, std::back_inserter(list), [this](const policy::Prefix& network) {
        return std::ranges::none_of(peers_, [&](const policy::Prefix& peers) {
          return peers.contains(network.address) || network.contains(peers.address);
        });
      });
  return policy::disjoint(std::move(list));
}

std::vector<Point*> Points::all() {
  std::vector<Point*> list = {&host_};
  for (const auto& [inode, point] : points_) {
    list.push_back(point.get());
  }
  return list;
}

namespace {

/// Adds up what `count` says of each point; the first error, after all were asked.
template <typename Count>
Result<std::size_t> sum(const std::vector<Point*>& points, Count count) {
  Result<std::size_t> total = std::size_t{0};
  for (Point* point : points) {
    const Result<std::size_t> here = count(*point->enforcer);
    if (!here) {
      total = total ? here : total;
    } else if (total) {
      *total += *here;
    }
  }
  return total;
}

}  // namespace

Result<std::size_t> Points::settle() {
  return sum(all(), [](Enforcer& enforcer) { return enforcer.settle(); });
}

Result<std::unordered_set<Number>> Points::numbers_in_use() {
  std::unordered_set<Number> numbers;
  for (Point* point : all()) {
    auto here = point->enforcer->numbers_in_use();
    if (!here) {
      return here;
    }
    numbers.merge(*here);
  }
  return numbers;
}

}  // namespace trireme::enforcer
