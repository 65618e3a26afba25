// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "trireme/control/flow.hpp"
#include "trireme/policy/explain.hpp"

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

Result<std::uint8_t> protocol_number(const std::string& text) {
  static const std::map<std::string_view, std::uint8_t> known = {{"tcp", IPPROTO_TCP},
                                                                 {"udp", IPPROTO_UDP},
                                                                 {"icmp", IPPROTO_ICMP},
                                                                 {"icmpv6", IPPROTO_ICMPV6}};
  if (const auto found = known.find(text); found != known.end()) {
    return found->second;
  }
  return fail("unknown protocol '" + text + "'", "use tcp, udp, icmp or icmpv6");
}

std::optional<std::uint16_t> port_number(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(port)
                                                                  : std::nullopt;
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

Result<PortRange> FlowFilter::parse_ports(const std::string& text) {
  const auto bad = [&] {
    return fail("invalid port '" + text + "'",
                "use for example tcp/5432, udp/8000-8010, 443, icmp or icmpv6");
  };
  const std::size_t slash = text.find('/');
  if (text == "icmp" || text == "icmpv6") {
    return PortRange{.protocol = *protocol_number(text)};
  }
  PortRange range;
  if (slash != std::string::npos) {
    const auto protocol = protocol_number(text.substr(0, slash));
    if (!protocol) {
      return bad();
    }
    range.protocol = *protocol;
  }
  const std::string ports = slash == std::string::npos ? text : text.substr(slash + 1);
  const std::size_t dash = ports.find('-');
  const auto first = port_number(std::string_view(ports).substr(0, dash));
  const auto last =
      dash == std::string::npos ? first : port_number(std::string_view(ports).substr(dash + 1));
  if (!first || !last || *first > *last) {
    return bad();
  }
  range.first = *first;
  range.last = *last;
  return range;
}

Result<FlowFilter> FlowFilter::parse(const json& params, const policy::Policy& policy) {
  FlowFilter filter;
  for (const std::string& text : texts_of(params, "verdict")) {
    if (text != "allow" && text != "deny" && text != "audit") {
      return fail("unknown verdict '" + text + "'", "use allow, deny or audit");
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
        return tl::unexpected(test.error());
      }
      tests->push_back(std::move(*test));
    }
  }
  for (const std::string& text : texts_of(params, "port")) {
    const auto range = parse_ports(text);
    if (!range) {
      return tl::unexpected(range.error());
    }
    filter.ports_.push_back(*range);
  }
  for (const std::string& text : texts_of(params, "protocol")) {
    const auto protocol = protocol_number(text);
    if (!protocol) {
      return tl::unexpected(protocol.error());
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
