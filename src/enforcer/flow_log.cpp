// SPDX-License-Identifier: Apache-2.0
#include "trireme/enforcer/flow_log.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "trireme/enforcer/flow_label.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::enforcer {

using kernel::LoggedPacket;
using policy::Number;

namespace {

constexpr std::size_t kBatch = 512;
constexpr std::size_t kRemembered = 1024;  // workloads that have ended
constexpr auto kTellAgain =
    std::chrono::seconds(4);  // the kernel keeps an element of `refused` for 5, and tells a little
                              // earlier than it is read

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

void explain(policy::Flow& flow, const Enforcer& enforcer, Number source, Number destination) {
  if (flow.source.quarantined || flow.destination.quarantined) {
    flow.reason =
        flow.source.quarantined ? "the source is quarantined" : "the destination is quarantined";
    return;
  }
  const auto decision =
      policy::evaluate(enforcer.policy(), endpoint(flow.source, source),
                       endpoint(flow.destination, destination), flow.protocol, flow.port);
  if (decision.verdict == policy::Verdict::allow && flow.verdict != policy::Verdict::allow) {
    // A datagram or segment of a flow that nobody began, or policy has changed since.
    flow.reason = "the packet belongs to no flow that was allowed";
    return;
  }
  flow.reason = policy::sentence(decision.reason);
  if (decision.rule != nullptr) {
    flow.rule = decision.rule->text();
  }
}

bool has_ports(std::uint8_t protocol) {
  return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

/// What only the gate finds, and policy does not explain: one word, and a sentence.
std::pair<const char*, const char*> found_by_gate(gate::Refused::Reason reason) {
  using Reason = gate::Refused::Reason;
  switch (reason) {
    case Reason::unstamped:
      return {"unstamped",
              "its sender is not known: a rule of another program has changed the packet's "
              "priority, or the sender is outside of this cgroup tree"};
    case Reason::protocol:
      return {"protocol", "only TCP, UDP and ICMP reach a workload on this host"};
    case Reason::unreadable:
      return {"unreadable", "its headers cannot be read"};
    case Reason::group:
      return {"group",
              "its port belongs to a group of SO_REUSEPORT with a program that selects among "
              "sockets of several workloads: whose it would be is not known beforehand"};
    case Reason::quarantine_in:
    case Reason::quarantine_out:
    case Reason::policy:
      break;
  }
  return {"", ""};
}

/// What an element of `refused` and a packet have in common.
std::uint32_t service(std::uint8_t protocol, std::uint16_t port) {
  return std::uint32_t{protocol} << 16U | (has_ports(protocol) ? port : 0U);
}

}  // namespace

Result<FlowLog> FlowLog::open() {
  auto packets = kernel::PacketLog::open(kLogGroup);
  if (!packets) {
    return tl::unexpected(packets.error());
  }
  return FlowLog(std::move(*packets));
}

void FlowLog::ended(const workload::Workload& workload) {
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
  end.quarantined = number == kQuarantine;
  end.entity = number == kNoNumber ? "@world" : number == kHost ? "@host" : "";
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
  if (number < policy::kFirstNumber) {
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

/// What the kernel says that it has refused lately, and was not told yet.
FlowLog::RefusedEnds FlowLog::refused(Enforcer& enforcer) {
  const auto now = Clock::now();
  std::erase_if(told_, [now](const auto& item) { return item.second + kTellAgain <= now; });
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
    if (!told_.contains(ends)) {
      found.emplace(service(key[8], std::get<3>(ends)), ends);
    }
  }
  return found;
}

/// Takes the packet's ends from those that were refused.
std::optional<FlowLog::RefusedKey> FlowLog::take_ends(const LoggedPacket& packet,
                                                      RefusedEnds& refused) {
  auto [candidate, end] = refused.equal_range(service(packet.protocol, destination_port(packet)));
  for (; candidate != end; ++candidate) {
    const RefusedKey key = candidate->second;
    const bool is_local = std::get<0>(key) != kNoNumber && std::get<1>(key) != kNoNumber;
    if (packet.loopback == is_local) {
      refused.erase(candidate);
      told_[key] = Clock::now();
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
  // Who is not known is not elsewhere, on lo.
  const auto end = [&](Number number, const policy::Address& address) {
    return describe(refused.local && number == kNoNumber ? kHost : number, address, registry,
                    enforcer);
  };
  flow.source = end(refused.from, refused.source);
  flow.destination = end(refused.to, refused.destination);
  std::tie(flow.cause, flow.reason) = found_by_gate(refused.reason);
  if (flow.reason.empty()) {
    explain(flow, enforcer, refused.from, refused.to);
  }
  return flow;
}

bool FlowLog::told(const gate::Refused& refused) const {
  const auto known = told_.find({refused.from, refused.to, refused.protocol, refused.port});
  return known != told_.end() && Clock::now() < known->second + kTellAgain;
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
    Number source = kNoNumber;
    Number destination = kNoNumber;
    kernel::FlowTuple tuple = packet.tuple;
    if (packet.prefix == "deny") {
      const auto ends = take_ends(packet, refused_lately);
      if (!ends) {
        continue;  // told a moment ago
      }
      source = std::get<0>(*ends);
      destination = std::get<1>(*ends);
      const bool audit = enforcer.policy().mode == policy::Mode::audit && source != kQuarantine &&
                         destination != kQuarantine;
      flow.verdict = audit ? policy::Verdict::audit : policy::Verdict::deny;
    } else {
      flow.verdict = packet.prefix == "audit" ? policy::Verdict::audit : policy::Verdict::allow;
      const auto tracked = enforcer.find_flow(packet.protocol, tuple);
      if (!tracked) {
        continue;  // ended already
      }
      source = FlowLabel{tracked->label}.source().value_or(kNoNumber);
      destination = FlowLabel{tracked->label}.destination().value_or(kNoNumber);
      tuple.source = tracked->original.source;
      tuple.destination = tracked->reply.source;
      flow.port = tracked->reply.source_port;
    }
    flow.source = describe(source, tuple.source, registry, enforcer);
    flow.destination = describe(destination, tuple.destination, registry, enforcer);
    explain(flow, enforcer, source, destination);
    flows.push_back(std::move(flow));
  }
  return flows;
}

}  // namespace trireme::enforcer
