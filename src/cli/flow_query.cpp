// SPDX-License-Identifier: Apache-2.0
#include "flow_query.hpp"

#include <charconv>

namespace trireme::cli {

Result<std::uint64_t> parse_time_span(const std::string& text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string unit(end, text.data() + text.size());
  const std::uint64_t factor = unit.empty() || unit == "s" ? 1
                               : unit == "m"               ? 60
                               : unit == "h"               ? 3600
                               : unit == "d"               ? 86400
                                                           : 0;
  if (error != std::errc() || factor == 0 || number > 1'000'000'000) {
    return fail("invalid time span '" + text + "'",
                "use a number with a unit, such as 90s, 15m, 2h or 7d");
  }
  return number * factor;
}

void add_flow_query(CLI::App& command, const std::shared_ptr<FlowQuery>& query) {
  command.add_option("--from", query->from, "only from this endpoint")->allow_extra_args(false);
  command.add_option("--to", query->to, "only to this endpoint")->allow_extra_args(false);
  command.add_option("--with", query->with, "either end matches")->allow_extra_args(false);
  command.add_option("--port", query->ports, "only these ports: tcp/80, udp/8000-8010, 443")
      ->allow_extra_args(false)
      ->delimiter(',');
  command
      .add_option("--protocol", query->protocols, "only these protocols: tcp, udp, icmp, icmpv6")
      ->allow_extra_args(false)
      ->delimiter(',');
  command.add_option("--since", query->since, "only flows of the last 90s, 15m, 2h or 7d");
}

Result<nlohmann::json> flow_params(const FlowQuery& query) {
  nlohmann::json params = {
      {"verdict", query.verdicts}, {"from", query.from},  {"to", query.to},
      {"with", query.with},        {"port", query.ports}, {"protocol", query.protocols}};
  if (!query.since.empty()) {
    const auto seconds = parse_time_span(query.since);
    if (!seconds) {
      return tl::unexpected(seconds.error());
    }
    params["since"] = *seconds;
  }
  return params;
}

}  // namespace trireme::cli
