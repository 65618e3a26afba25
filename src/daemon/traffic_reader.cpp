// SPDX-License-Identifier: Apache-2.0
#include "traffic_reader.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <functional>
#include <limits>
#include <set>
#include <string_view>
#include <tuple>

#include "sockets_here.hpp"
#include "trireme/control/pair_totals.hpp"

namespace trireme::daemon {
namespace {

constexpr std::size_t kMostGone = 10'000;
/// After all events that change what is enforced.
constexpr std::int64_t kReadingPriority = event::kNormal + 20;

std::chrono::nanoseconds thread_time() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

std::vector<std::pair<std::string, std::uint64_t>> count_identities(
    const std::vector<TrafficRequest::Member>& members) {
  std::unordered_map<std::string, std::uint64_t> counts;
  for (const TrafficRequest::Member& member : members) {
    counts[control::identity_text(member.labels)]++;
  }
  std::vector<std::pair<std::string, std::uint64_t>> sorted(counts.begin(), counts.end());
  // An answer has room for so much text: long label sets of one user leave it to others.
  std::ranges::sort(sorted, {}, [](const auto& each) {
    return std::tuple(std::numeric_limits<std::uint64_t>::max() - each.second, each.first.size(),
                      std::string_view(each.first));
  });
  return sorted;
}

}  // namespace

void CgroupNumbers::use(const std::vector<TrafficRequest::Member>& members) {
  by_id_.clear();
  by_path_.clear();
  has_read_tree_ = false;
  for (const TrafficRequest::Member& member : members) {
    for (const std::uint64_t id : member.cgroups) {
      by_id_.emplace(id, member.number);
    }
    if (!member.path.empty()) {
      by_path_.emplace(member.path, member.number);
    }
  }
}

std::optional<policy::Number> CgroupNumbers::find(std::uint64_t cgroup) {
  if (cgroup == 0) {
    return std::nullopt;
  }
  if (const auto known = by_id_.find(cgroup); known != by_id_.end()) {
    return known->second;
  }
  const std::string* found = path_of(cgroup);
  if (found == nullptr) {
    return std::nullopt;
  }
  policy::Number number = abi::kHost;
  for (std::string path = *found; !path.empty(); path.resize(path.rfind('/'))) {
    if (const auto above = by_path_.find(path); above != by_path_.end()) {
      number = above->second;
      break;
    }
  }
  by_id_.emplace(cgroup, number);
  return number;
}

/// A cgroup keeps its path as long as it exists, and no later one gets its id.
const std::string* CgroupNumbers::path_of(std::uint64_t cgroup) {
  auto found = paths_.find(cgroup);
  if (found == paths_.end() && !has_read_tree_ && !gone_.contains(cgroup)) {
    has_read_tree_ = true;
    paths_.clear();
    if (const auto top = tree_.id("/")) {
      paths_.emplace(*top, "");
    }
    for (std::string& path : tree_.all()) {
      if (const auto id = tree_.id(path)) {
        paths_.emplace(*id, std::move(path));
      }
    }
    found = paths_.find(cgroup);
    if (found == paths_.end()) {
      if (gone_.size() >= kMostGone) {
        gone_.clear();
      }
      gone_.insert(cgroup);
    }
  }
  return found == paths_.end() ? nullptr : &found->second;
}

Result<std::unique_ptr<TrafficReader>> TrafficReader::open(
    sd_event* loop, const kernel::CgroupTree& tree, const handshake::ProvedFlows& proved,
    const handshake::IdentityBook& identities, Done done) {
  std::unique_ptr<TrafficReader> reader(
      new TrafficReader(tree, proved, identities, std::move(done)));
  reader->ready_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!reader->ready_.valid()) {
    return fail_errno("cannot create an eventfd");
  }
  if (Status opened = reader->readable_.open(
          loop, reader->ready_.get(), EPOLLIN,
          [&made = *reader](std::uint32_t /*events*/) { made.take_result(); }, kReadingPriority);
      !opened) {
    return tl::unexpected(opened.error());
  }
  reader->thread_ =
      std::jthread([&made = *reader](const std::stop_token& stop) { made.run(stop); });
  return reader;
}

void TrafficReader::read(TrafficRequest request) {
  {
    const std::scoped_lock lock(mutex_);
    request_ = std::move(request);
  }
  asked_.notify_one();
}

void TrafficReader::run(const std::stop_token& stop) {
  while (true) {
    std::optional<TrafficRequest> request;
    {
      std::unique_lock lock(mutex_);
      if (!asked_.wait(lock, stop, [this] { return request_.has_value(); })) {
        return;
      }
      request = std::exchange(request_, std::nullopt);
    }
    auto read = read_now(*request, stop);
    {
      const std::scoped_lock lock(mutex_);
      result_ = std::move(read);
    }
    ::eventfd_write(ready_.get(), 1);
  }
}

Result<TrafficReading> TrafficReader::read_now(const TrafficRequest& request,
                                               const std::stop_token& stop) {
  const std::chrono::nanoseconds began = thread_time();
  TrafficReading reading;
  reading.complete = true;
  reading.identities = count_identities(request.members);
  numbers_.use(request.members);
  std::unordered_map<std::uint64_t, policy::Number> whole;
  for (const TrafficRequest::Member& member : request.members) {
    if (member.path.empty() && member.network != 0) {
      whole.emplace(member.network, member.number);
    }
  }
  std::unordered_map<std::uint64_t, handshake::PointId> points;
  for (const TrafficRequest::Network& each : request.networks) {
    points.emplace(inode_of(each.network), each.point);
  }
  const auto proved_by = [&](const policy::LiveSocket& socket) {
    const auto point = points.find(socket.network);
    return point == points.end() ? std::nullopt : proof_of(socket.sends, point->second);
  };
  TrafficCounter counter(
      baseline_, [this](std::uint64_t cgroup) { return numbers_.find(cgroup); }, proved_by);
  std::set<std::uint64_t> networks;
  for (const TrafficRequest::Network& each : request.networks) {
    networks.insert(inode_of(each.network));
  }
  baseline_.begin(networks);
  const ReadingTime budget;
  for (const TrafficRequest::Network& each : request.networks) {
    if (stop.stop_requested() || (budget.is_over() && each.network != nullptr)) {
      reading.complete = false;
      break;
    }
    auto sockets = connections_in(each.network);
    if (!sockets && each.network == nullptr) {
      return tl::unexpected(sockets.error());
    }
    if (!sockets) {
      reading.complete = false;  // its container may be ending
      continue;
    }
    const std::uint64_t network = inode_of(each.network);
    const auto owner = whole.find(network);
    counter.add(network, sockets->tcp, std::move(sockets->addresses),
                owner == whole.end() ? std::nullopt : std::optional(owner->second));
  }
  reading.at = std::chrono::steady_clock::now();
  reading.groups = counter.groups();
  reading.complete = reading.complete && counter.is_complete();
  reading.used = thread_time() - began;
  return reading;
}

/// What the other end of a connection has proved, whose socket sends like this.
std::optional<TrafficProof> TrafficReader::proof_of(const policy::Direction& sends,
                                                    handshake::PointId point) const {
  for (const handshake::Role role : {handshake::Role::client, handshake::Role::server}) {
    const auto flow = proved_.find(
        {sends.source, sends.destination, sends.source_port, sends.destination_port, point, role});
    if (flow) {
      const auto remote = identities_.find(flow->remote);
      return TrafficProof{.is_client = role == handshake::Role::client,
                          .remote = flow->remote,
                          .is_near = remote && remote->peer->type == wire::CredentialType::local};
    }
  }
  return std::nullopt;
}

void TrafficReader::take_result() {
  eventfd_t value = 0;
  ::eventfd_read(ready_.get(), &value);
  std::optional<Result<TrafficReading>> result;
  {
    const std::scoped_lock lock(mutex_);
    result = std::exchange(result_, std::nullopt);
  }
  if (result) {
    done_(std::move(*result));
  }
}

}  // namespace trireme::daemon
