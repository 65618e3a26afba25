// SPDX-License-Identifier: Apache-2.0
#include "trireme/config/peer.hpp"

#include <set>

#include "peer_reader.hpp"
#include "trireme/policy/samples.hpp"
#include "trireme/policy/selector.hpp"
#include "words.hpp"

namespace trireme::config {
namespace {

NetworkIndex index_of(const policy::Policy& policy) {
  NetworkIndex index;
  for (std::size_t i = 0; i < policy.networks.size(); ++i) {
    index.emplace(policy.networks[i].name, i);
  }
  return index;
}

/// A loopback address can only belong to this host.
policy::Endpoint::Kind at(const policy::Address& address) {
  return address.is_loopback() ? policy::Endpoint::Kind::host : policy::Endpoint::Kind::world;
}

Ends network_endpoints(const policy::Policy& policy, const policy::NameIndex& names,
                       std::size_t index) {
  Ends ends;
  for (const policy::Address& address : policy::samples(policy, index)) {
    ends.list.push_back({at(address), nullptr, 0, address});
  }
  std::set<std::vector<std::size_t>> seen;
  for (const std::string& name : policy.networks.at(index).names) {
    auto named = std::make_shared<const std::vector<std::size_t>>(names.match(name));
    if (seen.insert(*named).second) {
      ends.list.push_back({.kind = policy::Endpoint::Kind::world, .address = {}, .named = *named});
      ends.named.push_back(std::move(named));
    }
  }
  return ends;
}

}  // namespace

Result<policy::TestPeer> parse_test_peer(std::string_view text, const policy::Policy& policy) {
  return parse_test_peer(text, index_of(policy), true);
}

Result<policy::TestPeer> parse_test_peer(std::string_view text, const NetworkIndex& networks,
                                         bool suggests) {
  const std::string_view trimmed = trim(text);
  if (trimmed.empty()) {
    return fail("this endpoint is empty",
                "write labels as app=web,env=prod, or @host, @world, @NETWORK, or an address");
  }
  if (trimmed.starts_with('@')) {
    auto entity = parse_entity(trimmed, networks, suggests);
    return entity ? Result<policy::TestPeer>(policy::TestPeer{*entity, std::nullopt})
                  : tl::unexpected(entity.error());
  }
  if (trimmed.find('=') == std::string_view::npos) {
    if (auto address = policy::Address::parse(trimmed)) {
      return policy::TestPeer{policy::Entity{policy::Entity::Kind::world, 0}, *address};
    }
  }
  auto labels = policy::parse_labels(trimmed);
  return labels ? Result<policy::TestPeer>(policy::TestPeer{std::move(*labels), std::nullopt})
                : tl::unexpected(labels.error());
}

std::string text(const policy::Policy& policy, const policy::TestPeer& peer) {
  if (const auto* labels = std::get_if<policy::LabelSet>(&peer.peer)) {
    return labels->empty() ? "a workload without labels" : labels->text();
  }
  const auto& entity = std::get<policy::Entity>(peer.peer);
  if (entity.kind == policy::Entity::Kind::network) {
    return "@" + policy.networks.at(entity.network).name;
  }
  if (peer.address) {
    return peer.address->text();
  }
  return entity.kind == policy::Entity::Kind::host ? "@host" : "@world";
}

Ends endpoints(const policy::Policy& policy, const policy::NameIndex& names,
               const policy::TestPeer& peer, std::uint64_t workload) {
  using Kind = policy::Endpoint::Kind;
  if (const auto* labels = std::get_if<policy::LabelSet>(&peer.peer)) {
    return {.list = {{Kind::workload, labels, workload, std::nullopt}}};
  }
  const auto& entity = std::get<policy::Entity>(peer.peer);
  if (entity.kind == policy::Entity::Kind::network) {
    return network_endpoints(policy, names, entity.network);
  }
  if (peer.address) {
    return {.list = {{at(*peer.address), nullptr, 0, peer.address}}};
  }
  if (entity.kind != policy::Entity::Kind::host) {
    return {.list = {{Kind::world, nullptr, 0, std::nullopt}}};
  }
  // A process of this host always has an address, and networks can contain that address.
  Ends ends{.list = {{Kind::host, nullptr, 0, std::nullopt}}};
  for (const char* loopback : {"127.0.0.1", "::1"}) {
    ends.list.push_back({Kind::host, nullptr, 0, policy::Address::parse(loopback).value()});
  }
  return ends;
}

}  // namespace trireme::config
