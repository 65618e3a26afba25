// SPDX-License-Identifier: Apache-2.0
// Any bytes as policy.toml: no crash, well-formed diagnostics, and a valid policy can be evaluated
// and printed.
#include "fuzz_support.hpp"
#include "trireme/config/peer.hpp"

namespace {

using namespace trireme;

void check_rule(const policy::Policy& policy, const policy::Rule& rule) {
  fuzz::require(!rule.from.empty() && !rule.to.empty(), "a rule has two sides");
  fuzz::require(policy::is_printable(rule.text()), "a rule's text is printable");
  for (const auto* peers : {&rule.from, &rule.to}) {
    for (const auto& peer : *peers) {
      if (const auto* selector = std::get_if<policy::Selector>(&peer)) {
        fuzz::require(policy::Selector::parse(selector->text()) == *selector,
                      "a selector's text parses to itself");
      } else if (const auto& entity = std::get<policy::Entity>(peer);
                 entity.kind == policy::Entity::Kind::network) {
        fuzz::require(entity.network < policy.networks.size(),
                      "an entity names an existing network");
      }
    }
  }
  for (const auto& range : rule.ports) {
    fuzz::require(range.first <= range.last, "a port range is not reversed");
  }
}

void check_evaluation(const policy::Policy& policy) {
  policy::LabelSet web;
  fuzz::require(web.set("app", "web").has_value(), "a label can be set");
  const policy::Endpoint ends[] = {
      {policy::Endpoint::Kind::workload, &web, 1, std::nullopt},
      {policy::Endpoint::Kind::world, nullptr, 0, *policy::Address::parse("10.0.0.1")},
      {policy::Endpoint::Kind::host, nullptr, 0, std::nullopt}};
  for (const auto& from : ends) {
    for (const auto& to : ends) {
      const policy::Decision decision = evaluate(policy, from, to, 6, 80);
      const bool unlabeled = from.kind != policy::Endpoint::Kind::workload &&
                             to.kind != policy::Endpoint::Kind::workload;
      fuzz::require(!unlabeled || decision.reason == policy::Reason::unprotected,
                    "flows without a workload are not under policy");
      fuzz::require(
          decision.verdict != policy::Verdict::deny || policy.mode == policy::Mode::enforce,
          "audit mode refuses nothing");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto sources = fuzz::sources(data, size, "policy");
  const auto configuration = config::parse(sources, {});
  fuzz::check_diagnostics(configuration, sources);
  if (configuration.valid()) {
    for (const auto& rule : configuration.policy.rules) {
      check_rule(configuration.policy, rule);
    }
    check_evaluation(configuration.policy);
  }
  return 0;
}
