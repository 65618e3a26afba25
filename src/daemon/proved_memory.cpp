#include "proved_memory.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>

#include <map>
#include <set>
#include <sstream>
#include <tuple>

#include "trireme/base/file.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/enforcer/flow_label.hpp"

namespace trireme::daemon {
namespace {

using handshake::FlowKey;
using handshake::ProvedFlow;
using handshake::Role;
using policy::Number;

constexpr std::size_t kMostBytes = 16U << 20U;
constexpr std::chrono::seconds kEvery(60);
/// The verifier's clock is coarse, and its entry may be a moment ahead of the socket.
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

/// What names a network namespace as long as it lives; 0: the daemon's own.
std::uint64_t inode_of(const enforcer::Point& point) {
  return point.network == nullptr ? 0 : point.network->inode();
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

/// A flow that conntrack knows to be proved, as its packets here have it; none of TCP where NAT on
/// OUTPUT gives the socket other ends than packets have.
std::optional<ProvedFlow> proved(const kernel::TrackedFlow& tracked,
                                 const workload::Registry& registry) {
  const enforcer::FlowLabel label{tracked.label};
  constexpr std::uint32_t kProved = enforcer::kToken | enforcer::kAuthorised;
  const auto source = label.source();
  const auto destination = label.destination();
  const bool is_proved =
      !tracked.ended && (label.flags() & (kProved | enforcer::kResumed)) == kProved &&
      source.value_or(0) >= policy::kFirstNumber && destination.value_or(0) >= policy::kFirstNumber;
  if (!is_proved) {
    return std::nullopt;
  }
  const kernel::FlowTuple& there = tracked.original;
  const kernel::FlowTuple& back = tracked.reply;
  if (registry.find_number(*source) != nullptr) {
    const bool is_plain =
        there.destination == back.source && there.destination_port == back.source_port;
    return is_plain || tracked.protocol == IPPROTO_UDP
               ? std::optional<ProvedFlow>({FlowKey{there.source, back.source, there.source_port,
                                                    back.source_port, 0, Role::client},
                                            *source, *destination})
               : std::nullopt;
  }
  return ProvedFlow{
      FlowKey{back.source, there.source, back.source_port, there.source_port, 0, Role::server},
      *destination, *source};
}

}  // namespace

ProvedMemory::ProvedMemory(handshake::Proved& proved, const std::string& runtime_dir)
    : proved_(proved), file_(verifier::proved_file(runtime_dir)) {}

void ProvedMemory::recall(const Points& points, const workload::Registry& registry,
                          const verifier::Identities& identities) {
  const auto now = monotonic();
  const auto enter = [&](ProvedFlow flow, const enforcer::Point& point,
                         handshake::ProvedFlows& flows) {
    flow.key.point = point.id;
    if (registry.find_number(flow.local) != nullptr && identities.find(flow.remote) != nullptr) {
      flows.enter(flow, now);
    }
  };
  std::map<std::uint64_t, const enforcer::Point*> by_inode;
  for (enforcer::Point* point : points) {
    by_inode[inode_of(*point)] = point;
  }
  const auto content = read_file(file_, kMostBytes);
  std::istringstream lines(content.value_or(""));
  for (std::string text; std::getline(lines, text);) {
    const auto saved = parse(text);
    const auto point = saved ? by_inode.find(saved->inode) : by_inode.end();
    if (point != by_inode.end()) {
      enter(saved->flow, *point->second,
            saved->is_datagram ? proved_.datagrams : proved_.connections);
    }
  }
  // A daemon that was killed had no time to save its last ones.
  for (enforcer::Point* point : points) {
    std::ignore = point->enforcer->each_flow([&](const kernel::TrackedFlow& tracked) {
      if (auto flow = proved(tracked, registry)) {
        const bool is_datagram = tracked.protocol == IPPROTO_UDP;
        if (!is_datagram || flow->key.role == Role::client) {
          enter(*flow, *point, is_datagram ? proved_.datagrams : proved_.connections);
        }
      }
    });
    keep_ports(*point);
  }
}

void ProvedMemory::look(const Points& points) {
  const auto now = std::chrono::steady_clock::now();
  if (now < due_) {
    return;
  }
  due_ = now + kEvery;
  const auto before = monotonic() - kJustEntered;
  std::map<handshake::PointId, std::vector<ProvedFlow>> by_point;
  for (const ProvedFlow& flow : proved_.connections.entered_before(before)) {
    by_point[flow.key.point].push_back(flow);
  }
  for (enforcer::Point* point : points) {
    if (const auto candidates = by_point.find(point->id); candidates != by_point.end()) {
      forget_closed(*point, candidates->second, before);
    }
    keep_ports(*point);
  }
  if (Status saved = save(points); !saved && log_shares().admit("proved flows")) {
    spdlog::error("{}", saved.error().text());
  }
}

/// Where sock_diag does not answer nothing is forgotten.
void ProvedMemory::forget_closed(enforcer::Point& point, const std::vector<ProvedFlow>& candidates,
                                 handshake::Milliseconds before) {
  const auto sockets = point.enforcer->connections();
  if (!sockets) {
    return;
  }
  std::set<Ends> open;
  for (const kernel::InetSocket& socket : *sockets) {
    open.insert(ends(socket));
  }
  for (const ProvedFlow& flow : candidates) {
    const kernel::InetSocket socket = socket_of(flow.key);
    if (!open.contains(ends(socket)) && !point.enforcer->has_connection(socket).value_or(true)) {
      proved_.connections.remove(flow.key, before);
    }
  }
}

void ProvedMemory::keep_ports(enforcer::Point& point) {
  if (Status kept = point.enforcer->keep_client_ports();
      !kept && log_shares().admit("proved flows")) {
    spdlog::error("ports of UDP flows that were proved: {}", kept.error().text());
  }
}

Status ProvedMemory::save(const Points& points) {
  std::map<handshake::PointId, std::uint64_t> inodes;
  for (const enforcer::Point* point : points) {
    inodes[point->id] = inode_of(*point);
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
    return fail("connections to peers that conntrack forgets will end with the next start: " +
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
