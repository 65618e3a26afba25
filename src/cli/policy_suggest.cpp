// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>

#include "flow_query.hpp"
#include "loaded.hpp"
#include "table.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/policy/explain.hpp"
#include "trireme/policy/suggest.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

json suggestion_json(const policy::Suggestion& suggestion, const std::string& toml) {
  json networks = json::array();
  for (const auto& network : suggestion.networks) {
    json cidrs = json::array();
    for (const policy::Prefix& cidr : network.cidrs) {
      cidrs.push_back(cidr.text());
    }
    networks.push_back(
        {{"name", network.name}, {"cidrs", std::move(cidrs)}, {"names", network.names}});
  }
  json rules = json::array();
  for (const auto& rule : suggestion.rules) {
    json ports = json::array();
    for (const policy::PortRange& range : rule.ports) {
      ports.push_back(policy::range_text(range));
    }
    rules.push_back({{"name", rule.name},
                     {"from", rule.from},
                     {"to", rule.to},
                     {"ports", std::move(ports)},
                     {"flows", rule.flows},
                     {"example", rule.example},
                     {"last", rule.last},
                     {"comments", rule.comments}});
  }
  return {{"networks", std::move(networks)}, {"rules", std::move(rules)},
          {"left_out", suggestion.left_out}, {"needed", suggestion.needed},
          {"allowed", suggestion.allowed},   {"toml", toml}};
}

int suggest(const Globals& globals, const FlowQuery& query, bool denied) {
  auto params = flow_params(query);
  if (!params) {
    return report(globals, params.error());
  }
  (*params)["verdict"] = denied ? json{"audit", "deny"} : json{"audit"};
  const auto policy = loaded_policy(globals);
  if (!policy) {
    return report(globals, policy.error());
  }
  const auto flows = recent_flows(globals, *params);
  if (!flows) {
    return report(globals, flows.error());
  }
  const auto present = present_parties(globals);
  if (!present) {
    return report(globals, present.error());
  }
  std::vector<policy::LabelSet> labels;
  policy::Published published;
  for (const policy::Party& party : *present) {
    labels.push_back(party.labels);
    published[party.labels] = party.published;
  }
  const auto suggestion = policy::suggest(*policy, flows->flows, labels, published);
  const std::string toml = suggestion.toml(
      fmt::format("trirectl policy suggest{}: from {} of {} flows.", denied ? " --denied" : "",
                  counted(flows->flows.size(), "kind"), denied ? "audited or denied" : "audited"));
  if (globals.json) {
    print_json(suggestion_json(suggestion, toml));
  } else {
    fmt::print("{}", toml);
  }
  if (flows->forgotten > 0) {
    fmt::print(stderr, "trirectl: {}\n", forgotten_text(flows->forgotten));
  }
  if (flows->flows.empty() && !globals.json) {
    fmt::print(stderr, "trirectl: no {} flows yet\n", denied ? "audited or denied" : "audited");
    if (!denied) {
      fmt::print(stderr,
                 "trirectl: hint: --denied includes denied flows; mode = \"audit\" in [defaults] "
                 "allows and logs everything\n");
    }
  }
  return kYes;
}

}  // namespace

void add_policy_suggest(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "suggest", "Print the rules that would allow the audited flows");
  const auto query = std::make_shared<FlowQuery>();
  const auto denied = std::make_shared<bool>(false);
  command->add_flag("--denied", *denied, "include denied flows");
  add_flow_query(*command, query);
  command->footer(
      "Prints TOML for a new file in policy.d, without flows that are already allowed.\n"
      "Review every rule before you use it. For example, in /etc/trireme:\n"
      "trirectl policy suggest --since 7d >policy.d/suggested-$(date +%F).toml");
  command->callback([&globals, &action, query, denied] {
    action = [&globals, query, denied] { return suggest(globals, *query, *denied); };
  });
}

}  // namespace trireme::cli
