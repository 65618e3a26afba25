// SPDX-License-Identifier: Apache-2.0
#include "proved_memory.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <map>
#include <set>
#include <sstream>
#include <tuple>

#include "trireme/abi/flow_label.hpp"
#include "trireme/base/file.hpp"
#include "trireme/base/log_shares.hpp"

namespace trireme::daemon {
namespace {

using handshake::FlowKey;
using handshake::ProvedFlow;
using handshake::Role;
using policy::Number;

constexpr std::size_t kMostRecordBytes = 64U << 20U;
constexpr std::chrono::seconds kEvery(60);
/// In place of kEvery if the memory is almost full: closed connections should make room soon.
constexpr std::chrono::seconds kSoon(5);
constexpr std::size_t kCrowded = handshake::ProvedFlows::kCapacity / 4 * 3;
/// UDP flows that one look() checks in conntrack at most, so that it does not delay the event loop.
constexpr std::size_t kLookUps = 2'048;
/// Time between two checks of the same UDP flow. A flow that conntrack does not have in two checks
/// is over on every host (nf_conntrack_udp_timeout_stream is two minutes).
constexpr std::chrono::minutes kDatagrams(10);
/// Stored in place of a socket cookie: conntrack did not have this UDP flow in the last check.
constexpr std::uint64_t kMissed = 1;
/// Connections entered within this time are not checked yet: the verifier can enter a connection
/// before its socket exists, and its clock is coarse.
constexpr std::chrono::milliseconds kJustEntered(1'000);

using Ends = std::tuple<policy::Address, std::uint16_t, policy::Address, std::uint16_t>;

Ends ends(const kernel::InetSocket& socket) {
  return {socket.local, socket.local_port, socket.remote, socket.remote_port};
}

kernel::InetSocket socket_of(const FlowKey& key) {
  return {.protocol = IPPROTO_TCP,
          .local = key.local,
          .remote = key.remote,
          .local_port = key.local_port,
          .remote_port = key.remote_port};
}

handshake::Milliseconds monotonic() {
  return std::chrono::duration_cast<handshake::Milliseconds>(
      std::chrono::steady_clock::now().time_since_epoch());
}

/// Identifies a network namespace as long as it exists; 0 is the daemon's own.
std::uint64_t inode_of_point(const points::Point& point) {
  return point.network() == nullptr ? 0 : point.network()->inode();
}

std::string line(std::uint64_t inode, const char* protocol, const ProvedFlow& flow) {
  const FlowKey& key = flow.key;
  return fmt::format("{} {} {} {} {} {} {} {} {}\n", inode, protocol,
                     key.role == Role::client ? "client" : "server", key.local.text(),
                     key.local_port, key.remote.text(), key.remote_port, flow.local, flow.remote);
}

struct Saved {
  std::uint64_t inode = 0;
  bool is_datagram = false;
  ProvedFlow flow;  // without the enforcement point
};

std::optional<Saved> parse(const std::string& text) {
  std::istringstream fields(text);
  Saved saved;
  std::string protocol;
  std::string role;
  std::string local;
  std::string remote;
  fields >> saved.inode >> protocol >> role >> local >> saved.flow.key.local_port >> remote >>
      saved.flow.key.remote_port >> saved.flow.local >> saved.flow.remote;
  const auto here = policy::Address::parse(local);
  const auto there = policy::Address::parse(remote);
  if (!fields || !here || !there || (protocol != "tcp" && protocol != "udp") ||
      (role != "client" && role != "server")) {
    return std::nullopt;
  }
  saved.is_datagram = protocol == "udp";
  saved.flow.key.local = *here;
  saved.flow.key.remote = *there;
  saved.flow.key.role = role == "client" ? Role::client : Role::server;
  return saved;
}

/// Returns a connection that conntrack has marked as proved, with the addresses that its socket on
/// this host has. Returns nullopt if it is not proved, or if NAT on OUTPUT means that conntrack's
/// addresses are not those of the socket.
std::optional<ProvedFlow> proved(const kernel::TrackedFlow& tracked,
                                 const workload::Registry& registry) {
  const abi::FlowLabel label{tracked.label};
  constexpr std::uint32_t kProved = abi::kToken | abi::kAuthorized;
  const auto source = label.source();
  const auto destination = label.destination();
  const bool is_proved = !tracked.ended && (label.flags() & (kProved | abi::kResumed)) == kProved &&
                         source.value_or(0) >= abi::kFirstNumber &&
                         destination.value_or(0) >= abi::kFirstNumber;
  if (!is_proved) {
    return std::nullopt;
  }
  const kernel::FlowTuple& there = tracked.original;
  const kernel::FlowTuple& back = tracked.reply;
  if (registry.find_number(*source) == nullptr) {
    return ProvedFlow{
        FlowKey{back.source, there.source, back.source_port, there.source_port, 0, Role::server},
        *destination, *source};
  }
  const bool is_plain =
      there.destination == back.source && there.destination_port == back.source_port;
  return is_plain ? std::optional<ProvedFlow>({FlowKey{there.source, back.source, there.source_port,
                                                       back.source_port, 0, Role::client},
                                               *source, *destination})
                  : std::nullopt;
}

/// Returns a UDP flow that a workload of this host began, even if that workload has ended since.
/// The remote host may remember the flow as proved. The conntrack label says so only from the
/// second datagram on, so flows with a token count as well.
std::optional<ProvedFlow> begun(const kernel::TrackedFlow& tracked,
                                const verifier::Identities& identities) {
  const abi::FlowLabel label{tracked.label};
  const auto source = label.source();
  const kernel::FlowTuple& there = tracked.original;
  const kernel::FlowTuple& back = tracked.reply;
  const bool is_ours = !tracked.ended && (label.flags() & abi::kToken) != 0 &&
                       source.value_or(0) >= abi::kFirstNumber &&
                       identities.find(*source) == nullptr;
  return is_ours ? std::optional<ProvedFlow>({FlowKey{there.source, back.source, there.source_port,
                                                      back.source_port, 0, Role::client},
                                              *source, label.destination().value_or(0)})
                 : std::nullopt;
}

}  // namespace

ProvedMemory::ProvedMemory(handshake::Proved& proved, const std::string& runtime_dir)
    : proved_(proved), file_(verifier::proved_file(runtime_dir)) {}

void ProvedMemory::recall(const Points& points, const workload::Registry& registry,
                          const verifier::Identities& identities) {
  const auto now = monotonic();
  const auto enter = [&](ProvedFlow flow, const points::Point& point, bool is_datagram) {
    flow.key.point = point.id();
    const bool is_here = registry.find_number(flow.local) != nullptr;
    if (is_datagram) {
      // If the workload of the port has ended, keep the flow without an owner: the next process
      // that gets the port must not inherit it.
      flow.local = is_here ? flow.local : 0;
      proved_.datagrams.enter(flow, now);
    } else if (is_here && identities.find(flow.remote) != nullptr) {
      proved_.connections.enter(flow, now);
    }
  };
  std::map<std::uint64_t, const points::Point*> by_inode;
  for (points::Point* point : points) {
    by_inode[inode_of_point(*point)] = point;
  }
  const auto content = read_file(file_, kMostRecordBytes);
  if (!content && ::access(file_.c_str(), F_OK) == 0) {
    spdlog::error("cannot restore proved connections; those that conntrack forgets will end: {}",
                  content.error().text());
  }
  std::istringstream lines(content.value_or(""));
  for (std::string text; std::getline(lines, text);) {
    const auto saved = parse(text);
    const auto point = saved ? by_inode.find(saved->inode) : by_inode.end();
    if (point != by_inode.end()) {
      enter(saved->flow, *point->second, saved->is_datagram);
    }
  }
  // A daemon that was killed could not save its newest flows, so read them from conntrack.
  for (points::Point* point : points) {
    std::ignore = point->enforcer().each_flow([&](const kernel::TrackedFlow& tracked) {
      const bool is_datagram = tracked.protocol == IPPROTO_UDP;
      if (const auto flow = is_datagram ? begun(tracked, identities) : proved(tracked, registry)) {
        enter(*flow, *point, is_datagram);
      }
    });
  }
}

void ProvedMemory::look(const Points& points) {
  const auto now = std::chrono::steady_clock::now();
  const std::size_t before_look = proved_.connections.size();
  const bool is_crowded = before_look > kCrowded && made_room_ && now >= looked_ + kSoon;
  const bool is_due = now >= looked_ + kEvery;
  if (!is_due && !is_crowded) {
    return;
  }
  looked_ = now;
  const auto before = monotonic() - kJustEntered;
  std::map<handshake::PointId, std::vector<ProvedFlow>> by_point;
  for (const ProvedFlow& flow : proved_.connections.entered_before(before)) {
    by_point[flow.key.point].push_back(flow);
  }
  for (points::Point* point : points) {
    if (const auto candidates = by_point.find(point->id()); candidates != by_point.end()) {
      forget_closed(*point, candidates->second, before);
    }
  }
  made_room_ = proved_.connections.size() < before_look;
  if (!is_due) {
    return;
  }
  forget_old(points);
  keep_clients(points);
  if (Status saved = save(points); !saved && log_shares().admit("proved flows")) {
    spdlog::error("{}", saved.error().text());
  }
}

namespace {

/// The socket cookies of all connections by their endpoints. Returns nullopt if sock_diag fails.
std::optional<std::map<Ends, std::uint64_t>> connections(points::Point& point) {
  const auto sockets = point.enforcer().connections();
  if (!sockets) {
    return std::nullopt;
  }
  std::map<Ends, std::uint64_t> open;
  for (const kernel::InetSocket& socket : *sockets) {
    open[ends(socket)] = socket.whole_cookie();
  }
  return open;
}

}  // namespace

/// Removes the connections whose sockets are closed. If sock_diag fails, nothing is removed. A
/// connection with a socket is touched and becomes the newest, so that closed ones are dropped
/// first when there is no room.
void ProvedMemory::forget_closed(points::Point& point, const std::vector<ProvedFlow>& candidates,
                                 handshake::Milliseconds before) {
  auto open = connections(point);
  if (!open) {
    return;
  }
  std::vector<const ProvedFlow*> missing;
  const auto now = monotonic();
  const auto look = [&](const ProvedFlow& flow) {
    const auto known = open->find(ends(socket_of(flow.key)));
    if (known == open->end()) {
      return false;
    }
    if (flow.socket == 0 || flow.socket == known->second) {
      proved_.connections.touch(flow.key, known->second, now);
    } else {
      proved_.connections.remove(flow.key, before);
    }
    return true;
  };
  for (const ProvedFlow& flow : candidates) {
    if (!look(flow)) {
      missing.push_back(&flow);
    }
  }
  // The kernel's list is not a snapshot and can miss a socket. Only a connection that is missing
  // twice is closed.
  open = missing.empty() ? std::nullopt : connections(point);
  if (!open) {
    return;
  }
  for (const ProvedFlow* flow : missing) {
    if (!look(*flow)) {
      proved_.connections.remove(flow->key, before);
    }
  }
}

/// Removes UDP flows that no host remembers any more.
void ProvedMemory::forget_old(const Points& points) {
  std::map<handshake::PointId, points::Point*> by_id;
  for (points::Point* point : points) {
    by_id[point->id()] = point;
  }
  const auto is_known = [&](const ProvedFlow& flow) {
    const FlowKey& key = flow.key;
    const auto point = by_id.find(key.point);
    const auto tracked =
        point == by_id.end()
            ? std::nullopt
            : point->second->enforcer().find_flow(
                  IPPROTO_UDP, {key.local, key.remote, key.local_port, key.remote_port});
    // Another process can have begun a flow between the same endpoints: compare the owner.
    const abi::FlowLabel label{tracked ? tracked->label : decltype(tracked->label){}};
    return tracked && (label.flags() & abi::kAuthorized) != 0 && label.source() == flow.local;
  };
  const auto now = monotonic();
  std::size_t look_ups = 0;
  for (const ProvedFlow& flow : proved_.datagrams.entered_before(now - kDatagrams)) {
    if (look_ups++ >= kLookUps) {
      break;
    }
    if (is_known(flow)) {
      proved_.datagrams.touch(flow.key, 0, now);
    } else if (flow.socket != kMissed) {
      proved_.datagrams.touch(flow.key, kMissed, now);
    } else {
      proved_.datagrams.remove(flow.key, now - kDatagrams);
    }
  }
}

/// Writes the client sets of each enforcement point.
void ProvedMemory::keep_clients(const Points& points) {
  std::map<handshake::PointId, std::vector<FlowKey>> by_point;
  for (const ProvedFlow& flow : proved_.datagrams.entered_before(handshake::Milliseconds::max())) {
    by_point[flow.key.point].push_back(flow.key);
  }
  std::set<handshake::PointId> with_clients;
  for (points::Point* point : points) {
    const auto wanted = by_point.find(point->id());
    if (wanted == by_point.end() && !with_clients_.contains(point->id())) {
      continue;
    }
    if (wanted != by_point.end()) {
      with_clients.insert(point->id());
    }
    const Status kept = point->enforcer().keep_clients(
        wanted == by_point.end() ? std::vector<FlowKey>() : wanted->second);
    if (!kept && log_shares().admit("proved flows")) {
      spdlog::error("cannot update the clients of proved UDP flows: {}", kept.error().text());
    }
  }
  with_clients_ = std::move(with_clients);
}

Status ProvedMemory::save(const Points& points) {
  std::map<handshake::PointId, std::uint64_t> inodes;
  for (const points::Point* point : points) {
    inodes[point->id()] = inode_of_point(*point);
  }
  std::string text;
  const auto add = [&](const handshake::ProvedFlows& flows, const char* protocol) {
    for (const ProvedFlow& flow : flows.entered_before(handshake::Milliseconds::max())) {
      if (const auto inode = inodes.find(flow.key.point); inode != inodes.end()) {
        text += line(inode->second, protocol, flow);
      }
    }
  };
  add(proved_.connections, "tcp");
  add(proved_.datagrams, "udp");
  if (text == saved_) {
    return {};
  }
  Status written = replace_file(file_, text, 0600);
  if (!written) {
    return fail(
        "cannot save proved connections; those that conntrack forgets will end at the next "
        "start: " +
        written.error().message);
  }
  saved_ = std::move(text);
  return written;
}

void ProvedMemory::add_numbers(std::unordered_set<Number>& numbers) const {
  for (const ProvedFlow& flow :
       proved_.connections.entered_before(handshake::Milliseconds::max())) {
    numbers.insert(flow.remote);
  }
}

}  // namespace trireme::daemon
