// SPDX-License-Identifier: Apache-2.0
// Flows that are alive while policy or membership changes.
#include "live_flows.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <set>
#include <tuple>
#include <unordered_set>

#include "trireme/enforcer/enforcer.hpp"
#include "trireme/enforcer/flow_label.hpp"
#include "trireme/enforcer/local_policy.hpp"

namespace trireme::enforcer {

using kernel::TrackedFlow;

namespace {

/// The end of a flow as the sets know it.
policy::SetPeer peer(policy::Number number, const policy::Address& address) {
  if (number == kNoNumber || number == kHost) {
    return {.number = 0, .address = address, .local = number == kHost};
  }
  return {.number = number, .address = {}};
}

/// The flows that sockets have, or may have yet.
class Touched {
 public:
  void add(const kernel::InetSocket& socket) {
    // sock_diag does not tell the cgroup of a handshake under way: its connection is the
    // listener's.
    if (socket.protocol == IPPROTO_UDP || socket.remote_port == 0) {
      open_.insert({socket.protocol, socket.local, socket.local_port});
    } else {
      connections_.insert(
          {socket.protocol, {socket.local, socket.remote, socket.local_port, socket.remote_port}});
    }
  }

  [[nodiscard]] bool empty() const { return open_.empty() && connections_.empty(); }

  /// A client sees the original direction, a server the reply's.
  [[nodiscard]] bool has(const TrackedFlow& flow) const {
    return is_from(flow.protocol, flow.original) || is_from(flow.protocol, flow.reply);
  }

 private:
  [[nodiscard]] bool is_from(std::uint8_t protocol, const kernel::FlowTuple& tuple) const {
    const policy::Address any4;
    policy::Address any6;
    any6.family = policy::Address::Family::v6;
    return connections_.contains({protocol, tuple}) ||
           std::ranges::any_of(std::array{tuple.source, any4, any6},
                               [&](const policy::Address& local) {
                                 return open_.contains({protocol, local, tuple.source_port});
                               });
  }

  std::set<std::tuple<std::uint8_t, policy::Address, std::uint16_t>>
      open_;  // local ends: of listeners and of UDP
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

/// Whose number it is: a workload's here or elsewhere, or nobody's in particular.
bool Enforcer::knows(policy::Number number) const {
  return number == kNoNumber || number == kHost || labels_.contains(number) ||
         common_.identities.find(number) != nullptr;
}

/// The evaluator's word on a flow with a peer elsewhere that proved its labels.
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
  return policy::evaluate(*policy_, outgoing ? here : there, outgoing ? there : here, protocol,
                          port)
             .verdict != policy::Verdict::deny;
}

bool Enforcer::allows(const TrackedFlow& flow) const {
  const FlowLabel label{flow.label};
  const auto source = label.source();
  const auto destination = label.destination();
  if (!source || !destination || !knows(*source) || !knows(*destination) ||
      (*source <= kHost && *destination <= kHost)) {
    return false;
  }
  if (policy_->mode == policy::Mode::audit && (label.flags() & (kAudited | kToken)) != 0) {
    return true;  // it passes, and was told when it began; others are told with their next packet
  }
  const auto is_remote = [this](policy::Number number) {
    return number >= policy::kFirstNumber && !labels_.contains(number);
  };
  if (is_remote(*source) || is_remote(*destination)) {
    // Which end began a connection that conntrack had forgotten, the verifier knows: where only one
    // way is allowed it judges the next segment.
    return agrees(*source, *destination, flow.protocol, flow.reply.source_port) &&
           ((label.flags() & kResumed) == 0 ||
            agrees(*destination, *source, flow.protocol, flow.original.source_port));
  }
  const auto is_allowed = [&](const policy::SetPeer& from, const policy::SetPeer& to,
                              std::uint16_t port) {
    return policy::judge(compiler_.tables(), compiler_.elements(), from, to, flow.protocol, port)
        .has_value();
  };
  const policy::SetPeer one = peer(*source, flow.original.source);
  const policy::SetPeer other = peer(*destination, flow.reply.source);
  // Of a peer without labels nobody knows which end began a connection that was forgotten.
  return is_allowed(one, other, flow.reply.source_port) ||
         ((label.flags() & kResumed) != 0 && is_allowed(other, one, flow.original.source_port));
}

Result<std::size_t> Enforcer::revoke() {
  const auto changed = change_flows(
      conntrack_,
      [this](const TrackedFlow& flow) {
        return (flow.label[0] & kAuthorised) != 0 && !allows(flow);
      },
      [this](const TrackedFlow& flow) { return take_back(flow); });
  const auto ended = end_connections();
  return changed && !ended ? ended : changed;
}

/// On lo rules look at what begins a flow, and no more.
Status Enforcer::take_back(const TrackedFlow& flow) {
  if (!is_local(flow)) {
    return conntrack_.clear_label_bits(flow, kVerdictBits);
  }
  if (flow.protocol == IPPROTO_UDP) {
    return conntrack_.remove(flow);
  }
  // The gate tells of those that audit mode lets go on; end_connections() ends the others.
  return common_.local.audits() ? conntrack_.set_label_bits(flow, kAudited)
                                : conntrack_.clear_label_bits(flow, kVerdictBits);
}

/// Both ends are sockets of this network namespace.
bool Enforcer::is_local(const TrackedFlow& flow) const {
  const FlowLabel label{flow.label};
  const auto is_here = [this](std::optional<policy::Number> number) {
    return number && (*number == kHost || labels_.contains(*number));
  };
  return is_here(label.source()) && is_here(label.destination());
}

namespace {

/// TCP connections that have both ends here.
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

  /// The two ends of a flow whose addresses or ports NAT has changed.
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

/// The gate delivers nothing more of a connection that is not allowed; ending it tells both ends.
Result<std::size_t> Enforcer::end_connections() {
  static const policy::Address kResolver = policy::Address::parse("127.0.0.11").value();
  if (common_.local.audits() || !common_.local.live()) {
    return std::size_t{0};
  }
  // Cgroups after sockets: one that is made meanwhile has no socket in the list.
  auto sockets = sockets_.connections();
  const auto owners = common_.local.owners();
  if (!owners || !sockets) {
    return tl::unexpected(!owners ? owners.error() : sockets.error());
  }
  std::erase_if(*sockets, [](const kernel::InetSocket& socket) { return socket.cgroup_id == 0; });
  const auto end_of = [&owners](const kernel::InetSocket& socket) {
    const auto found = owners->find(socket.cgroup_id);
    return LocalEnd{found == owners->end() ? kHost : found->second, socket.local};
  };
  std::vector<const kernel::InetSocket*> refused;
  const auto judge = [&](const kernel::InetSocket& one, const kernel::InetSocket& other) {
    const LocalEnd here = end_of(one);
    const LocalEnd there = end_of(other);
    const auto is_nobodys = [](const LocalEnd& end) {
      return end.number == kQuarantine || end.number == gate::Gate::kBorn ||
             end.number == gate::Gate::kEnded;
    };
    const bool is_shut = is_nobodys(here) || is_nobodys(there);
    const bool is_resolver = one.local == kResolver || other.local == kResolver;
    // Which of them has asked the other is forgotten.
    if (!is_shut && !is_resolver &&
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
  // A cgroup that is gone may have been below a workload's: the gate knows, and we do not.
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
    const FlowLabel label{flow.label};
    numbers.insert(label.source().value_or(kNoNumber));
    numbers.insert(label.destination().value_or(kNoNumber));
  });
  return read ? Result<std::unordered_set<policy::Number>>(std::move(numbers))
              : tl::unexpected(read.error());
}

Status Enforcer::remove() {
  live_ = false;
  kernel::NftBatch batch(kTable);
  batch.add_table();  // so that the deletion cannot fail
  batch.delete_table();
  if (Status removed = socket_.commit(std::move(batch)); !removed) {
    return removed;
  }
  const auto forgotten = change_flows(
      conntrack_, [](const TrackedFlow& flow) { return (flow.label[0] & kFlowBits) != 0; },
      [this](const TrackedFlow& flow) { return conntrack_.clear_label_bits(flow, kFlowBits); });
  return forgotten ? Status{} : Status(tl::unexpected(forgotten.error()));
}

/// A UDP entry older than the table could never be marked; a new one can. TCP's next segment is
/// judged by the sockets at both ends.
Status Enforcer::judge_anew(const TrackedFlow& flow) {
  return flow.protocol == IPPROTO_UDP ? conntrack_.remove(flow)
                                      : conntrack_.clear_label_bits(flow, kVerdictBits);
}

Result<std::size_t> Enforcer::settle() {
  if (all_unsettled_) {
    const auto changed = change_flows(
        conntrack_, [](const TrackedFlow&) { return true; },
        [this](const TrackedFlow& flow) { return judge_anew(flow); });
    const auto ended = end_connections();
    all_unsettled_ = all_unsettled_ && !(changed && ended);
    return changed && !ended ? ended : changed;
  }
  if (unsettled_.empty()) {
    return std::size_t{0};
  }
  std::vector<std::string> paths = unsettled_;
  std::unordered_set<std::uint64_t> cgroups;
  while (!paths.empty()) {
    const std::string path = std::move(paths.back());
    paths.pop_back();
    for (const std::string& child : tree_.children(path)) {
      paths.push_back(path + "/" + child);
    }
    if (const auto id = tree_.id(path)) {  // else it has gone again
      cgroups.insert(*id);
    }
  }
  const auto found = sockets_.of_cgroups(cgroups);
  if (!found) {
    return tl::unexpected(found.error());
  }
  Touched touched;
  std::ranges::for_each(*found,
                        [&touched](const kernel::InetSocket& socket) { touched.add(socket); });
  std::size_t count = 0;
  if (!touched.empty()) {
    const auto changed = change_flows(
        conntrack_, [&touched](const TrackedFlow& flow) { return touched.has(flow); },
        [this](const TrackedFlow& flow) { return judge_anew(flow); });
    if (!changed) {
      return changed;
    }
    count = *changed;
  }
  if (const auto ended = end_connections(); !ended) {
    return ended;
  }
  unsettled_.clear();  // not before: what failed is tried again
  return count;
}

std::vector<std::vector<std::uint8_t>> Enforcer::refused_keys() {
  return socket_.keys(kTable, sets().refused.name)
      .value_or(std::vector<std::vector<std::uint8_t>>{});
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

}  // namespace trireme::enforcer
