// SPDX-License-Identifier: Apache-2.0
#include "trireme/points/points.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>

#include "trireme/base/log_shares.hpp"
#include "trireme/enforcer/local_policy.hpp"
#include "trireme/points/network_names.hpp"
#include "trireme/workload/network.hpp"

namespace trireme::points {

using policy::Number;
using workload::CgroupRef;

namespace {

Error unwritable(const Error& error) {
  return {"policy cannot be enforced in its network namespace: " + error.message, error.hint};
}

bool is_link_local(const policy::Address& address) {
  const bool v4 = address.family == policy::Address::Family::v4;
  return v4 ? address.bytes[0] == 169 && address.bytes[1] == 254
            : address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0U) == 0x80;
}

}  // namespace

Result<std::unique_ptr<Points>> Points::open(enforcer::Common& common, verifier::Verifier* verifier,
                                             kernel::QueueMechanism mechanism,
                                             std::shared_ptr<const policy::Policy> policy) {
  std::unique_ptr<Points> points(new Points(common, verifier, mechanism, std::move(policy)));
  auto host = points->open_point(handshake::kHome, nullptr);
  if (!host) {
    return tl::unexpected(host.error());
  }
  points->host_ = std::move(*host);
  points->look_at_addresses();
  return points;
}

datapath::Layout Points::layout(handshake::PointId point, bool owned) const {
  return {.home = owned ? home_ : 0,
          .owned = owned,
          .point = point,
          .queues = verifier_ == nullptr ? 0 : verifier_->threads(),
          .mechanism = mechanism_};
}

/// In the present namespace.
Result<std::unique_ptr<Point>> Points::open_point(
    handshake::PointId id, const std::shared_ptr<const kernel::Netns>& network) {
  return Point::open(common_, verifier_, layout(id, network != nullptr), network, policy_);
}

Status Points::start() {
  live_ = true;
  // Without a gate of an earlier daemon, start ours before the rules that rely on it.
  const bool is_first = !common_.local.takes_over();
  if (Status judged = is_first ? common_.local.start() : Status{}; !judged) {
    return judged;
  }
  if (Status started = host_->enforcer().start(); !started) {
    return started;
  }
  std::vector<std::pair<Point*, Error>> refused;
  for (const auto& [inode, point] : points_) {
    if (const Status done = point->enforcer().start(); !done) {
      refused.emplace_back(point.get(), done.error());
    }
  }
  for (const auto& [point, error] : refused) {
    lose(*point, error);
  }
  // Otherwise start the gate last: until then the earlier daemon's gate is in force. Exchanging the
  // gate's maps at the same time would delay the kernel's exchange of tables, during which allowed
  // flows can be refused.
  return is_first ? Status{} : common_.local.start();
}

void Points::lose(Point& point, const Error& error) {
  const std::shared_ptr<const kernel::Netns> network = point.network();
  point.enforcer().abandon();
  close(point);
  if (observers_) {
    observers_->on_lost(network, unwritable(error));
  }
}

Point* Points::find(std::uint64_t inode) const {
  if (inode == 0) {
    return host_.get();
  }
  const auto found = points_.find(inode);
  return found == points_.end() ? nullptr : found->second.get();
}

Point* Points::find(const std::shared_ptr<const kernel::Netns>& network) const {
  return find(network == nullptr ? 0 : network->inode());
}

Result<Point*> Points::point_of(const std::shared_ptr<const kernel::Netns>& network) {
  if (Point* known = find(network)) {
    return known;
  }
  Result<std::unique_ptr<Point>> point;
  Status watched;
  const Status entered = network->within([&] {
    point = open_point(++last_id_, network);
    if (point && observers_) {
      watched = (*point)->watch(loop_, *observers_, log_turns_, {});
    }
  });
  if (!entered) {
    return tl::unexpected(entered.error());
  }
  if (!point) {
    return tl::unexpected(point.error());
  }
  if (!watched) {
    (*point)->leave_verifier();
    return tl::unexpected(watched.error());
  }
  std::ignore =
      (*point)->enforcer().set_speakers(speakers_);  // cannot fail: no table is written yet
  return points_.emplace(network->inode(), std::move(*point)).first->second.get();
}

/// Calls `joins` with the enforcer of the cgroup's network namespace; opens a point there if
/// needed.
Status Points::join(const CgroupRef& cgroup,
                    const std::function<Status(enforcer::Enforcer&)>& joins) {
  const auto point = point_of(cgroup.network);
  if (!point) {
    return tl::unexpected(point.error());
  }
  const bool is_new = live_ && (*point)->network() != nullptr && (*point)->enforcer().empty();
  Status joined = joins((*point)->enforcer());
  if (joined && is_new) {
    // The point is new: write its table with this first workload in it.
    if (Status started = (*point)->enforcer().start(); !started) {
      std::ignore = (*point)->enforcer().end(cgroup, 0);
      joined = tl::unexpected(unwritable(started.error()));
    }
  }
  // The table of an earlier daemon, if there is one, stays and keeps refusing.
  if (!joined && (*point)->network() != nullptr && (*point)->enforcer().empty()) {
    close(**point);
  }
  return joined ? record_membership(cgroup, true) : joined;
}

Result<Number> Points::enrol(CgroupRef cgroup, const policy::LabelSet& labels, Number number) {
  const Status joined = join(cgroup, [&](enforcer::Enforcer& enforcer) -> Status {
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
  return join(cgroup, [&](enforcer::Enforcer& enforcer) {
    return enforcer.extend(cgroup, labels, number);
  });
}

/// Records that the cgroup is a member at the point of its network. It also stays at all other
/// points where it has been enrolled. Points where it was only quarantined because its network was
/// not known yet are left.
Status Points::record_membership(const CgroupRef& cgroup, bool enrolled) {
  if (cgroup.id == 0) {
    return {};
  }
  std::vector<Membership>& memberships = memberships_[cgroup.id];
  Status left;
  std::erase_if(memberships, [&](const Membership& membership) {
    if (workload::is_same_network(membership.cgroup.network, cgroup.network)) {
      enrolled = enrolled || membership.was_enrolled;
      return true;
    }
    Point* point = membership.was_enrolled ? nullptr : find(membership.cgroup.network);
    if (point != nullptr) {
      const Status ended = point->enforcer().end(membership.cgroup, 0);
      left = left ? ended : left;
      close_if_empty(*point);
    }
    return !membership.was_enrolled;
  });
  memberships.push_back({cgroup, enrolled});
  if (!left && log_shares().admit("cgroup " + cgroup.path)) {
    spdlog::error("cgroup {}: {}", cgroup.path, left.error().text());
  }
  return {};
}

Status Points::quarantine(CgroupRef cgroup) {
  // The gate quarantines the cgroup's sockets in every network namespace; the rules at the points
  // add entries in the flow log.
  Status gated = cgroup.id == 0 ? Status{} : common_.local.quarantine(cgroup);
  const Status left = orphan(cgroup);
  gated = gated ? left : gated;
  Point* point = find(cgroup.network);
  if (point == nullptr) {
    cgroup.network = nullptr;  // there is no point in that namespace
    cgroup.whole_network = false;
    point = host_.get();
    if (cgroup.path.empty()) {
      return fail("it has no cgroup of its own, and nothing is enforced in its network namespace");
    }
  }
  Status dropped = point->enforcer().quarantine(cgroup);
  std::ignore = record_membership(cgroup, false);
  for (const Membership& membership :
       cgroup.id == 0 ? std::vector<Membership>() : memberships_.at(cgroup.id)) {
    Point* other = find(membership.cgroup.network);
    if (other != nullptr && other != point) {
      const Status there = other->enforcer().quarantine(membership.cgroup);
      dropped = dropped ? there : dropped;
    }
  }
  return gated ? dropped : gated;
}

/// Quarantines the sockets of former cgroups that were kept for this cgroup.
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
    return end(cgroup, number);  // the cgroup has been removed in the meantime
  }
  Status judged = cgroup.id == 0 ? Status{} : common_.local.release(cgroup.id);
  const Status left = orphan(cgroup);
  judged = judged ? left : judged;
  const Status ended = end_at_points(cgroup, number);
  return judged ? ended : judged;
}

Status Points::end_at_points(const CgroupRef& cgroup, Number number) {
  std::vector<Membership> memberships = {{cgroup, true}};
  if (const auto known = memberships_.find(cgroup.id);
      cgroup.id != 0 && known != memberships_.end()) {
    memberships = std::move(known->second);
    memberships_.erase(known);
  }
  Status ended;
  for (const Membership& membership : memberships) {
    if (Point* point = find(membership.cgroup.network)) {
      const Status here = point->enforcer().end(membership.cgroup, number);
      ended = ended ? here : ended;
      close_if_empty(*point);
    }
  }
  return ended;
}

void Points::close_if_empty(Point& point) {
  if (point.network() == nullptr || !point.enforcer().empty()) {
    return;
  }
  if (Status removed = point.enforcer().remove();
      !removed && log_shares().admit("network namespaces")) {
    spdlog::error("cannot remove the table from a network namespace without workloads: {}",
                  removed.error().text());
  }
  close(point);
}

/// Closes everything that the daemon has open in the namespace. The table there stays.
void Points::close(Point& point) {
  point.leave_verifier();
  points_.erase(point.network()->inode());
}

Status Points::apply(std::shared_ptr<const policy::Policy> policy) {
  // A packet has to pass the gate and the rules. While the host's rules change, the gate allows
  // what either policy allows. So what both policies allow never fails, and what both refuse never
  // passes. Containers' tables follow when the gate has the new policy alone. Their packets too
  // need both, so what only one of the policies allows is refused until then, and nothing else
  // changes.
  if (Status prepared = common_.local.prepare(policy); !prepared) {
    common_.local.cancel();
    return prepared;
  }
  if (Status applied = host_->enforcer().apply(policy); !applied) {
    common_.local.cancel();
    return applied;
  }
  if (Status finished = common_.local.finish(); !finished) {
    spdlog::error("the gate still allows what the previous policy allowed: {}",
                  finished.error().text());
  }
  policy_ = policy;
  if (verifier_ != nullptr) {
    verifier_->set_policy(policy);
  }
  for (const auto& [inode, point] : points_) {
    point->enforcer().apply_soon(policy);
  }
  return {};
}

void Points::set_peers(std::vector<policy::Prefix> peers) {
  peers_ = std::move(peers);
  update_speakers();
}

void Points::set_container_networks(std::vector<policy::Prefix> networks) {
  container_networks_ = std::move(networks);
  update_speakers();
}

void Points::look_at_addresses() {
  const auto listed = host_->addresses()->list();
  if (!listed) {
    if (log_shares().admit("network namespaces")) {
      spdlog::error("{}", listed.error().text());
    }
    return;
  }
  own_addresses_.clear();
  for (const kernel::InterfaceAddress& item : *listed) {
    // An address on lo other than loopback belongs to this host too (anycast, a virtual IP).
    if (!item.address.is_loopback() && !is_link_local(item.address)) {
      own_addresses_.push_back({item.address, static_cast<std::uint8_t>(item.address.size() * 8)});
    }
  }
  if (Status set = common_.local.set_own(own_addresses_);
      !set && log_shares().admit("network namespaces")) {
    spdlog::error("cannot update this host's addresses in the gate: {}", set.error().text());
  }
  update_speakers();
}

/// All points get the same list. It may include a namespace's own addresses, because what it sends
/// to itself does not leave by an interface.
void Points::update_speakers() {
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
    if (Status set = point->enforcer().set_speakers(speakers_);
        !set && log_shares().admit("network namespaces")) {
      spdlog::error("{}", set.error().text());
    }
  }
}

/// Addresses at which no remote host answers even if [host] peers contains them: this host's own.
/// And container networks that do not overlap with [host] peers (one that does may extend to other
/// hosts).
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

std::vector<Point*> Points::all() const {
  std::vector<Point*> list = {host_.get()};
  for (const auto& [inode, point] : points_) {
    list.push_back(point.get());
  }
  return list;
}

namespace {

/// Sum of `count` over all points, or the first error after `count` was called for all of them.
template <typename Count>
Result<std::size_t> sum(const std::vector<Point*>& points, Count count) {
  Result<std::size_t> total = std::size_t{0};
  for (Point* point : points) {
    const Result<std::size_t> here = count(point->enforcer());
    if (!here) {
      total = total ? here : total;
    } else if (total) {
      *total += *here;
    }
  }
  return total;
}

}  // namespace

Result<std::size_t> Points::reevaluate_new(bool closes) {
  return sum(all(),
             [closes](enforcer::Enforcer& enforcer) { return enforcer.reevaluate_new(closes); });
}

Result<std::unordered_set<Number>> Points::numbers_in_use() {
  std::unordered_set<Number> numbers;
  for (Point* point : all()) {
    auto here = point->enforcer().numbers_in_use();
    if (!here) {
      return here;
    }
    numbers.merge(*here);
  }
  return numbers;
}

}  // namespace trireme::points
