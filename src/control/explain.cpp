// SPDX-License-Identifier: Apache-2.0
#include "trireme/control/explain.hpp"

#include <ifaddrs.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "trireme/policy/expiry.hpp"

namespace trireme::control {

namespace {

nlohmann::json to_json(const policy::Rule* rule) {
  if (rule == nullptr) {
    return nullptr;
  }
  return {{"name", rule->name},
          {"action", rule->action == policy::Rule::Action::allow ? "allow" : "deny"},
          {"mode", rule->mode == policy::Mode::enforce ? "enforce" : "audit"},
          {"until", rule->until ? nlohmann::json(policy::text(*rule->until)) : nlohmann::json()},
          {"file", rule->where.file},
          {"line", rule->where.line}};
}

nlohmann::json to_json(const policy::EndDecision& end) {
  return {{"judged", end.judged}, {"text", end.text}};
}

/// The addresses of this network namespace, which are those of @host.
std::vector<policy::Address> local_addresses() {
  std::vector<policy::Address> addresses;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) {
    return addresses;
  }
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr) {
      continue;
    }
    policy::Address address;
    if (entry->ifa_addr->sa_family == AF_INET) {
      const auto* v4 = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
      std::memcpy(address.bytes.data(), &v4->sin_addr, sizeof v4->sin_addr);
      addresses.push_back(address);
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
      const auto* v6 = reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr);
      address.family = policy::Address::Family::v6;
      std::memcpy(address.bytes.data(), &v6->sin6_addr, sizeof v6->sin6_addr);
      addresses.push_back(address);
    }
  }
  ::freeifaddrs(list);
  return addresses;
}

}  // namespace

nlohmann::json to_json(const policy::Explanation& explanation) {
  auto closest = nlohmann::json::array();
  for (const auto& miss : explanation.closest) {
    closest.push_back({{"rule", to_json(miss.rule)}, {"differences", miss.differences}});
  }
  auto audited = nlohmann::json::array();
  for (const auto* rule : explanation.audited) {
    audited.push_back(to_json(rule));
  }
  auto others = nlohmann::json::array();
  for (const auto& other : explanation.others) {
    others.push_back({{"verdict", policy::text(other.decision.verdict)},
                      {"passes", other.decision.verdict != policy::Verdict::deny},
                      {"reason", other.reason},
                      {"rule", to_json(other.decision.rule)},
                      {"ends", other.ends},
                      {"count", other.count}});
  }
  return {{"verdict", policy::text(explanation.decision.verdict)},
          {"passes", explanation.passes()},
          {"reason", explanation.reason},
          {"from", explanation.from},
          {"to", explanation.to},
          {"port", explanation.port},
          {"rule", to_json(explanation.decision.rule)},
          {"source", to_json(explanation.source)},
          {"destination", to_json(explanation.destination)},
          {"closest", std::move(closest)},
          {"audited", std::move(audited)},
          {"notes", explanation.notes},
          {"other_parts", std::move(others)},
          {"text", explanation.render()}};
}

Result<nlohmann::json> explain(const policy::Policy& policy, const std::string& from,
                               const std::string& to, const std::string& port,
                               policy::PeerLookup lookup) {
  lookup.is_local = [addresses = local_addresses()](const policy::Address& address) {
    return std::find(addresses.begin(), addresses.end(), address) != addresses.end();
  };
  const auto source = policy::parse_peers(from, policy, lookup);
  if (!source) {
    return tl::unexpected(source.error());
  }
  const auto destination = policy::parse_peers(to, policy, lookup);
  if (!destination) {
    return tl::unexpected(destination.error());
  }
  const auto service = policy::parse_port(port);
  if (!service) {
    return tl::unexpected(service.error());
  }
  return to_json(policy::explain(policy, *source, *destination, service->protocol, service->first));
}

}  // namespace trireme::control
