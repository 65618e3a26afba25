// SPDX-License-Identifier: Apache-2.0
#include "trireme/enforcer/flow_log.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "trireme/abi/flow_label.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::enforcer {

using kernel::LoggedPacket;
using policy::Number;

namespace {

constexpr std::size_t kBatch = 512;
constexpr std::size_t kRemembered = 1024;  // workloads that have ended
/// A refusal is returned again after this time. The kernel keeps an element of `refused` for 5 s,
/// and logs the packet a little earlier than read() sees it.
constexpr auto kReportAgain = std::chrono::seconds(4);

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

bool has_ports(std::uint8_t protocol) {
  return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
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
    case Reason::policy:
      break;
  }
  return {"", ""};
}

/// The key that matches an element of `refused` with a logged packet: protocol and port.
std::uint32_t service(std::uint8_t protocol, std::uint16_t port) {
  return std::uint32_t{protocol} << 16U | (has_ports(protocol) ? port : 0U);
}

}  // namespace

Result<FlowLog> FlowLog::open() {
  auto packets = kernel::PacketLog::open(abi::kLogGroup);
  if (!packets) {
    return tl::unexpected(packets.error());
  }
  return FlowLog(std::move(*packets));
}

void FlowLog::remember_ended(const workload::Workload& workload) {
  if (workload.number == 0) {
    return;
  }
  ended_[workload.number] = {workload.name, workload.labels};
  ended_order_.push_back(workload.number);
  if (ended_order_.size() > kRemembered) {
    ended_.erase(ended_order_.front());
    ended_order_.pop_front();
  }
}

policy::FlowEnd end_without_labels(Number number, const policy::Address& address,
                                   const Enforcer& enforcer) {
  policy::FlowEnd end;
  end.address = address;
  end.quarantined = number == abi::kQuarantine;
  end.entity = number == abi::kNoNumber ? "@world" : number == abi::kHost ? "@host" : "";
  end.named = enforcer.named_networks(address);
  end.names = enforcer.names(address);
  const policy::Policy& policy = enforcer.policy();
  for (std::size_t i = 0; i < policy.networks.size() && !end.quarantined; i++) {
    if (policy::covers(policy, policy::Entity{.kind = policy::Entity::Kind::network, .network = i},
                       endpoint(end, number))) {
      end.networks.push_back(policy.networks[i].name);
    }
  }
  return end;
}

policy::FlowEnd FlowLog::describe(Number number, const policy::Address& address,
                                  const workload::Registry& registry,
                                  const Enforcer& enforcer) const {
  if (number < abi::kFirstNumber) {
    return end_without_labels(number, address, enforcer);
  }
  policy::FlowEnd end;
  end.address = address;
  if (const workload::Workload* workload = registry.find_number(number)) {
    end.workload = workload->name;
  }
  if (const policy::LabelSet* labels = enforcer.labels(number)) {
    end.labels = *labels;
  } else if (const auto known = ended_.find(number); known != ended_.end()) {
    end.workload = known->second.name;
    end.labels = known->second.labels;
  } else {
    end.labels.emplace();
  }
  return end;
}

/// Recent refusals in the kernel's set `refused` that read() has not returned yet.
FlowLog::RefusedEnds FlowLog::refused(Enforcer& enforcer) {
  const auto now = Clock::now();
  std::erase_if(reported_, [now](const auto& item) { return item.second + kReportAgain <= now; });
  RefusedEnds found;
  for (const auto& key : enforcer.refused_keys()) {
    if (key.size() < 14) {
      continue;
    }
    Number source = 0;
    Number destination = 0;
    std::memcpy(&source, key.data(), sizeof source);
    std::memcpy(&destination, key.data() + 4, sizeof destination);
    const RefusedKey ends{source, destination, key[8],
                          static_cast<std::uint16_t>(key[12] << 8U | key[13])};
    if (!reported_.contains(ends)) {
      found.emplace(service(key[8], std::get<3>(ends)), ends);
    }
  }
  return found;
}

/// Finds the numbers of a logged packet's endpoints among the recent refusals and removes the
/// entry.
std::optional<FlowLog::RefusedKey> FlowLog::take_ends(const LoggedPacket& packet,
                                                      RefusedEnds& refused) {
  auto [candidate, end] = refused.equal_range(service(packet.protocol, destination_port(packet)));
  for (; candidate != end; ++candidate) {
    const RefusedKey key = candidate->second;
    const bool is_local = std::get<0>(key) != abi::kNoNumber && std::get<1>(key) != abi::kNoNumber;
    if (packet.loopback == is_local) {
      refused.erase(candidate);
      reported_[key] = Clock::now();
      return key;
    }
  }
  return std::nullopt;
}

policy::Flow FlowLog::tell(const gate::Refused& refused, const workload::Registry& registry,
                           const Enforcer& enforcer) const {
  policy::Flow flow;
  flow.time = std::chrono::system_clock::now();
  flow.protocol = refused.protocol;
  flow.port = refused.port;
  flow.verdict = refused.audited ? policy::Verdict::audit : policy::Verdict::deny;
  // On lo, an endpoint without a number is a process of this host, not a remote peer.
  const auto end = [&](Number number, const policy::Address& address) {
    return describe(refused.local && number == abi::kNoNumber ? abi::kHost : number, address,
                    registry, enforcer);
  };
  flow.source = end(refused.from, refused.source);
  flow.destination = end(refused.to, refused.destination);
  std::tie(flow.cause, flow.reason) = found_by_gate(refused.reason);
  if (flow.reason.empty()) {
    std::ignore = explain(flow, enforcer, refused.from, refused.to);
  }
  return flow;
}

bool FlowLog::has_reported(const gate::Refused& refused) const {
  const auto known = reported_.find({refused.from, refused.to, refused.protocol, refused.port});
  return known != reported_.end() && Clock::now() < known->second + kReportAgain;
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
      const auto ends = take_ends(packet, refused_lately);
      if (!ends) {
        continue;  // returned a moment ago
      }
      source = std::get<0>(*ends);
      destination = std::get<1>(*ends);
      const bool audit = enforcer.policy().mode == policy::Mode::audit &&
                         source != abi::kQuarantine && destination != abi::kQuarantine;
      flow.verdict = audit ? policy::Verdict::audit : policy::Verdict::deny;
    } else {
      flow.sampled = packet.prefix == "sample";
      flow.verdict = packet.prefix == "audit" ? policy::Verdict::audit : policy::Verdict::allow;
      const auto tracked = enforcer.find_flow(packet.protocol, tuple);
      if (!tracked) {
        continue;  // ended already
      }
      source = abi::FlowLabel{tracked->label}.source().value_or(abi::kNoNumber);
      destination = abi::FlowLabel{tracked->label}.destination().value_or(abi::kNoNumber);
      tuple.source = tracked->original.source;
      tuple.destination = tracked->reply.source;
      flow.port = tracked->reply.source_port;
    }
    flow.source = describe(source, tuple.source, registry, enforcer);
    flow.destination = describe(destination, tuple.destination, registry, enforcer);
    const policy::Verdict now = explain(flow, enforcer, source, destination);
    if (flow.sampled && now != policy::Verdict::allow) {
      continue;  // the policy has changed since
    }
    flows.push_back(std::move(flow));
  }
  return flows;
}

}  // namespace trireme::enforcer
