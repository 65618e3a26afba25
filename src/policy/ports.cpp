// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/ports.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "trireme/policy/explain.hpp"

namespace trireme::policy {
namespace {

constexpr std::uint16_t kLast = std::numeric_limits<std::uint16_t>::max();

bool has_ports(std::uint8_t protocol) {
  return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == 0;
}

tl::unexpected<Error> invalid(std::string_view text, bool names) {
  return fail(fmt::format("invalid port '{}'", text),
              names ? "use a number or a name from /etc/services, such as 443, https, tcp/5432, "
                      "udp/8000-8010, icmp or icmpv6"
                    : "use for example tcp/5432, udp/8000-8010, 443, icmp or icmpv6");
}

std::optional<std::uint16_t> port_number(std::string_view digits) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  return error == std::errc() && end == digits.data() + digits.size() && port != 0
             ? std::optional(port)
             : std::nullopt;
}

/// Sets the ports of the range from "443" or "8000-8010".
Status read_numbers(std::string_view text, std::string_view numbers, PortRange& range, bool names) {
  const std::size_t dash = numbers.find('-');
  const auto first = port_number(numbers.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : port_number(numbers.substr(dash + 1));
  if (!first || !last) {
    return invalid(text, names);
  }
  if (*first > *last) {
    return fail(fmt::format("port range '{}' is reversed", text),
                fmt::format("did you mean {}-{}?", *last, *first));
  }
  range.first = *first;
  range.last = *last;
  return {};
}

/// Sets the port of the range from the name of a service. If the range has no protocol yet, it gets
/// the only one that has this service.
Status read_name(std::string_view text, const std::string& name, PortRange& range,
                 const ServiceLookup& services) {
  const std::uint8_t wanted = range.protocol;
  std::optional<std::uint16_t> port;
  for (const std::uint8_t protocol : std::array<std::uint8_t, 2>{IPPROTO_TCP, IPPROTO_UDP}) {
    const auto found = wanted == 0 || wanted == protocol ? services(name, protocol) : std::nullopt;
    if (!found) {
      continue;
    }
    if (port && *port != *found) {
      return fail(fmt::format("service '{}' has different ports for tcp and udp", name),
                  fmt::format("write tcp/{} or udp/{}", name, name));
    }
    range.protocol = port ? wanted : protocol;
    port = found;
  }
  if (!port) {
    return invalid(text, true);
  }
  range.first = range.last = *port;
  return {};
}

}  // namespace

std::optional<std::uint8_t> protocol_number(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, std::uint8_t>, 4> kProtocols = {
      {{"tcp", IPPROTO_TCP},
       {"udp", IPPROTO_UDP},
       {"icmp", IPPROTO_ICMP},
       {"icmpv6", IPPROTO_ICMPV6}}};
  const auto* const found =
      std::ranges::find(kProtocols, name, &std::pair<std::string_view, std::uint8_t>::first);
  return found == kProtocols.end() ? std::nullopt : std::optional(found->second);
}

Result<PortRange> parse_ports(std::string_view text, const ServiceLookup& services) {
  const bool names = services != nullptr;
  PortRange range{.protocol = 0, .first = 0, .last = kLast};
  if (const auto alone = protocol_number(text)) {
    range.protocol = *alone;
    return range;
  }
  std::string_view ports = text;
  if (const std::size_t slash = text.find('/'); slash != std::string_view::npos) {
    const std::string_view before = text.substr(0, slash);
    const std::string_view after = text.substr(slash + 1);
    const auto protocol =
        protocol_number(before) ? protocol_number(before) : protocol_number(after);
    if (!protocol) {
      return invalid(text, names);
    }
    range.protocol = *protocol;
    ports = protocol_number(before) ? after : before;
  } else if (const std::size_t colon = text.find_first_of(": ");
             colon != std::string_view::npos && protocol_number(text.substr(0, colon))) {
    return fail(fmt::format("invalid port '{}'", text),
                fmt::format("did you mean {}/{}?", text.substr(0, colon), text.substr(colon + 1)));
  }
  if (!has_ports(range.protocol)) {
    const std::string protocol = range_text(range);
    return fail(fmt::format("invalid port '{}': {} has no ports", text, protocol),
                fmt::format("use {}", protocol));
  }
  if (names && !ports.empty() && ports.find_first_not_of("0123456789-") != std::string_view::npos) {
    const Status read = read_name(text, std::string(ports), range, services);
    return read ? Result<PortRange>(range) : tl::unexpected(read.error());
  }
  const Status read = read_numbers(text, ports, range, names);
  return read ? Result<PortRange>(range) : tl::unexpected(read.error());
}

Result<PortRange> parse_port(std::string_view text, const ServiceLookup& services) {
  auto range = parse_ports(text, services);
  if (!range) {
    return range;
  }
  if (!has_ports(range->protocol)) {
    range->first = range->last = 0;
    return range;
  }
  if (range->first != range->last) {
    return fail(fmt::format("'{}' is more than one port", text), "use one port, such as tcp/5432");
  }
  if (range->protocol == 0) {
    range->protocol = IPPROTO_TCP;
  }
  return range;
}

std::string text(const PortRange& ports) {
  if (ports.protocol != 0) {
    return range_text(ports);
  }
  return ports.first == ports.last ? fmt::format("{}", ports.first)
                                   : fmt::format("{}-{}", ports.first, ports.last);
}

}  // namespace trireme::policy
