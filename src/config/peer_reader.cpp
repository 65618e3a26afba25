// SPDX-License-Identifier: Apache-2.0
#include "peer_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "trireme/base/nearest.hpp"
#include "words.hpp"

namespace trireme::config {
namespace {

struct Protocol {
  std::string_view name;
  std::uint8_t number;
  bool has_ports;
};
constexpr Protocol kProtocols[] = {
    {"tcp", 6, true}, {"udp", 17, true}, {"icmp", 1, false}, {"icmpv6", 58, false}};

tl::unexpected<PortError> port_error(std::size_t offset, std::string message, std::string hint) {
  return tl::unexpected(PortError{offset, Error{std::move(message), std::move(hint)}});
}

std::string protocol_hint(std::string_view text) {
  if (!text.empty() && text.find_first_not_of("0123456789-") == std::string_view::npos) {
    return fmt::format("add the protocol: \"tcp/{}\"", text);
  }
  const std::size_t end = text.find_first_of("/:., ");
  const std::string_view name = text.substr(0, end);
  if (const std::string_view last = end == std::string_view::npos ? "" : text.substr(end + 1);
      last == "tcp" || last == "udp") {
    return fmt::format("did you mean '{}/{}'?", last, name);
  }
  // Do not suggest the protocol without the port: it would match all ports.
  if (const auto near = nearest(std::string(name), {"tcp", "udp"});
      !near.empty() && end != std::string_view::npos && end + 1 < text.size()) {
    return fmt::format("did you mean '{}/{}'?", near, text.substr(end + 1));
  }
  return did_you_mean(name, {"tcp", "udp", "icmp", "icmpv6"},
                      "write tcp/80, udp/8000-8010, tcp, udp, icmp or icmpv6");
}

std::optional<std::uint16_t> parse_port(std::string_view digits) {
  std::uint16_t port = 0;
  const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  return status == std::errc{} && end == digits.data() + digits.size() && port != 0
             ? std::optional(port)
             : std::nullopt;
}

std::vector<std::string> entity_names(const NetworkIndex& networks) {
  std::vector<std::string> names = {"@host", "@world"};
  for (const auto& [name, index] : networks) {
    names.push_back("@" + name);
  }
  return names;
}

}  // namespace

Result<policy::Entity> parse_entity(std::string_view text, const NetworkIndex& networks,
                                    bool suggests) {
  if (text == "@host") {
    return policy::Entity{policy::Entity::Kind::host, 0};
  }
  if (text == "@world") {
    return policy::Entity{policy::Entity::Kind::world, 0};
  }
  if (const auto found = networks.find(text.substr(1)); found != networks.end()) {
    return policy::Entity{policy::Entity::Kind::network, found->second};
  }
  if (text.find_first_of(", \t=()") != std::string_view::npos) {
    return fail(fmt::format("an entity must be a string of its own, not part of '{}'", text),
                "write several peers as a list: [\"@host\", \"app=web\"]");
  }
  std::string define = fmt::format("define it: [[network]] name = \"{}\"", text.substr(1));
  return fail(fmt::format("unknown network '{}'", text),
              suggests ? did_you_mean(text, entity_names(networks), std::move(define)) : define);
}

std::optional<policy::Peer> read_peer(const TableReader& reader, const Text& text,
                                      const NetworkIndex& networks) {
  const std::string_view trimmed = trim(text.value);
  if (trimmed.starts_with('@')) {
    auto entity = parse_entity(trimmed, networks, reader.reporter().suggests());
    if (!entity) {
      const auto offset = static_cast<std::size_t>(trimmed.data() - text.value.data());
      reader.reporter().error(reader.document().inside(*text.node, offset), entity.error());
      return std::nullopt;
    }
    return *entity;
  }
  // An IPv4 address could be a label key, so that it is a warning of lint.
  if (trimmed.find(':') != std::string_view::npos && policy::Prefix::parse(trimmed)) {
    reader.error(text, fmt::format("'{}' is an address, not a selector", trimmed),
                 fmt::format("define a [[network]] with name = \"NAME\" and cidrs = [\"{}\"], and "
                             "write \"@NAME\"",
                             trimmed));
    return std::nullopt;
  }
  auto selector = policy::Selector::parse(text.value);
  if (!selector) {
    reader.reporter().error(reader.document().inside(*text.node, selector.error().offset),
                            selector.error().error);
    return std::nullopt;
  }
  return std::move(*selector);
}

tl::expected<policy::PortRange, PortError> parse_ports(std::string_view text) {
  const std::size_t slash = text.find('/');
  const std::string_view name = text.substr(0, slash);
  const auto* protocol = std::find_if(std::begin(kProtocols), std::end(kProtocols),
                                      [name](const Protocol& p) { return p.name == name; });
  if (protocol == std::end(kProtocols)) {
    return port_error(0, fmt::format("unknown protocol in '{}'", text), protocol_hint(text));
  }
  policy::PortRange range{protocol->number, 0, 65535};
  if (slash == std::string_view::npos) {
    return range;
  }
  if (!protocol->has_ports) {
    return port_error(slash, fmt::format("{} has no ports", name),
                      fmt::format("write \"{}\"", name));
  }
  const std::string_view ports = text.substr(slash + 1);
  const std::size_t dash = ports.find('-');
  const auto first = parse_port(ports.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : parse_port(ports.substr(dash + 1));
  if (!first || !last) {
    const std::size_t offset = slash + 1 + (first ? dash + 1 : 0);
    return port_error(offset, fmt::format("invalid port in '{}'", text),
                      "ports run from 1 to 65535: tcp/80 or udp/8000-8010");
  }
  if (*first > *last) {
    return port_error(slash + 1, fmt::format("port range '{}' is reversed", text),
                      fmt::format("did you mean {}/{}-{}?", name, *last, *first));
  }
  range.first = *first;
  range.last = *last;
  return range;
}

std::optional<policy::PortRange> read_ports(const TableReader& reader, const Text& text) {
  auto ports = parse_ports(text.value);
  if (!ports) {
    reader.reporter().error(reader.document().inside(*text.node, ports.error().offset),
                            ports.error().error);
    return std::nullopt;
  }
  return *ports;
}

std::string ports_text(const policy::PortRange& ports) {
  const auto* protocol =
      std::find_if(std::begin(kProtocols), std::end(kProtocols),
                   [&ports](const Protocol& p) { return p.number == ports.protocol; });
  if (protocol == std::end(kProtocols)) {
    return fmt::format("protocol {}", ports.protocol);
  }
  if (!protocol->has_ports || (ports.first <= 1 && ports.last == 65535)) {
    return std::string(protocol->name);
  }
  return ports.first == ports.last
             ? fmt::format("{}/{}", protocol->name, ports.first)
             : fmt::format("{}/{}-{}", protocol->name, ports.first, ports.last);
}

}  // namespace trireme::config
