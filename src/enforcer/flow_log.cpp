// SPDX-License-Identifier: Apache-2.0
#include "trireme/enforcer/flow_log.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <tuple>

#include "trireme/abi/flow_label.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::enforcer {

using kernel::LoggedPacket;
using policy::Number;

namespace {

constexpr std::size_t kBatch = 512;
constexpr std::size_t kRemembered = 1024;  // workloads that have ended

std::uint16_t destination_port(const LoggedPacket& packet) {
  return packet.tuple.destination_port;
}

policy::Endpoint endpoint(const policy::FlowEnd& end, Number number) {
  policy::Endpoint result;
  if (end.labels) {
    result.kind = policy::Endpoint::Kind::workload;
    result.labels = &*end.labels;
    result.workload = number;
  } else {
    result.kind =
        end.entity == "@world" ? policy::Endpoint::Kind::world : policy::Endpoint::Kind::host;
    result.address = end.address;
    result.named = end.named;
  }
  return result;
}

/// Sets the reason, and the rule that decides. Returns what the policy in force says.
policy::Verdict explain(policy::Flow& flow, const Enforcer& enforcer, Number source,
                        Number destination) {
  if (flow.source.ended || flow.destination.ended) {
    flow.cause = "ended";
    flow.reason = fmt::format("the {} has ended, but another process still has its socket",
                              flow.source.ended ? "source" : "destination");
    return policy::Verdict::deny;
  }
  if (flow.source.quarantined || flow.destination.quarantined) {
    flow.reason =
        flow.source.quarantined ? "the source is quarantined" : "the destination is quarantined";
    return policy::Verdict::deny;
  }
  const auto decision =
      policy::evaluate(enforcer.policy(), endpoint(flow.source, source),
                       endpoint(flow.destination, destination), flow.protocol, flow.port);
  if (decision.verdict == policy::Verdict::allow && flow.verdict != policy::Verdict::allow) {
    // The flow was not begun by an allowed packet, or the policy has changed since.
    flow.reason = "the packet does not belong to an allowed flow";
    return decision.verdict;
  }
  flow.reason = policy::sentence(decision.reason);
  if (decision.rule != nullptr) {
    flow.rule = decision.rule->text();
  }
  return decision.verdict;
}

/// The verdict of an endpoint that took part in the decision: workloads only.
std::optional<policy::Verdict> verdict_at(const policy::FlowEnd& end, policy::Verdict verdict) {
  return end.labels || end.quarantined || end.ended ? std::optional(verdict) : std::nullopt;
}

/// Cause and reason of a refusal that only the gate finds and that no policy rule explains; empty
/// for other refusals.
std::pair<const char*, const char*> found_by_gate(gate::Refused::Reason reason) {
  using Reason = gate::Refused::Reason;
  switch (reason) {
    case Reason::unstamped:
      return {"unstamped",
              "the sender is not known: a rule of another program changed the packet's "
              "priority, or the sender is outside this cgroup tree"};
    case Reason::protocol:
      return {"protocol", "only TCP, UDP and ICMP can reach a workload on this host"};
    case Reason::unreadable:
      return {"unreadable", "the packet's headers cannot be read"};
    case Reason::group:
      return {"group",
              "a BPF program selects among several workloads' sockets that share the port "
              "(SO_REUSEPORT): the receiver cannot be known in advance"};
    case Reason::quarantine_in:
    case Reason::quarantine_out:
    case Reason::ended:
    case Reason::policy:
      break;
  }
  return {"", ""};
}

}  // namespace

Result<FlowLog> FlowLog::open() {
  auto packets = kernel::PacketLog::open(abi::kLogGroup);
  if (!packets) {
    return tl::unexpected(packets.error());
  }
  return FlowLog(std::move(*packets),
                 std::chrono::milliseconds(datapath::sets().refused.dynamic_timeout_ms));
}

void FlowLog::remember_ended(const workload::Workload& workload) {
  const auto known = ended_.insert(
      ended_.end(), Ended{workload.number, workload.cgroup_id, workload.name, workload.labels});
  if (workload.number != 0) {
    ended_by_number_.insert_or_assign(workload.number, known);
  }
  if (workload.cgroup_id != 0) {
    ended_by_cgroup_.insert_or_assign(workload.cgroup_id, known);
  }
  if (ended_.size() <= kRemembered) {
    return;
  }
  const auto forget = [](auto& index, const auto& key, auto oldest) {
    if (const auto found = index.find(key); found != index.end() && found->second == oldest) {
      index.erase(found);
    }
  };
  forget(ended_by_number_, ended_.front().number, ended_.cbegin());
  forget(ended_by_cgroup_, ended_.front().cgroup, ended_.cbegin());
  ended_.pop_front();
}

policy::FlowEnd end_without_labels(Number number, const policy::Address& address, Number other,
                                   const Enforcer& enforcer) {
  policy::FlowEnd end;
  if (number == abi::kNoNumber && address.is_loopback()) {
    number = abi::kHost;  // no other host has this address: the label of the flow has no number
  }
  end.address = address;
  end.quarantined = number == abi::kQuarantine;
  end.ended = number == abi::kEnded;
  end.entity = number == abi::kNoNumber ? "@world" : number == abi::kHost ? "@host" : "";
  end.named = enforcer.named_networks(address);
  end.names = enforcer.names(address, other);
  const policy::Policy& policy = enforcer.policy();
  for (std::size_t i = 0; i < policy.networks.size() && !end.entity.empty(); i++) {
    if (policy::covers(policy, policy::Entity{.kind = policy::Entity::Kind::network, .network = i},
                       endpoint(end, number))) {
      end.networks.push_back(policy.networks[i].name);
    }
  }
  return end;
}

policy::FlowEnd FlowLog::describe(Number number, const policy::Address& address, Number other,
                                  const workload::Registry& registry,
                                  const Enforcer& enforcer) const {
  if (number < abi::kFirstNumber) {
    return end_without_labels(number, address, other, enforcer);
  }
  policy::FlowEnd end;
  end.address = address;
  if (const workload::Workload* workload = registry.find_number(number)) {
    end.workload = workload->name;
  }
  if (const policy::LabelSet* labels = enforcer.labels(number)) {
    end.labels = *labels;
    end.number = number;
  } else if (const auto known = ended_by_number_.find(number); known != ended_by_number_.end()) {
    end.number = number;
    end.workload = known->second->name;
    end.labels = known->second->labels;
  } else {
    end.labels.emplace();
  }
  return end;
}

/// Adds the name of a workload that is in quarantine or has ended: these share one number, so it is
/// found by the id of its cgroup. 0: not known.
void FlowLog::name_owner(policy::FlowEnd& end, std::uint64_t cgroup,
                         const workload::Registry& registry) const {
  const auto known = ended_by_cgroup_.find(cgroup);
  if (const workload::Workload* workload = registry.find_cgroup_id(cgroup)) {
    end.workload = workload->name;
    end.labels = end.ended ? std::optional(workload->labels) : std::nullopt;
  } else if (known != ended_by_cgroup_.end()) {
    end.workload = known->second->name;
    end.labels = end.ended ? std::optional(known->second->labels) : std::nullopt;
  }
}

/// Recent refusals in the kernel's set `refused` that read() has not returned yet.
RefusedEnds FlowLog::refused(Enforcer& enforcer) {
  const auto now = Clock::now();
  reported_.forget(now);
  listed_.clear();
  RefusedEnds found;
  for (const kernel::NftListed& element : enforcer.refused_elements()) {
    const std::vector<std::uint8_t>& bytes = element.key;
    if (bytes.size() < 14) {
      continue;
    }
    RefusedKey key;
    std::memcpy(&key.source, bytes.data(), sizeof key.source);
    std::memcpy(&key.destination, bytes.data() + 4, sizeof key.destination);
    key.protocol = bytes[8];
    key.port = static_cast<std::uint16_t>(bytes[12] << 8U | bytes[13]);
    const auto added = now - (reported_.life() - element.remaining);
    if (!reported_.contains(key, added)) {
      found.add(key);
      listed_[key] = added;
    }
  }
  return found;
}

/// Finds the numbers of a logged packet's endpoints among the recent refusals and removes the
/// entry.
std::optional<RefusedKey> FlowLog::take_ends(const LoggedPacket& packet, RefusedEnds& refused,
                                             const workload::Registry& registry,
                                             const Enforcer& enforcer) {
  const auto is_here = [&](Number number) {
    return enforcer.labels(number) != nullptr || ended_by_number_.contains(number);
  };
  const auto refuses = [&](const RefusedKey& key, const LoggedPacket& logged) {
    const auto source =
        describe(key.source, logged.tuple.source, key.destination, registry, enforcer);
    const auto destination =
        describe(key.destination, logged.tuple.destination, key.source, registry, enforcer);
    return policy::evaluate(enforcer.policy(), endpoint(source, key.source),
                            endpoint(destination, key.destination), logged.protocol,
                            destination_port(logged))
               .verdict != policy::Verdict::allow;
  };
  const auto key = refused.take(packet, {.is_here = is_here, .refuses = refuses});
  if (key) {
    reported_.add(*key, listed_[*key]);
  }
  return key;
}

policy::Flow FlowLog::tell(const gate::Refused& refused, const workload::Registry& registry,
                           const Enforcer& enforcer) const {
  policy::Flow flow;
  flow.time = std::chrono::system_clock::now();
  flow.protocol = refused.protocol;
  flow.port = refused.port;
  flow.verdict = refused.audited ? policy::Verdict::audit : policy::Verdict::deny;
  flow.reporter = policy::Reporter::gate;
  // On lo, an endpoint without a number is a process of this host, not a remote peer.
  const auto end = [&](Number number, const policy::Address& address, Number other) {
    return describe(refused.local && number == abi::kNoNumber ? abi::kHost : number, address, other,
                    registry, enforcer);
  };
  flow.source = end(refused.from, refused.source, refused.to);
  flow.destination = end(refused.to, refused.destination, refused.from);
  const auto is_anonymous = [](const policy::FlowEnd& side) {
    return side.quarantined || side.ended;
  };
  if (is_anonymous(flow.source) != is_anonymous(flow.destination)) {
    name_owner(is_anonymous(flow.source) ? flow.source : flow.destination, refused.cgroup,
               registry);
  }
  flow.at_source = verdict_at(flow.source, flow.verdict);
  flow.at_destination = verdict_at(flow.destination, flow.verdict);
  std::tie(flow.cause, flow.reason) = found_by_gate(refused.reason);
  if (flow.reason.empty()) {
    std::ignore = explain(flow, enforcer, refused.from, refused.to);
  }
  return flow;
}

std::vector<policy::Flow> FlowLog::read(Enforcer& enforcer, const workload::Registry& registry) {
  std::vector<policy::Flow> flows;
  const std::vector<LoggedPacket> packets = packets_.drain(kBatch);
  RefusedEnds refused_lately;
  if (std::any_of(packets.begin(), packets.end(),
                  [](const LoggedPacket& packet) { return packet.prefix == "deny"; })) {
    refused_lately = refused(enforcer);
  }
  for (const LoggedPacket& packet : packets) {
    policy::Flow flow;
    flow.time = std::chrono::system_clock::now();
    flow.protocol = packet.protocol;
    flow.port = destination_port(packet);
    Number source = abi::kNoNumber;
    Number destination = abi::kNoNumber;
    kernel::FlowTuple tuple = packet.tuple;
    if (packet.prefix == "deny") {
      const auto ends = take_ends(packet, refused_lately, registry, enforcer);
      if (!ends) {
        continue;  // returned a moment ago
      }
      source = ends->source;
      destination = ends->destination;
      const bool audit = enforcer.policy().mode == policy::Mode::audit &&
                         source != abi::kQuarantine && destination != abi::kQuarantine;
      flow.verdict = audit ? policy::Verdict::audit : policy::Verdict::deny;
    } else {
      flow.sampled = packet.prefix == "sample";
      flow.verdict = packet.prefix == "audit" ? policy::Verdict::audit : policy::Verdict::allow;
      const auto tracked = enforcer.find_flow(packet);
      if (!tracked) {
        continue;  // ended already
      }
      const Number unlabeled = packet.loopback ? abi::kHost : abi::kNoNumber;
      source = abi::FlowLabel{tracked->label}.source().value_or(unlabeled);
      destination = abi::FlowLabel{tracked->label}.destination().value_or(unlabeled);
      tuple.source = tracked->original.source;
      tuple.destination = tracked->reply.source;
      flow.port = tracked->reply.source_port;
    }
    flow.source = describe(source, tuple.source, destination, registry, enforcer);
    flow.destination = describe(destination, tuple.destination, source, registry, enforcer);
    const policy::Verdict now = explain(flow, enforcer, source, destination);
    if (flow.sampled && now != policy::Verdict::allow) {
      continue;  // the policy has changed since
    }
    if (flow.sampled && !packet.loopback) {
      flow.reporter = packet.input ? policy::Reporter::server : policy::Reporter::client;
    }
    if (packet.loopback || !packet.input) {
      flow.at_source = verdict_at(flow.source, flow.verdict);
    }
    if (packet.loopback || packet.input) {
      flow.at_destination = verdict_at(flow.destination, flow.verdict);
    }
    flows.push_back(std::move(flow));
  }
  return flows;
}

}  // namespace trireme::enforcer
