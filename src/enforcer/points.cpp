#include "trireme/enforcer/points.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "trireme/enforcer/local_policy.hpp"

namespace trireme::enforcer {

using policy::Number;
using workload::CgroupRef;

namespace {

constexpr std::uint32_t kLoopbackDevice = 1;

std::uint64_t inode_of(const std::shared_ptr<const kernel::Netns>& network) {
  return network == nullptr ? 0 : network->inode();
}

Error unwritable(const Error& error) {
  return {"its network namespace cannot be enforced: " + error.message, error.hint};
}

bool is_link_local(const policy::Address& address) {
  const bool v4 = address.family == policy::Address::Family::v4;
  return v4 ? address.bytes[0] == 169 && address.bytes[1] == 254
            : address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0U) == 0x80;
}

policy::Prefix network_of(policy::Address address, std::uint8_t length) {
  for (std::size_t bit = length; bit < address.size() * 8; bit++) {
    address.bytes.at(bit / 8) &= static_cast<std::uint8_t>(~(0x80U >> bit % 8));
  }
  return {address, length};
}

}  // namespace

Result<std::unique_ptr<Points>> Points::open(Common& common, verifier::Verifier* verifier,
                                             kernel::QueueMechanism mechanism,
                                             std::shared_ptr<const policy::Policy> policy) {
  std::unique_ptr<Points> points(new Points(common, verifier, mechanism, std::move(policy)));
  if (Status opened = points->open_here(points->host_, false); !opened) {
    return tl::unexpected(opened.error());
  }
  points->look_at_addresses(points->host_);
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
  auto addresses = kernel::AddressWatch::open();
  if (!addresses) {
    return tl::unexpected(addresses.error());
  }
  point.addresses = std::make_unique<kernel::AddressWatch>(std::move(*addresses));
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
  // The gate last: until then rules judge, and an earlier daemon's gate where there is one. What
  // the kernel has to wait for while maps are exchanged would make its exchange of tables longer,
  // during which allowed flows can be refused.
  return common_.local == nullptr ? Status{} : common_.local->start();
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
  Point* made = points_.emplace(network->inode(), std::move(point)).first->second.get();
  if (!live_) {
    look_at_addresses(*made);
  }
  return made;
}

Result<Number> Points::enrol(CgroupRef cgroup, const policy::LabelSet& labels, Number number) {
  const auto point = point_of(cgroup.network);
  if (!point) {
    return tl::unexpected(point.error());
  }
  const bool is_new = live_ && (*point)->network != nullptr && (*point)->enforcer->empty();
  auto enrolled = (*point)->enforcer->enrol(cgroup, labels, number);
  if (enrolled && is_new) {
    // The table is written with its first workload in it.
    if (Status started = (*point)->enforcer->start(); !started) {
      std::ignore = (*point)->enforcer->end(cgroup, *enrolled);
      enrolled = tl::unexpected(unwritable(started.error()));
    } else {
      look_at_addresses(
          **point);  // which tells every other point: not before it is sure that this one stays
    }
  }
  if (!enrolled) {
    // A table of an earlier daemon, where there is one, goes on refusing.
    if ((*point)->network != nullptr && (*point)->enforcer->empty()) {
      close(**point);
    }
    return enrolled;
  }
  if (Status left = leave_elsewhere(cgroup, **point); !left) {
    spdlog::error("cgroup {}: {}", cgroup.path, left.error().text());
  }
  if (common_.local != nullptr && cgroup.id != 0) {
    Status judged = common_.local->enrol(cgroup.id, *enrolled, labels);
    for (const std::uint64_t former : cgroup.former) {
      judged = judged ? common_.local->adopt(former, *enrolled) : judged;
    }
    if (!judged) {
      return tl::unexpected(judged.error());
    }
  }
  if (Status opened = cgroup.path.empty()
                          ? Status{}
                          : kernel::TrafficGate::open(common_.tree.absolute(cgroup.path));
      !opened) {
    return tl::unexpected(opened.error());
  }
  return enrolled;
}

/// A cgroup is in one place: where it was before its network was known, it is no more.
Status Points::leave_elsewhere(const CgroupRef& cgroup, const Point& stays) {
  if (cgroup.id == 0) {
    return {};
  }
  const std::uint64_t here = inode_of(stays.network);
  const auto [home, first] = homes_.emplace(cgroup.id, here);
  const std::uint64_t before = home->second;
  home->second = here;
  if (first || before == here) {
    return {};
  }
  const auto point = points_.find(before);
  Point* old = before == 0 ? &host_ : point == points_.end() ? nullptr : point->second.get();
  if (old == nullptr) {
    return {};
  }
  Status ended = old->enforcer->end(cgroup, 0);
  close_if_empty(*old);
  return ended;
}

Status Points::quarantine(CgroupRef cgroup) {
  // Whatever network the cgroup's sockets are in; rules at the point itself say so in the flow log.
  Status shut;
  if (!cgroup.is_default && !cgroup.path.empty() && common_.gate) {
    shut = common_.gate->shut(common_.tree.absolute(cgroup.path));
  }
  Point* point = find(cgroup.network);
  if (point == nullptr) {
    cgroup.network = nullptr;  // nothing of it was ever enforced there
    cgroup.whole_network = false;
    point = &host_;
    if (cgroup.path.empty()) {
      return fail(
          "it has no cgroup that could be shut, and nothing is enforced in its network namespace");
    }
    if (shut && !common_.gate) {
      shut = tl::unexpected(common_.gate.error());
    }
  }
  Status judged;
  if (common_.local != nullptr && cgroup.id != 0) {
    judged = common_.local->quarantine(cgroup.id);
    for (const std::uint64_t former : cgroup.former) {
      const Status left = common_.local->orphan(former);
      judged = judged ? left : judged;
    }
  }
  const Status dropped = point->enforcer->quarantine(cgroup);
  const Status left = leave_elsewhere(cgroup, *point);
  return !shut ? shut : !judged ? judged : !dropped ? dropped : left;
}

Status Points::end(const CgroupRef& cgroup, Number number) {
  const Status judged = end_local(cgroup);
  const Status ended = end_at_point(cgroup, number);
  return judged ? ended : judged;
}

Status Points::end_local(const CgroupRef& cgroup) const {
  if (common_.local == nullptr || cgroup.id == 0) {
    return {};
  }
  const auto there = common_.tree.id(cgroup.path);
  const bool lives_on = !cgroup.path.empty() && there && *there == cgroup.id &&
                        (cgroup.lone_sockets || common_.tree.populated(cgroup.path));
  Status ended = common_.local->end(cgroup.id, lives_on);
  for (const std::uint64_t former : cgroup.former) {
    const Status left = common_.local->orphan(former);
    ended = ended ? left : ended;
  }
  return ended;
}

Status Points::end_at_point(const CgroupRef& cgroup, Number number) {
  std::uint64_t home = inode_of(cgroup.network);
  if (const auto known = homes_.find(cgroup.id); cgroup.id != 0 && known != homes_.end()) {
    home = known->second;
    homes_.erase(known);
  }
  const auto found = points_.find(home);
  Point* point = home == 0 ? &host_ : found == points_.end() ? nullptr : found->second.get();
  if (point == nullptr) {
    return {};
  }
  Status ended = point->enforcer->end(cgroup, number);
  close_if_empty(*point);
  if (!cgroup.path.empty() && !cgroup.is_default) {
    const Status opened = kernel::TrafficGate::open(common_.tree.absolute(cgroup.path));
    ended = ended ? opened : ended;
  }
  return ended;
}

void Points::close_if_empty(Point& point) {
  if (point.network == nullptr || !point.enforcer->empty()) {
    return;
  }
  if (Status removed = point.enforcer->remove(); !removed) {
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
  spread_speakers();
}

Status Points::apply(std::shared_ptr<const policy::Policy> policy) {
  // A packet has to pass the gate and the rules. While the rules change, the gate lets pass what
  // either policy allows; so what both allow never fails, and what both refuse never passes.
  LocalPolicy* local = common_.local;
  if (Status prepared = local == nullptr ? Status{} : local->prepare(policy); !prepared) {
    local->cancel();
    return prepared;
  }
  if (Status applied = host_.enforcer->apply(policy); !applied) {
    if (local != nullptr) {
      local->cancel();
    }
    return applied;
  }
  if (Status finished = local == nullptr ? Status{} : local->finish(); !finished) {
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

void Points::look_at_addresses(Point& point) {
  const auto listed = point.addresses->list();
  if (!listed) {
    spdlog::error("{}", listed.error().text());
    return;
  }
  point.speakers.clear();
  for (const kernel::InterfaceAddress& item : *listed) {
    // An address on lo is this host's as any other is (anycast, a virtual IP); what a container
    // has on its lo is not on a link.
    const bool on_no_link = item.device == kLoopbackDevice && point.network != nullptr;
    if (on_no_link || item.address.is_loopback() || is_link_local(item.address)) {
      continue;
    }
    const auto whole = static_cast<std::uint8_t>(item.address.size() * 8);
    point.speakers.push_back(
        network_of(item.address, point.network == nullptr ? whole : item.length));
  }
  spread_speakers();
}

/// One list for all points: what a namespace sends to itself never leaves by an interface.
void Points::spread_speakers() {
  std::vector<policy::Prefix> together = peers_;
  for (const Point* point : all()) {
    together.insert(together.end(), point->speakers.begin(), point->speakers.end());
  }
  together = policy::disjoint(std::move(together));
  if (verifier_ == nullptr || together == speakers_) {
    return;
  }
  speakers_ = std::move(together);
  for (Point* point : all()) {
    if (Status set = point->enforcer->set_speakers(speakers_); !set) {
      spdlog::error("{}", set.error().text());
    }
  }
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
