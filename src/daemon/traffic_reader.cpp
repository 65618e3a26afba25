// SPDX-License-Identifier: Apache-2.0
#include "traffic_reader.hpp"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <functional>
#include <iterator>
#include <limits>
#include <numeric>
#include <set>
#include <string_view>
#include <tuple>

#include "sockets_here.hpp"
#include "trireme/control/pair_totals.hpp"
#include "trireme/kernel/probe.hpp"

namespace trireme::daemon {
namespace {

constexpr std::size_t kMostGone = 10'000;
/// Processor time in which a reading lists sockets. What it leaves out is next time's. Together
/// with a process that hangs (SocketLister::Settings) less than the 5 s that trirectl top waits.
constexpr std::chrono::seconds kMostTime(2);
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

bool CgroupNumbers::is_known(std::uint64_t cgroup) const {
  return cgroup == 0 || by_id_.contains(cgroup) || paths_.contains(cgroup) ||
         gone_.contains(cgroup);
}

void CgroupNumbers::use(const std::vector<TrafficRequest::Member>& members,
                        const std::unordered_set<std::uint64_t>& cgroups) {
  by_id_.clear();
  by_path_.clear();
  for (const TrafficRequest::Member& member : members) {
    for (const std::uint64_t id : member.cgroups) {
      by_id_.emplace(id, member.number);
    }
    if (!member.path.empty()) {
      by_path_.emplace(member.path, member.number);
    }
  }
  if (std::ranges::all_of(cgroups, [this](std::uint64_t id) { return is_known(id); })) {
    return;
  }
  // A cgroup keeps its path as long as it exists, and no later one gets its id. The sockets were
  // listed before, so a cgroup of theirs that is not in the tree now is gone.
  paths_ = read_tree_();
  if (gone_.size() >= kMostGone) {
    gone_.clear();
  }
  std::ranges::copy_if(cgroups, std::inserter(gone_, gone_.end()),
                       [this](std::uint64_t id) { return !is_known(id); });
}

std::optional<policy::Number> CgroupNumbers::find(std::uint64_t cgroup) {
  if (const auto known = by_id_.find(cgroup); known != by_id_.end()) {
    return known->second;
  }
  const auto found = paths_.find(cgroup);
  if (cgroup == 0 || found == paths_.end()) {
    return std::nullopt;
  }
  policy::Number number = abi::kHost;
  for (std::string path = found->second; !path.empty(); path.resize(path.rfind('/'))) {
    if (const auto above = by_path_.find(path); above != by_path_.end()) {
      number = above->second;
      break;
    }
  }
  by_id_.emplace(cgroup, number);
  return number;
}

CgroupNumbers::Paths paths_of(const kernel::CgroupTree& tree) {
  CgroupNumbers::Paths paths;
  if (const auto top = tree.id("/")) {
    paths.emplace(*top, "");
  }
  for (std::string& path : tree.all()) {
    if (const auto id = tree.id(path)) {
      paths.emplace(*id, std::move(path));
    }
  }
  return paths;
}

std::vector<std::size_t> NetworkTurns::order(const std::vector<std::uint64_t>& networks) const {
  std::vector<std::size_t> indices(networks.size());
  std::iota(indices.begin(), indices.end(), std::size_t{0});
  const auto others = indices.begin() + (indices.empty() ? 0 : 1);
  std::rotate(others,
              std::find_if(others, indices.end(),
                           [&](std::size_t index) { return networks[index] >= next_; }),
              indices.end());
  return indices;
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
  const std::chrono::nanoseconds began = thread_time() + lister_.used();
  const auto all_read = read_sockets(request, stop);
  if (!all_read) {
    return tl::unexpected(all_read.error());
  }
  TrafficReading reading;
  reading.at = std::chrono::steady_clock::now();
  reading.identities = count_identities(request.members);
  const bool all_counted = count(request, reading);
  reading.complete = *all_read && all_counted;
  reading.used = thread_time() + lister_.used() - began;
  return reading;
}

/// Lists the sockets of as many network namespaces as time allows; of the others, those of an
/// earlier reading stay. Returns false if some were not read now. Errors: the daemon's own cannot
/// be read.
Result<bool> TrafficReader::read_sockets(const TrafficRequest& request,
                                         const std::stop_token& stop) {
  const std::chrono::nanoseconds end = thread_time() + lister_.used() + kMostTime;
  const auto kernel = kernel::running_version();
  const bool has_bytes = kernel && SocketLister::is_safe(*kernel);
  wants_bytes_ = has_bytes;
  std::vector<std::uint64_t> inodes;
  for (const TrafficRequest::Network& each : request.networks) {
    inodes.push_back(inode_of(each.network));
  }
  std::erase_if(sockets_, [exist = std::set(inodes.begin(), inodes.end())](const auto& each) {
    return !exist.contains(each.first);
  });
  bool all_read = true;
  for (const std::size_t index : turns_.order(inodes)) {
    const auto& network = request.networks[index].network;
    if (network != nullptr && (stop.stop_requested() || thread_time() + lister_.used() >= end)) {
      turns_.end_before(inodes[index]);
      return false;
    }
    auto found = read_network(network, stop);
    if (found) {
      sockets_.insert_or_assign(inodes[index], std::move(*found));
    } else if (network == nullptr) {
      return tl::unexpected(found.error());
    } else {
      sockets_.erase(inodes[index]);  // its container may be ending
      all_read = false;
    }
  }
  turns_.end_before(std::nullopt);
  return all_read && wants_bytes_ == has_bytes;
}

/// With bytes if possible. If the process that lists them does not answer, none are read in this
/// reading: at the next one it may have ended, and another is started.
Result<SocketsHere> TrafficReader::read_network(const std::shared_ptr<const kernel::Netns>& network,
                                                const std::stop_token& stop) {
  if (!wants_bytes_) {
    return connections_in(network);
  }
  auto tcp = lister_.list(network, stop);
  if (!tcp) {
    if (!lister_.answers() && !std::exchange(has_warned_, true) && !stop.stop_requested()) {
      spdlog::warn("the bytes of connections are not counted: {}", tcp.error().text());
    }
    wants_bytes_ = lister_.answers();
    return connections_in(network);
  }
  has_warned_ = false;
  auto found = addresses_in(network);
  if (found) {
    found->tcp = std::move(*tcp);
  }
  return found;
}

/// Returns false if there were too many connections.
bool TrafficReader::count(const TrafficRequest& request, TrafficReading& reading) {
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
  std::unordered_set<std::uint64_t> cgroups;
  std::set<std::uint64_t> networks;
  for (const auto& [inode, found] : sockets_) {
    networks.insert(inode);
    for (const kernel::InetSocket& socket : found.tcp) {
      cgroups.insert(socket.cgroup_id);
    }
  }
  numbers_.use(request.members, cgroups);
  TrafficCounter counter(
      baseline_, [this](std::uint64_t cgroup) { return numbers_.find(cgroup); },
      [&](const policy::LiveSocket& socket) {
        const auto point = points.find(socket.network);
        return point == points.end() ? std::nullopt : proof_of(socket.sends, point->second);
      });
  baseline_.begin(networks);
  for (const auto& [inode, found] : sockets_) {
    const auto owner = whole.find(inode);
    counter.add(inode, found.tcp, found.addresses,
                owner == whole.end() ? std::nullopt : std::optional(owner->second));
  }
  reading.groups = counter.groups();
  return counter.is_complete();
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
