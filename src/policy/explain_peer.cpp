// SPDX-License-Identifier: Apache-2.0
// Parses the endpoints and the port of a flow to explain.
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <set>

#include "trireme/policy/explain.hpp"
#include "trireme/policy/names.hpp"
#include "trireme/policy/samples.hpp"

namespace trireme::policy {
namespace {

std::string protocol_text(std::uint8_t protocol) {
  switch (protocol) {
    case IPPROTO_TCP:
      return "tcp";
    case IPPROTO_UDP:
      return "udp";
    case IPPROTO_ICMP:
      return "icmp";
    case IPPROTO_ICMPV6:
      return "icmpv6";
    default:
      return std::to_string(protocol);
  }
}

bool is_loopback(const Address& address) {
  static const Prefix v4 = Prefix::parse("127.0.0.0/8").value();
  static const Prefix v6 = Prefix::parse("::1/128").value();
  return v4.contains(address) || v6.contains(address);
}

ExplainPeer at_address(std::string_view text, const Address& address, const PeerLookup& lookup) {
  const bool local = is_loopback(address) || (lookup.is_local && lookup.is_local(address));
  ExplainPeer peer;
  peer.text = text;
  peer.kind = local ? Endpoint::Kind::host : Endpoint::Kind::world;
  peer.address = address;
  peer.named = lookup.named ? lookup.named(address) : std::vector<std::size_t>();
  return peer;
}

/// All networks that contain the endpoint.
std::vector<std::size_t> networks_of(const Policy& policy, const ExplainPeer& peer) {
  std::vector<std::size_t> networks;
  for (std::size_t i = 0; i < policy.networks.size(); ++i) {
    if (covers(policy, Entity{.kind = Entity::Kind::network, .network = i}, peer.endpoint())) {
      networks.push_back(i);
    }
  }
  return networks;
}

/// Collects endpoints without labels; keeps one of those that no rule distinguishes.
class Parts {
 public:
  explicit Parts(const Policy& policy) : policy_(policy) {}
  void add(ExplainPeer peer) {
    if (list_.size() < kMostParts && seen_.emplace(peer.kind, networks_of(policy_, peer)).second) {
      list_.push_back(std::move(peer));
    }
  }
  [[nodiscard]] std::vector<ExplainPeer> take() { return std::move(list_); }

 private:
  const Policy& policy_;
  std::set<std::pair<Endpoint::Kind, std::vector<std::size_t>>> seen_;
  std::vector<ExplainPeer> list_;
};

/// Adds an endpoint for each known address of a DNS name, or one without an address.
void add_name(std::string_view text, const std::string& name,
              const std::vector<std::size_t>& networks, const PeerLookup& lookup, Parts& parts) {
  const std::vector<Address> addresses =
      lookup.addresses ? lookup.addresses(name) : std::vector<Address>();
  for (const Address& address : addresses) {
    ExplainPeer peer = at_address(text, address, lookup);
    peer.named = networks;
    peer.note = fmt::format("{} resolved to {}{}", name, address.text(),
                            addresses.size() > 1
                                ? fmt::format(" and {} other {}", addresses.size() - 1,
                                              addresses.size() == 2 ? "address" : "addresses")
                                : "");
    parts.add(std::move(peer));
  }
  if (!addresses.empty()) {
    return;
  }
  ExplainPeer peer;
  peer.text = text;
  peer.named = networks;
  if (lookup.addresses) {
    peer.note = fmt::format(
        "no DNS answer for {} was seen yet: until a workload looks up the name, its addresses are "
        "denied",
        name);
  }
  parts.add(std::move(peer));
}

/// One endpoint for each combination of networks that contain addresses or names of the network.
std::vector<ExplainPeer> parts_of(std::string_view text, const Policy& policy, std::size_t index,
                                  const PeerLookup& lookup) {
  const Network& network = policy.networks[index];
  Parts parts(policy);
  if (!network.cidrs.empty()) {
    parts.add(at_address(text, network.cidrs.front().address, lookup));
    for (const Address& address : samples(policy, index)) {
      parts.add(at_address(text, address, lookup));
    }
  }
  const NameIndex names(policy);
  for (const std::string& name : network.names) {
    add_name(name, name, names.match(name), lookup, parts);
  }
  std::vector<ExplainPeer> list = parts.take();
  if (list.size() == 1) {
    list.front().text = text;  // the network has only one part
  }
  return list;
}

std::string plain_name(std::string_view text) {
  std::string name(text.substr(0, text.size() - (text.ends_with('.') ? 1 : 0)));
  std::ranges::transform(name, name.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return name;
}

Result<std::vector<ExplainPeer>> parse_entity(std::string_view text, const Policy& policy,
                                              const PeerLookup& lookup) {
  if (text == "@host" || text == "@world") {
    ExplainPeer peer;
    peer.text = text;
    peer.kind = text == "@host" ? Endpoint::Kind::host : Endpoint::Kind::world;
    return std::vector{std::move(peer)};
  }
  for (std::size_t i = 0; i < policy.networks.size(); ++i) {
    if (policy.networks[i].name == text.substr(1)) {
      return parts_of(text, policy, i, lookup);
    }
  }
  return fail(fmt::format("unknown network '{}'", text),
              "use @host, @world, or the name of a [[network]] of the policy");
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t";
  const std::size_t first = text.find_first_not_of(kSpace);
  return first == std::string_view::npos
             ? std::string_view()
             : text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

Result<ExplainPeer> parse_labels(std::string_view text) {
  ExplainPeer peer;
  peer.text = text;
  peer.kind = Endpoint::Kind::workload;
  std::string_view rest = text;
  while (true) {
    const std::size_t comma = rest.find(',');
    const auto label = parse_label(trimmed(rest.substr(0, comma)));
    if (!label) {
      return tl::unexpected(label.error());
    }
    if (peer.labels.find(label->key) != nullptr) {
      return fail(fmt::format("label '{}' is given twice", label->key));
    }
    if (auto status = peer.labels.set(label->key, label->value); !status) {
      return tl::unexpected(status.error());
    }
    if (comma == std::string_view::npos) {
      return peer;
    }
    rest.remove_prefix(comma + 1);
  }
}

}  // namespace

Endpoint ExplainPeer::endpoint() const {
  return {.kind = kind,
          .labels = kind == Endpoint::Kind::workload ? &labels : nullptr,
          .workload = workload,
          .address = address,
          .named = named};
}

std::string ExplainPeer::describe(const Policy& policy) const {
  if (kind == Endpoint::Kind::workload) {
    const std::string shown = labels.empty() ? "no labels" : labels.text();
    return name.empty() ? shown : fmt::format("{} ({})", name, shown);
  }
  const std::string entity = kind == Endpoint::Kind::host ? "@host" : "@world";
  if (!address && named.empty()) {
    return entity;
  }
  const std::string where = !address ? text
                            : text == address->text() || text.starts_with('@')
                                ? address->text()
                                : text + " at " + address->text();
  std::string networks;
  for (const std::size_t network : networks_of(policy, *this)) {
    networks += ", @" + policy.networks[network].name;
  }
  return fmt::format("{} ({}{})", where, entity, networks);
}

Result<ExplainPeer> parse_peer(std::string_view text, const Policy& policy,
                               const PeerLookup& lookup) {
  auto peers = parse_peers(text, policy, lookup);
  return peers ? Result<ExplainPeer>(std::move(peers->front())) : tl::unexpected(peers.error());
}

Result<std::vector<ExplainPeer>> parse_peers(std::string_view text, const Policy& policy,
                                             const PeerLookup& lookup) {
  if (text.empty()) {
    return fail("an endpoint of the flow is empty",
                "use a workload's name, labels such as app=web,env=prod, @host, @world, @NETWORK "
                "or an address");
  }
  if (text.front() == '@') {
    return parse_entity(text, policy, lookup);
  }
  if (lookup.workload) {
    if (auto peer = lookup.workload(text)) {
      peer->text = text;
      return std::vector{std::move(*peer)};
    }
  }
  if (text.find('=') != std::string_view::npos) {
    auto peer = parse_labels(text);
    return peer ? Result<std::vector<ExplainPeer>>(std::vector{std::move(*peer)})
                : tl::unexpected(peer.error());
  }
  if (const auto address = Address::parse(text)) {
    return std::vector{at_address(text, *address, lookup)};
  }
  const std::string name = plain_name(text);
  if (const auto networks = NameIndex(policy).match(name); !networks.empty()) {
    Parts parts(policy);
    add_name(text, name, networks, lookup, parts);
    return parts.take();
  }
  return fail(
      fmt::format("'{}' is not a workload, label (app=web), @entity, network or address", text),
      lookup.workload
          ? "'trirectl workloads' lists the names; write labels as app=web,env=prod; a DNS name "
            "must be in a [[network]]"
          : "only the daemon knows the names of workloads; write labels as app=web,env=prod; a DNS "
            "name must be in a [[network]]");
}

std::string port_text(std::uint8_t protocol, std::uint16_t port) {
  const bool ports = protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
  return ports ? fmt::format("{}/{}", protocol_text(protocol), port) : protocol_text(protocol);
}

std::string range_text(const PortRange& range) {
  if (range.protocol != IPPROTO_TCP && range.protocol != IPPROTO_UDP) {
    return port_text(range.protocol, 0);
  }
  if (range.first == 0 && range.last == 65535) {
    return protocol_text(range.protocol);
  }
  return range.first == range.last
             ? port_text(range.protocol, range.first)
             : fmt::format("{}-{}", port_text(range.protocol, range.first), range.last);
}

std::string peer_text(const Policy& policy, const Peer& peer) {
  if (const auto* selector = std::get_if<Selector>(&peer)) {
    return selector->text();
  }
  const auto& entity = std::get<Entity>(peer);
  switch (entity.kind) {
    case Entity::Kind::host:
      return "@host";
    case Entity::Kind::world:
      return "@world";
    case Entity::Kind::network:
      return "@" + (entity.network < policy.networks.size() ? policy.networks[entity.network].name
                                                            : std::string("?"));
  }
  return "?";
}

}  // namespace trireme::policy
