// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "trireme/control/flow.hpp"
#include "trireme/policy/explain.hpp"
#include "trireme/policy/ports.hpp"

namespace trireme::control {
namespace {

using nlohmann::json;
using policy::PortRange;

/// The value of a key that is one string or a list of strings.
std::vector<std::string> texts_of(const json& params, const char* key) {
  const auto found = params.find(key);
  if (found == params.end() || found->is_null()) {
    return {};
  }
  return found->is_array() ? found->get<std::vector<std::string>>()
                           : std::vector{found->get<std::string>()};
}

bool is_at(const FlowEnd& end, const std::vector<policy::Prefix>& prefixes) {
  return end.address && std::ranges::any_of(prefixes, [&](const policy::Prefix& prefix) {
           return prefix.contains(*end.address);
         });
}

}  // namespace

Result<FlowFilter::EndTest> FlowFilter::parse_end(const std::string& text,
                                                  const policy::Policy& policy) {
  if (text == "@host" || text == "@world") {
    return EndTest([text](const FlowEnd& end) { return !end.labels && end.entity == text; });
  }
  if (text.starts_with('@')) {
    const auto network = std::ranges::find(policy.networks, text.substr(1), &policy::Network::name);
    if (network == policy.networks.end()) {
      return fail("unknown network '" + text + "'",
                  "use @host, @world, or the name of a [[network]] of the policy");
    }
    return EndTest([network = *network](const FlowEnd& end) {
      return !end.labels && (std::ranges::find(end.networks, network.name) != end.networks.end() ||
                             is_at(end, network.cidrs));
    });
  }
  if (const auto prefix = policy::Prefix::parse(text)) {
    return EndTest(
        [prefixes = std::vector{*prefix}](const FlowEnd& end) { return is_at(end, prefixes); });
  }
  // Text without an operator of selectors is a name: `app` is the workload "app", not its label.
  if (text.find_first_of("=!,( ") == std::string::npos && text != "*") {
    return EndTest([text](const FlowEnd& end) {
      return !end.workload.empty() && policy::matches_pattern(text, end.workload);
    });
  }
  const auto selector = policy::Selector::parse(text);
  if (!selector) {
    return fail(fmt::format("invalid endpoint '{}': {}", text, selector.error().error.message),
                "use a workload's name, a selector such as app=web, @host, @world, @NETWORK, an "
                "address or a CIDR");
  }
  return EndTest([selector = *selector](const FlowEnd& end) {
    return end.labels && selector.matches(*end.labels);
  });
}

Result<FlowFilter> FlowFilter::parse(const json& params, const policy::Policy& policy) {
  FlowFilter filter;
  for (const std::string& text : texts_of(params, "verdict")) {
    if (text != "allow" && text != "deny" && text != "audit") {
      return fail_usage({"unknown verdict '" + text + "'", "use allow, deny or audit"});
    }
    filter.verdicts_.push_back(text == "allow"  ? policy::Verdict::allow
                               : text == "deny" ? policy::Verdict::deny
                                                : policy::Verdict::audit);
  }
  for (const auto& [key, tests] :
       {std::pair{"from", &filter.from_}, {"to", &filter.to_}, {"with", &filter.with_}}) {
    for (const std::string& text : texts_of(params, key)) {
      auto test = parse_end(text, policy);
      if (!test) {
        return fail_usage(test.error());
      }
      tests->push_back(std::move(*test));
    }
  }
  for (const std::string& text : texts_of(params, "port")) {
    const auto range = policy::parse_ports(text);
    if (!range) {
      return fail_usage(range.error());
    }
    filter.ports_.push_back(*range);
  }
  for (const std::string& text : texts_of(params, "protocol")) {
    const auto protocol = policy::protocol_number(text);
    if (!protocol) {
      return fail_usage({"unknown protocol '" + text + "'", "use tcp, udp, icmp or icmpv6"});
    }
    filter.protocols_.push_back(*protocol);
  }
  if (const auto since = params.find("since");
      since != params.end() && since->is_number_unsigned()) {
    filter.since_ =
        std::chrono::seconds(std::min<std::uint64_t>(since->get<std::uint64_t>(), 1U << 30U));
  }
  return filter;
}

bool FlowFilter::matches(const Flow& flow) const {
  const auto any = [](const std::vector<EndTest>& tests, const FlowEnd& end) {
    return std::ranges::any_of(tests, [&](const EndTest& test) { return test(end); });
  };
  const auto is_port = [&](const PortRange& range) {
    return (range.protocol == 0 || range.protocol == flow.protocol) && range.first <= flow.port &&
           flow.port <= range.last;
  };
  return (verdicts_.empty() || std::ranges::find(verdicts_, flow.verdict) != verdicts_.end()) &&
         (protocols_.empty() || std::ranges::find(protocols_, flow.protocol) != protocols_.end()) &&
         (ports_.empty() || std::ranges::any_of(ports_, is_port)) &&
         (from_.empty() || any(from_, flow.source)) &&
         (to_.empty() || any(to_, flow.destination)) &&
         (with_.empty() || any(with_, flow.source) || any(with_, flow.destination)) &&
         flow.time >= since();
}

}  // namespace trireme::control
