// SPDX-License-Identifier: Apache-2.0
#include "traffic.hpp"

#include <algorithm>
#include <utility>

#include "connection_groups.hpp"
#include "daemon.hpp"
#include "sockets_here.hpp"
#include "trireme/enforcer/flow_log.hpp"

namespace trireme::daemon {
namespace {

using nlohmann::json;

/// How long an answer is used.
constexpr std::chrono::seconds kAnswerFresh(1);
/// A reading uses at most a twentieth of a processor.
constexpr int kPause = 20;
/// After all events that change what is enforced.
constexpr std::int64_t kTrafficPriority = event::kNormal + 20;
/// Work of one turn of the loop.
constexpr std::size_t kWorkloadsOfTurn = 1'000;
constexpr std::chrono::milliseconds kTurn(2);
/// Limits of an answer: a list has at most this many entries, and this much text.
constexpr std::size_t kMostListed = 1'000;
constexpr std::size_t kMostText = 512U << 10U;

double monotonic_seconds(std::chrono::steady_clock::time_point time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

TrafficRequest::Member member_of(const workload::Workload& workload) {
  TrafficRequest::Member member;
  member.number = workload.state == workload::State::enforced ? workload.number : abi::kQuarantine;
  member.path = workload.cgroup_path;
  if (workload.cgroup_id != 0) {
    member.cgroups.push_back(workload.cgroup_id);
  }
  std::ranges::copy(workload.former, std::back_inserter(member.cgroups));
  if (workload.cgroup_path.empty() && !workload.places.empty()) {
    member.network = inode_of(workload.places.front().network);
  }
  member.labels = workload.labels;
  return member;
}

/// Entries of a list, as long as the limits allow.
class Listed {
 public:
  /// False if there is no room: the entry is left out.
  [[nodiscard]] bool has_room(std::size_t text) {
    if (list_.size() >= kMostListed || text_ + text > kMostText) {
      left_out_++;
      return false;
    }
    text_ += text;
    return true;
  }
  void add(json entry) { list_.push_back(std::move(entry)); }
  [[nodiscard]] std::size_t left_out() const { return left_out_; }
  [[nodiscard]] json take() { return std::move(list_); }

 private:
  json list_ = json::array();
  std::size_t text_ = 0;
  std::size_t left_out_ = 0;
};

json pair_json(const control::PairTotals::Pair& pair) {
  const control::PairTotals::Totals& totals = *pair.totals;
  json object = {{"from", pair.key->from},
                 {"to", pair.key->to},
                 {"connections", totals.connections},
                 {"denied", totals.denied},
                 {"audited", totals.audited},
                 {"allowed", totals.allowed},
                 {"last", std::chrono::system_clock::to_time_t(totals.last)}};
  if (totals.bytes) {
    object["bytes"] = *totals.bytes;
  }
  return object;
}

}  // namespace

Result<std::unique_ptr<Traffic>> Traffic::open(sd_event* loop, Daemon& daemon) {
  std::unique_ptr<Traffic> traffic(new Traffic(daemon));
  if (Status opened = traffic->turn_.open(
          loop, [&made = *traffic] { made.go_on(); }, kTrafficPriority, event::kExact);
      !opened) {
    return tl::unexpected(opened.error());
  }
  auto reader = TrafficReader::open(
      loop, daemon.tree(), daemon.tokens().proved().connections,
      [&made = *traffic](Result<TrafficReading> reading) { made.take(std::move(reading)); });
  if (!reader) {
    return tl::unexpected(reader.error());
  }
  traffic->reader_ = std::move(*reader);
  return traffic;
}

void Traffic::answer(const control::Reply& reply) {
  const auto now = Clock::now();
  if (!answer_.is_null() && now - answered_ < kAnswerFresh) {
    reply.result(answer_);
    return;
  }
  waiting_.push_back(reply);
  if (phase_ != Phase::idle) {
    return;
  }
  if (now < next_reading_) {
    compose();  // flows are counted anew, connections are those of the last reading
    return;
  }
  phase_ = Phase::listing;
  request_ = {};
  listed_.clear();
  turn_.arm(std::chrono::microseconds(0));
}

/// One turn of what runs in the loop.
void Traffic::go_on() {
  phase_ == Phase::listing ? list_workloads() : describe();
}

void Traffic::list_workloads() {
  const auto workloads = daemon_.registry().after(listed_, kWorkloadsOfTurn);
  for (const workload::Workload* workload : workloads) {
    if (workload->state != workload::State::unenforced) {
      request_.members.push_back(member_of(*workload));
    }
  }
  if (workloads.size() == kWorkloadsOfTurn) {
    listed_ = workloads.back()->name;
    turn_.arm(std::chrono::microseconds(0));
    return;
  }
  for (const points::Point* point : daemon_.enforcement().all()) {
    request_.networks.push_back({point->network(), point->id()});
  }
  phase_ = Phase::reading;
  reader_->read(std::exchange(request_, {}));
}

void Traffic::take(Result<TrafficReading> reading) {
  if (!reading) {
    phase_ = Phase::idle;
    next_reading_ = Clock::now() + kAnswerFresh;
    for (const control::Reply& reply : std::exchange(waiting_, {})) {
      reply.error(reading.error());
    }
    return;
  }
  reading_ = std::move(*reading);
  next_reading_ = Clock::now() + std::max<Clock::duration>(kAnswerFresh, reading_.used * kPause);
  phase_ = Phase::describing;
  described_ = 0;
  open_.clear();
  describe();
}

void Traffic::describe() {
  const auto end = Clock::now() + kTurn;
  Points points;  // anew in each turn: enforcement points come and go
  for (points::Point* point : daemon_.enforcement().all()) {
    points.emplace(inode_of(point->network()), point);
  }
  while (described_ < reading_.groups.size()) {
    describe(reading_.groups[described_++], points);
    if (Clock::now() >= end) {
      turn_.arm(std::chrono::microseconds(0));
      return;
    }
  }
  control::PairTotals& totals = daemon_.flows().totals();
  totals.begin_open(std::chrono::system_clock::now());
  for (const auto& [pair, found] : std::exchange(open_, {})) {
    totals.add_open(pair, found);
  }
  totals.end_open();
  reading_.groups.clear();
  phase_ = Phase::idle;
  compose();
}

void Traffic::describe(const TrafficGroup& group, const Points& points) {
  const auto found = points.find(group.network);
  const enforcer::Enforcer& enforcer =
      (found == points.end() ? points.begin() : found)->second->enforcer();
  const policy::FlowEnd from = end_of(group.from, group.to, enforcer);
  const policy::FlowEnd to = end_of(group.to, group.from, enforcer);
  control::PairTotals::Open& open =
      open_[{control::identity_text(from), control::identity_text(to)}];
  open.connections += group.connections;
  open.bytes += group.bytes;
  open.owner = control::PairTotals::owner_of(from);
}

policy::FlowEnd Traffic::end_of(const TrafficEnd& end, const TrafficEnd& other,
                                const enforcer::Enforcer& enforcer) const {
  if (end.number == abi::kHost) {
    policy::FlowEnd host;
    host.entity = "@host";
    return host;
  }
  if (!is_workload(end.number)) {
    return enforcer::end_without_labels(end.number, end.address, other.number, enforcer);
  }
  policy::FlowEnd made;
  made.labels.emplace();
  if (const workload::Workload* workload = daemon_.registry().find_number(end.number)) {
    made.labels = workload->labels;
    made.workload = workload->name;
  } else if (const auto remote = daemon_.tokens().identities().find(end.number)) {
    made.labels = remote->labels;
    made.host = remote->peer->name;
  }
  return made;
}

/// Builds the answer, and gives it to everybody who waits for it.
void Traffic::compose() {
  Listed identities;
  for (const auto& [labels, workloads] : reading_.identities) {
    if (identities.has_room(labels.size())) {
      identities.add({{"labels", labels}, {"workloads", workloads}});
    }
  }
  Listed pairs;
  const control::PairTotals& totals = daemon_.flows().totals();
  for (const control::PairTotals::Pair& pair : totals.newest()) {
    if (pairs.has_room(pair.key->from.size() + pair.key->to.size())) {
      pairs.add(pair_json(pair));
    }
  }
  answered_ = Clock::now();
  answer_ = {
      {"at", monotonic_seconds(answered_)},
      {"read", monotonic_seconds(reading_.at)},
      {"since", monotonic_seconds(since_)},
      {"complete", reading_.complete},
      {"left_out",
       {{"identities", identities.left_out()}, {"pairs", pairs.left_out() + totals.left_out()}}},
      {"forgotten", totals.forgotten()},
      {"identities", identities.take()},
      {"pairs", pairs.take()}};
  for (const control::Reply& reply : std::exchange(waiting_, {})) {
    reply.result(answer_);
  }
}

}  // namespace trireme::daemon
