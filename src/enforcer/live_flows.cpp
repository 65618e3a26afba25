// SPDX-License-Identifier: Apache-2.0
// Re-evaluates open flows after a change of policy or of workloads.
#include "live_flows.hpp"
#include "version.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <set>
#include <tuple>
#include <unordered_set>

#include "trireme/abi/flow_label.hpp"
#include "trireme/enforcer/enforcer.hpp"
#include "trireme/enforcer/local_policy.hpp"
#include "trireme/policy/world.hpp"

namespace trireme::enforcer {

using kernel::TrackedFlow;

namespace {

/// The endpoint of a flow as the compiled sets represent it.
policy::SetPeer peer(policy::Number number, const policy::Address& address) {
  if (number == abi::kNoNumber || number == abi::kHost) {
    return {.number = 0, .address = address, .local = number == abi::kHost};
  }
  return {.number = number, .address = {}};
}

/// The flows that a list of sockets has or may have.
class Touched {
 public:
  void add(const kernel::InetSocket& socket) {
    // sock_diag does not report the cgroup of a half-open connection: it counts as its listener's.
    if (socket.protocol == IPPROTO_UDP || socket.remote_port == 0) {
      open_.insert({socket.protocol, socket.local, socket.local_port});
    } else {
      connections_.insert(
          {socket.protocol, {socket.local, socket.remote, socket.local_port, socket.remote_port}});
    }
  }

  [[nodiscard]] bool empty() const { return open_.empty() && connections_.empty(); }

  /// A client's socket sends in the original direction, a server's in the reply direction.
  [[nodiscard]] bool has(const TrackedFlow& flow) const {
    return is_from(flow.protocol, flow.original) || answers(flow);
  }
  [[nodiscard]] bool answers(const TrackedFlow& flow) const {
    return is_from(flow.protocol, flow.reply);
  }

 private:
  [[nodiscard]] bool is_from(std::uint8_t protocol, const kernel::FlowTuple& tuple) const {
    return connections_.contains({protocol, tuple}) ||
           std::ranges::any_of(policy::bound_addresses(tuple.source),
                               [&](const policy::Address& local) {
                                 return open_.contains({protocol, local, tuple.source_port});
                               });
  }

  /// Protocol, local address and port of listeners and UDP sockets.
  std::set<std::tuple<std::uint8_t, policy::Address, std::uint16_t>> open_;
  std::set<std::pair<std::uint8_t, kernel::FlowTuple>> connections_;  // as the socket sends
};

}  // namespace

Result<std::size_t> change_flows(kernel::Conntrack& conntrack,
                                 const std::function<bool(const TrackedFlow&)>& which,
                                 const std::function<Status(const TrackedFlow&)>& change) {
  std::vector<TrackedFlow> flows;
  Status outcome = conntrack.each([&](const TrackedFlow& flow) {
    if (which(flow)) {
      flows.push_back(flow);
    }
  });
  for (const TrackedFlow& flow : flows) {
    const Status changed = change(flow);
    outcome = outcome ? changed : outcome;
  }
  if (!outcome) {
    return tl::unexpected(outcome.error());
  }
  return flows.size();
}

/// True if the number stands for a workload here, a remote identity, @host or an unlabeled peer.
bool Enforcer::knows(policy::Number number) const {
  return number == abi::kNoNumber || number == abi::kHost || labels_.contains(number) ||
         common_.identities.find(number) != nullptr;
}

/// True if the policy allows a flow between a workload here and a remote identity.
bool Enforcer::agrees(policy::Number source, policy::Number destination, std::uint8_t protocol,
                      std::uint16_t port) const {
  const auto remote = common_.identities.find(labels_.contains(source) ? destination : source);
  const auto local = labels_.find(labels_.contains(source) ? source : destination);
  if (remote == nullptr || local == labels_.end()) {
    return false;
  }
  const policy::Endpoint here{.kind = policy::Endpoint::Kind::workload,
                              .labels = &local->second,
                              .workload = local->first,
                              .address = {}};
  const policy::Endpoint there{.kind = policy::Endpoint::Kind::workload,
                               .labels = &remote->labels,
                               .workload = 0,
                               .address = {}};
  const bool outgoing = local->first == source;
  return policy::evaluate(*version_->policy, outgoing ? here : there, outgoing ? there : here,
                          protocol, port)
             .verdict != policy::Verdict::deny;
}

bool Enforcer::allows(const TrackedFlow& flow) const {
  const abi::FlowLabel label{flow.label};
  const auto source = label.source();
  const auto destination = label.destination();
  if (!source || !destination || !knows(*source) || !knows(*destination) ||
      (*source <= abi::kHost && *destination <= abi::kHost)) {
    return false;
  }
  if (version_->policy->mode == policy::Mode::audit &&
      (label.flags() & (abi::kAudited | abi::kToken)) != 0) {
    return true;  // was logged when it began; other flows are logged with their next packet
  }
  const auto is_remote = [this](policy::Number number) {
    return number >= abi::kFirstNumber && !labels_.contains(number);
  };
  if (is_remote(*source) || is_remote(*destination)) {
    // If conntrack had forgotten the connection, only the verifier knows which endpoint began it.
    // If one direction alone is allowed, the verdict is cleared and the verifier judges the next
    // segment.
    return agrees(*source, *destination, flow.protocol, flow.reply.source_port) &&
           ((label.flags() & abi::kResumed) == 0 ||
            agrees(*destination, *source, flow.protocol, flow.original.source_port));
  }
  const auto is_allowed = [&](const policy::SetPeer& from, const policy::SetPeer& to,
                              std::uint16_t port) {
    return policy::judge(version_->compiler.tables(), version_->compiler.elements(), from, to,
                         flow.protocol, port)
        .has_value();
  };
  const policy::SetPeer one = peer(*source, flow.original.source);
  const policy::SetPeer other = peer(*destination, flow.reply.source);
  // With an unlabeled peer, it is unknown which endpoint began a connection that conntrack had
  // forgotten: either direction is enough.
  return is_allowed(one, other, flow.reply.source_port) ||
         ((label.flags() & abi::kResumed) != 0 &&
          is_allowed(other, one, flow.original.source_port));
}

Result<std::size_t> Enforcer::revoke(bool closes) {
  const auto changed = change_flows(
      conntrack_,
      [this](const TrackedFlow& flow) {
        return (flow.label[0] & abi::kAuthorized) != 0 && !allows(flow);
      },
      [this](const TrackedFlow& flow) { return take_back(flow); });
  const auto ended = closes ? end_connections() : Result<std::size_t>(0);
  return changed && !ended ? ended : changed;
}

/// Withdraws the verdict of a flow. On lo, rules check only packets that begin a flow, so clearing
/// the bits is not enough there: UDP entries are removed, connections closed by end_connections().
Status Enforcer::take_back(const TrackedFlow& flow) {
  if (!is_local(flow)) {
    return conntrack_.clear_label_bits(flow, abi::kVerdictBits);
  }
  if (flow.protocol == IPPROTO_UDP) {
    return conntrack_.remove(flow);
  }
  // In audit mode the flow goes on and the gate logs it. Otherwise end_connections() closes it.
  return common_.local.audits() ? conntrack_.set_label_bits(flow, abi::kAudited)
                                : conntrack_.clear_label_bits(flow, abi::kVerdictBits);
}

/// True if both endpoints are sockets of this network namespace.
bool Enforcer::is_local(const TrackedFlow& flow) const {
  const abi::FlowLabel label{flow.label};
  const auto is_here = [this](std::optional<policy::Number> number) {
    return number && (*number == abi::kHost || labels_.contains(*number));
  };
  return is_here(label.source()) && is_here(label.destination());
}

namespace {

/// TCP connections that have both endpoints in this network namespace.
class LocalConnections {
 public:
  using Ends = std::tuple<policy::Address, std::uint16_t, policy::Address, std::uint16_t>;

  explicit LocalConnections(const std::vector<kernel::InetSocket>& sockets) {
    for (const kernel::InetSocket& socket : sockets) {
      by_ends_[{socket.local, socket.local_port, socket.remote, socket.remote_port}] = &socket;
    }
  }

  void each(const std::function<void(const kernel::InetSocket&, const kernel::InetSocket&)>& both) {
    for (const auto& [ends, socket] : by_ends_) {
      const auto& [local, local_port, remote, remote_port] = ends;
      const Ends reverse{remote, remote_port, local, local_port};
      const auto other = by_ends_.find(reverse);
      if (other != by_ends_.end() && ends < reverse) {
        both(*socket, *other->second);
      }
    }
  }

  /// Calls `both` with the two sockets of a flow whose addresses or ports NAT has changed.
  void translated(
      const TrackedFlow& flow,
      const std::function<void(const kernel::InetSocket&, const kernel::InetSocket&)>& both) const {
    const kernel::FlowTuple& there = flow.original;
    const kernel::FlowTuple& back = flow.reply;
    if (flow.protocol != IPPROTO_TCP ||
        (there.source == back.destination && there.destination == back.source &&
         there.source_port == back.destination_port &&
         there.destination_port == back.source_port)) {
      return;
    }
    const auto client =
        by_ends_.find({there.source, there.source_port, there.destination, there.destination_port});
    const auto server =
        by_ends_.find({back.source, back.source_port, back.destination, back.destination_port});
    if (client != by_ends_.end() && server != by_ends_.end()) {
      both(*client->second, *server->second);
    }
  }

 private:
  std::map<Ends, const kernel::InetSocket*> by_ends_;
};

}  // namespace

/// Closes local connections that the policy does not allow. The gate already blocks their packets;
/// closing them reports an error to both processes instead of a hang.
Result<std::size_t> Enforcer::end_connections() {
  if (common_.local.audits() || !common_.local.live()) {
    return std::size_t{0};
  }
  // List cgroups after sockets: a cgroup created in between has no socket in the list.
  auto sockets = sockets_.connections();
  const auto owners = common_.local.owners();
  if (!owners || !sockets) {
    return tl::unexpected(!owners ? owners.error() : sockets.error());
  }
  std::erase_if(*sockets, [](const kernel::InetSocket& socket) { return socket.cgroup_id == 0; });
  const auto end_of = [&owners](const kernel::InetSocket& socket) {
    const auto found = owners->find(socket.cgroup_id);
    return LocalEnd{found == owners->end() ? abi::kHost : found->second, socket.local};
  };
  std::vector<const kernel::InetSocket*> refused;
  const auto judge = [&](const kernel::InetSocket& one, const kernel::InetSocket& other) {
    const LocalEnd here = end_of(one);
    const LocalEnd there = end_of(other);
    const bool is_quarantined = abi::is_blocked(here.number) || abi::is_blocked(there.number);
    const bool is_to_resolver = policy::is_resolver(one.local) || policy::is_resolver(other.local);
    // Either direction is enough: the sockets do not show which one is the client.
    if (!is_quarantined && !is_to_resolver &&
        !common_.local.allows(here, there, IPPROTO_TCP, other.local_port) &&
        !common_.local.allows(there, here, IPPROTO_TCP, one.local_port)) {
      refused.push_back(&one);
      refused.push_back(&other);
    }
  };
  LocalConnections connections(*sockets);
  connections.each(judge);
  Status outcome =
      conntrack_.each([&](const TrackedFlow& flow) { connections.translated(flow, judge); });
  // Skip sockets whose cgroup was removed and is not among the owners: it may have been below a
  // workload's cgroup, which only the gate knows.
  const std::unordered_set<std::uint64_t> living =
      refused.empty() ? std::unordered_set<std::uint64_t>() : common_.local.living_cgroups();
  const auto is_known = [&](const kernel::InetSocket& socket) {
    return owners->contains(socket.cgroup_id) || living.contains(socket.cgroup_id);
  };
  std::size_t count = 0;
  for (std::size_t i = 0; i + 1 < refused.size(); i += 2) {
    if (!is_known(*refused[i]) || !is_known(*refused[i + 1])) {
      continue;
    }
    count++;
    for (const kernel::InetSocket* socket : {refused[i], refused[i + 1]}) {
      const Status ended = sockets_.destroy(*socket);
      outcome = outcome ? ended : outcome;
    }
  }
  return outcome ? Result<std::size_t>(count) : tl::unexpected(outcome.error());
}

Result<std::unordered_set<policy::Number>> Enforcer::numbers_in_use() {
  std::unordered_set<policy::Number> numbers;
  const Status read = conntrack_.each([&numbers](const TrackedFlow& flow) {
    const abi::FlowLabel label{flow.label};
    numbers.insert(label.source().value_or(abi::kNoNumber));
    numbers.insert(label.destination().value_or(abi::kNoNumber));
  });
  return read ? Result<std::unordered_set<policy::Number>>(std::move(numbers))
              : tl::unexpected(read.error());
}

Status Enforcer::remove() {
  const Status ended = end_proved(nullptr);
  live_ = false;
  kernel::NftBatch batch(abi::kTable);
  batch.add_table();  // so that the deletion cannot fail
  batch.delete_table();
  if (Status removed = socket_.commit(std::move(batch)); !removed) {
    return removed;
  }
  const auto forgotten = change_flows(
      conntrack_, [](const TrackedFlow& flow) { return (flow.label[0] & abi::kFlowBits) != 0; },
      [this](const TrackedFlow& flow) {
        return conntrack_.clear_label_bits(flow, abi::kFlowBits);
      });
  return forgotten ? ended : Status(tl::unexpected(forgotten.error()));
}

/// Makes the next packet of a flow be judged again. A UDP entry older than the table cannot bear a
/// label, so it is removed and the next datagram creates one that can. TCP keeps its entry: the
/// next segment is judged by the sockets.
Status Enforcer::reevaluate(const TrackedFlow& flow) {
  return flow.protocol == IPPROTO_UDP ? conntrack_.remove(flow)
                                      : conntrack_.clear_label_bits(flow, abi::kVerdictBits);
}

Result<std::size_t> Enforcer::reevaluate_new(bool closes) {
  if (all_with_old_flows_) {
    const auto changed = change_flows(
        conntrack_, [](const TrackedFlow&) { return true; },
        [this](const TrackedFlow& flow) { return reevaluate(flow); });
    const auto ended = closes ? end_connections() : Result<std::size_t>(0);
    all_with_old_flows_ = all_with_old_flows_ && !(changed && ended);
    return changed && !ended ? ended : changed;
  }
  if (with_old_flows_.empty() && released_.empty()) {
    return std::size_t{0};
  }
  const auto released = with_descendants(released_);
  auto cgroups = with_descendants(with_old_flows_);
  cgroups.insert(released.begin(), released.end());
  const auto found = sockets_.of_cgroups(cgroups);
  if (!found) {
    return tl::unexpected(found.error());
  }
  Touched touched;
  Touched of_released;
  for (const kernel::InetSocket& socket : *found) {
    touched.add(socket);
    if (released.contains(socket.cgroup_id)) {
      of_released.add(socket);
    }
  }
  // Whatever keeps connections from ending must not keep flows from being judged.
  const Status proved_ended = released.empty() ? Status{} : end_proved(&released);
  std::size_t count = 0;
  if (!touched.empty()) {
    const auto changed = change_flows(
        conntrack_, [&touched](const TrackedFlow& flow) { return touched.has(flow); },
        [&](const TrackedFlow& flow) {
          // The client's end still has the flow as one with a workload. In this entry, its
          // datagrams go to the verifier, which refuses them; a new entry would let them pass.
          return of_released.answers(flow) && (flow.label[0] & abi::kToken) != 0
                     ? conntrack_.clear_label_bits(flow, abi::kVerdictBits)
                     : reevaluate(flow);
        });
    if (!changed) {
      return changed;
    }
    count = *changed;
  }
  if (const auto ended = closes ? end_connections() : Result<std::size_t>(0); !ended) {
    return ended;
  }
  with_old_flows_.clear();  // only after success, so that a failure is retried
  if (!proved_ended) {
    return tl::unexpected(proved_ended.error());
  }
  released_.clear();
  return count;
}

/// The ids of these cgroups and of all below them. Those that have been removed are left out.
std::unordered_set<std::uint64_t> Enforcer::with_descendants(std::vector<std::string> paths) const {
  std::unordered_set<std::uint64_t> ids;
  while (!paths.empty()) {
    const std::string path = std::move(paths.back());
    paths.pop_back();
    for (const std::string& child : tree_.children(path)) {
      paths.push_back(path + "/" + child);
    }
    if (const auto id = tree_.id(path)) {
      ids.insert(*id);
    }
  }
  return ids;
}

std::vector<kernel::NftListed> Enforcer::refused_elements() {
  return socket_.list(abi::kTable, datapath::sets().refused.name)
      .value_or(std::vector<kernel::NftListed>{});
}

std::optional<TrackedFlow> Enforcer::find_flow(std::uint8_t protocol,
                                               const kernel::FlowTuple& tuple) {
  TrackedFlow flow;
  const kernel::FlowTuple reverse{tuple.destination, tuple.source, tuple.destination_port,
                                  tuple.source_port};
  for (const kernel::FlowTuple& candidate : {tuple, reverse}) {
    if (conntrack_.find(protocol, candidate, flow).value_or(false)) {
      return flow;
    }
  }
  return std::nullopt;
}

std::optional<TrackedFlow> Enforcer::find_flow(const kernel::LoggedPacket& packet) {
  if (packet.protocol != IPPROTO_ICMP && packet.protocol != IPPROTO_ICMPV6) {
    return find_flow(packet.protocol, packet.tuple);
  }
  TrackedFlow wanted;
  wanted.protocol = packet.protocol;
  wanted.original = packet.tuple;
  wanted.icmp_type = packet.icmp_type;
  wanted.icmp_code = packet.icmp_code;
  wanted.icmp_id = packet.icmp_id;
  TrackedFlow flow;
  return conntrack_.find(wanted, flow).value_or(false) ? std::optional(flow) : std::nullopt;
}

}  // namespace trireme::enforcer
