// SPDX-License-Identifier: Apache-2.0
#include "traffic.hpp"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "connection_groups.hpp"
#include "daemon.hpp"
#include "sockets_here.hpp"
#include "trireme/enforcer/flow_log.hpp"

namespace trireme::daemon {
namespace {

using nlohmann::json;

/// For how long after the request that began it an answer is used. A little less than the second
/// after which a caller asks again, whose clock is not exact.
constexpr std::chrono::milliseconds kAnswerFresh(950);
/// Readings use at most a twentieth of a processor.
constexpr int kPause = 20;
/// After all events that change what is enforced.
constexpr std::int64_t kTrafficPriority = event::kNormal + 20;
/// Callers that wait for an answer, those included who have hung up.
constexpr std::size_t kMostWaiting = 1'000;
/// Work of one turn of the loop.
constexpr std::size_t kWorkloadsOfTurn = 1'000;
constexpr std::chrono::milliseconds kTurn(2);
/// Limits of an answer: a list has at most this many entries, and this much text.
constexpr std::size_t kMostListed = 1'000;
constexpr std::size_t kMostText = 512U << 10U;
/// The share of one owner of pairs in that text: an eighth.
constexpr std::size_t kMostOwnText = kMostText / 8;

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
  void leave_out() { left_out_++; }
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
      loop, daemon.tree(), daemon.tokens().proved().connections, daemon.tokens().identities(),
      [&made = *traffic](Result<TrafficReading> reading) { made.take(std::move(reading)); });
  if (!reader) {
    return tl::unexpected(reader.error());
  }
  traffic->reader_ = std::move(*reader);
  return traffic;
}

void Traffic::answer(const control::Reply& reply) {
  const auto now = Clock::now();
  const bool is_idle = phase_ == Phase::idle;
  if (is_idle && answer_ != nullptr && now - asked_ < kAnswerFresh) {
    reply.result_line(answer_);
    return;
  }
  if (waiting_.size() >= kMostWaiting) {
    std::erase_if(waiting_, [](const control::Reply& each) { return !each.open(); });
  }
  if (waiting_.size() >= kMostWaiting) {
    reply.error({"too many callers wait for this answer", "try again"});
    return;
  }
  waiting_.push_back(reply);
  if (!is_idle) {
    return;
  }
  if (now < next_reading_) {
    asked_ = now;
    compose();  // with new counts of flows, and the connections of the last reading
    return;
  }
  asked_ = now;
  worked_ = {};
  request_ = {};
  listed_.clear();
  begin(Phase::listing);
}

void Traffic::begin(Phase phase) {
  phase_ = phase;
  turn_.arm(std::chrono::microseconds(0));
}

/// One turn of what runs in the loop.
void Traffic::go_on() {
  const auto began = Clock::now();
  const Phase phase = phase_;
  const bool is_done = phase == Phase::listing      ? list_workloads()
                       : phase == Phase::describing ? describe()
                                                    : add();
  if (is_done && phase == Phase::describing) {
    daemon_.flows().totals().begin_open(std::chrono::system_clock::now());
    phase_ = Phase::adding;
  } else if (is_done && phase == Phase::adding) {
    finish();
  }
  worked_ += Clock::now() - began;
  if (phase_ == Phase::idle) {
    next_reading_ =
        asked_ + std::max<Clock::duration>(kAnswerFresh, (reading_.used + worked_) * kPause);
  } else if (phase_ != Phase::reading) {
    turn_.arm(std::chrono::microseconds(0));
  }
}

/// Returns true once the reader has got all of them.
bool Traffic::list_workloads() {
  const auto workloads = daemon_.registry().after(listed_, kWorkloadsOfTurn);
  for (const workload::Workload* workload : workloads) {
    if (workload->state != workload::State::unenforced) {
      request_.members.push_back(member_of(*workload));
    }
  }
  if (workloads.size() == kWorkloadsOfTurn) {
    listed_ = workloads.back()->name;
    return false;
  }
  for (const points::Point* point : daemon_.enforcement().all()) {
    request_.networks.push_back({point->network(), point->id()});
  }
  phase_ = Phase::reading;
  reader_->read(std::exchange(request_, {}));
  return true;
}

void Traffic::take(Result<TrafficReading> reading) {
  if (!reading) {
    phase_ = Phase::idle;
    next_reading_ = Clock::now() + kAnswerFresh;
    answer_ = nullptr;  // not of the request that began this reading
    if (unread_) {
      unread_ = reading.error();
    }
    for (const control::Reply& reply : std::exchange(waiting_, {})) {
      reply.error(reading.error());
    }
    return;
  }
  unread_ = std::nullopt;
  reading_ = std::move(*reading);
  described_ = 0;
  open_.clear();
  begin(Phase::describing);
}

/// Returns true when all groups are described.
bool Traffic::describe() {
  const auto end = Clock::now() + kTurn;
  while (described_ < reading_.groups.size() && Clock::now() < end) {
    describe(reading_.groups[described_++]);
  }
  return described_ == reading_.groups.size();
}

void Traffic::describe(const TrafficGroup& group) {
  points::Points& points = daemon_.enforcement();
  const points::Point* point = points.find(group.network);  // it may have gone since
  const enforcer::Enforcer& enforcer = (point == nullptr ? &points.host() : point)->enforcer();
  const auto from = end_of(group.from, group.to, enforcer);
  const auto to = end_of(group.to, group.from, enforcer);
  if (!from || !to) {
    return;
  }
  control::PairTotals::Open& open =
      open_[{control::identity_text(*from), control::identity_text(*to)}];
  open.connections += group.connections;
  if (group.bytes) {
    open.bytes = open.bytes.value_or(0) + *group.bytes;
  }
  open.owner = control::PairTotals::owner_of(*from);
}

/// Returns true when all pairs are added.
bool Traffic::add() {
  const auto end = Clock::now() + kTurn;
  while (!open_.empty() && Clock::now() < end) {
    const auto pair = open_.extract(open_.begin());
    daemon_.flows().totals().add_open(pair.key(), pair.mapped());
  }
  return open_.empty();
}

void Traffic::finish() {
  daemon_.flows().totals().end_open();
  reading_.groups.clear();
  phase_ = Phase::idle;
  compose();
}

/// Nullopt if the workload has ended since the sockets were read: its connections end with it.
std::optional<policy::FlowEnd> Traffic::end_of(const TrafficEnd& end, const TrafficEnd& other,
                                               const enforcer::Enforcer& enforcer) const {
  policy::FlowEnd made;
  if (end.number == abi::kHost) {
    made.entity = "@host";
    return made;
  }
  if (end.number == abi::kNoNumber && end.address == policy::Address{}) {
    made.entity = "@world";  // one of too many addresses
    return made;
  }
  if (!is_workload(end.number)) {
    return enforcer::end_without_labels(end.number, end.address, other.number, enforcer);
  }
  if (const workload::Workload* workload = daemon_.registry().find_number(end.number)) {
    made.labels = workload->labels;
    made.workload = workload->name;
  } else if (const auto remote = daemon_.tokens().identities().find(end.number)) {
    made.labels = remote->labels;
    // A workload of this host, beyond NAT, has the name of its labels.
    made.host = remote->peer->type == wire::CredentialType::local ? "" : remote->peer->name;
  } else {
    return std::nullopt;
  }
  return made;
}

json Traffic::identities() {
  Listed listed;
  for (const auto& [labels, workloads] : reading_.identities) {
    if (listed.has_room(labels.size())) {
      listed.add({{"labels", labels}, {"workloads", workloads}});
    }
  }
  identities_left_out_ = listed.left_out();
  return listed.take();
}

json Traffic::pairs() {
  Listed listed;
  std::unordered_map<const std::string*, std::size_t> texts;  // by owner
  const control::PairTotals& totals = daemon_.flows().totals();
  for (const control::PairTotals::Pair& pair : totals.newest()) {
    const std::size_t text = pair.key->from.size() + pair.key->to.size();
    std::size_t& own = texts[pair.owner];
    if (own + text > kMostOwnText) {
      listed.leave_out();
    } else if (listed.has_room(text)) {
      own += text;
      listed.add(pair_json(pair));
    }
  }
  pairs_left_out_ = listed.left_out() + totals.left_out();
  return listed.take();
}

/// Builds the answer, and gives it to everybody who waits for it.
void Traffic::compose() {
  const auto waiting = std::exchange(waiting_, {});
  if (unread_) {
    for (const control::Reply& reply : waiting) {
      reply.error(*unread_);
    }
    return;
  }
  json answer = {{"at", monotonic_seconds(Clock::now())},
                 {"read", monotonic_seconds(reading_.at)},
                 {"since", monotonic_seconds(since_)},
                 {"complete", reading_.complete},
                 {"forgotten", daemon_.flows().totals().forgotten()},
                 {"identities", identities()},
                 {"pairs", pairs()}};
  answer["left_out"] = {{"identities", identities_left_out_}, {"pairs", pairs_left_out_}};
  answer_ = control::Reply::make_line(answer);
  for (const control::Reply& reply : waiting) {
    reply.result_line(answer_);
  }
}

}  // namespace trireme::daemon
