// SPDX-License-Identifier: Apache-2.0
// Ports as people write them on a command line. Files are stricter: see config/peer.hpp.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "trireme/base/result.hpp"
#include "trireme/policy/policy.hpp"

namespace trireme::policy {

/// The number of "tcp", "udp", "icmp" or "icmpv6".
[[nodiscard]] std::optional<std::uint8_t> protocol_number(std::string_view name);

/// Finds the port of a service such as "http" for tcp or udp, like getservbyname(3). This room
/// reads no files, so that the caller provides the lookup.
using ServiceLookup =
    std::function<std::optional<std::uint16_t>(const std::string& name, std::uint8_t protocol)>;

/// Parses "443", "http", "8000-8010", each also with a protocol before or after it ("tcp/443",
/// "443/tcp"), and a protocol alone: "udp" (every port), "icmp". Without a protocol the result has
/// protocol 0, any, unless it is a name that only one protocol has. Without `services`, a name is
/// an error.
[[nodiscard]] Result<PortRange> parse_ports(std::string_view text,
                                            const ServiceLookup& services = {});

/// Like parse_ports(), but for exactly one port, and tcp if no protocol is given. The port of icmp
/// and icmpv6 is 0.
[[nodiscard]] Result<PortRange> parse_port(std::string_view text,
                                           const ServiceLookup& services = {});

/// The inverse of parse_ports(), with numbers: "443", "8000-8010", "tcp/443", "udp", "icmp".
[[nodiscard]] std::string text(const PortRange& ports);

}  // namespace trireme::policy
