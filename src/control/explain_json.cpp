#include "trireme/control/explain_json.hpp"

namespace trireme::control {

namespace {

nlohmann::json to_json(const policy::Rule* rule) {
  if (rule == nullptr) {
    return nullptr;
  }
  return {{"name", rule->name},
          {"action", rule->action == policy::Rule::Action::allow ? "allow" : "deny"},
          {"mode", rule->mode == policy::Mode::enforce ? "enforce" : "audit"},
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
          {"text", explanation.render()}};
}

}  // namespace trireme::control
