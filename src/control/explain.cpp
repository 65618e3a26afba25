// SPDX-License-Identifier: Apache-2.0
#include "trireme/control/explain.hpp"

#include "trireme/policy/expiry.hpp"
#include "trireme/policy/ports.hpp"

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
  return {
      {"verdict", explanation.is_known ? policy::text(explanation.decision.verdict) : "unknown"},
      {"passes", explanation.passes()},
      {"reason", explanation.reason},
      {"from", explanation.from},
      {"to", explanation.to},
      {"port", explanation.port},
      {"rule", to_json(explanation.decision.rule)},
      {"source", to_json(explanation.source)},
      {"destination", to_json(explanation.destination)},
      {"closest", std::move(closest)},
      {"toml", explanation.toml},
      {"audited", std::move(audited)},
      {"notes", explanation.notes},
      {"other_parts", std::move(others)},
      {"text", explanation.render()}};
}

Result<nlohmann::json> explain(const policy::Policy& policy, const policy::World& world,
                               const std::string& from, const std::string& to,
                               const std::string& port) {
  const auto source = policy::parse_ends(from, policy, world);
  if (!source) {
    return fail_usage(source.error());
  }
  const auto destination = policy::parse_ends(to, policy, world);
  if (!destination) {
    return fail_usage(destination.error());
  }
  const auto service = policy::parse_port(port);
  if (!service) {
    return fail_usage(service.error());
  }
  return to_json(
      policy::explain(policy, world, *source, *destination, service->protocol, service->first));
}

}  // namespace trireme::control
