// SPDX-License-Identifier: Apache-2.0
#include "flow_query.hpp"

#include "values.hpp"

namespace trireme::cli {

void add_flow_query(CLI::App& command, const std::shared_ptr<FlowQuery>& query) {
  const auto add = [&command](const char* name, std::vector<std::string>& values, const char* type,
                              const char* description) {
    return command.add_option(name, values, description)->allow_extra_args(false)->type_name(type);
  };
  add("--from", query->from, "MATCH", "only from these endpoints");
  add("--to", query->to, "MATCH", "only to these endpoints");
  add("--with", query->with, "MATCH", "either end matches");
  add("--port", query->ports, "PORT", "only these ports: https, tcp/80, udp/8000-8010, 443")
      ->delimiter(',')
      ->transform(ports());
  add("--protocol", query->protocols, "PROTOCOL", "only these protocols")
      ->delimiter(',')
      ->check(one_of({"tcp", "udp", "icmp", "icmpv6"}));
  command.add_option("--since", query->since, "only flows of the last 90s, 15m, 2h or 7d")
      ->type_name("TIME")
      ->check(time_span());
}

Result<nlohmann::json> flow_params(const FlowQuery& query) {
  nlohmann::json params = {
      {"verdict", query.verdicts}, {"from", query.from},  {"to", query.to},
      {"with", query.with},        {"port", query.ports}, {"protocol", query.protocols}};
  if (!query.since.empty()) {
    const auto since = parse_time_span(query.since);
    if (!since) {
      return fail_usage(since.error());
    }
    params["since"] = static_cast<std::uint64_t>(since->count());
  }
  return params;
}

}  // namespace trireme::cli
