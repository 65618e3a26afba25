// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/world.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace trireme::policy {
namespace {

using Where = WorldEnd::Where;

bool is_link_local(const Address& address) {
  return address.family == Address::Family::v4
             ? address.bytes[0] == 169 && address.bytes[1] == 254
             : address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0U) == 0x80;
}

bool is_in_network(const WorldEnd& end) {
  return end.where == Where::network;
}

bool is_same_network(const WorldEnd& a, const WorldEnd& b) {
  return is_in_network(a) && is_in_network(b) && a.network == b.network;
}

/// Whether the interface's on-link prefix contains the other address.
bool is_on_link(const World::Interface& interface, const Address& other) {
  return Prefix::around(interface.address, interface.length).contains(other);
}

int rank(const Decision& decision) {
  return decision.verdict == Verdict::deny ? 2 : decision.verdict == Verdict::audit ? 1 : 0;
}

/// What the mode in [defaults] makes of a denial that the rules have no part in.
Decision denial(const Policy& policy) {
  return {policy.mode == Mode::audit ? Verdict::audit : Verdict::deny, Reason::no_rule, nullptr,
          false};
}

}  // namespace

/// docs/datapath.md, "The gate": in the network namespace of a container, queries to Docker's
/// resolver and its answers pass.
bool is_resolver(const Address& address) {
  static const Address resolver = Address::parse("127.0.0.11").value();
  return address == resolver;
}

Endpoint View::endpoint() const {
  return {.kind = kind,
          .labels = kind == Endpoint::Kind::workload ? &labels : nullptr,
          .workload = workload,
          .address = address,
          .named = named};
}

std::vector<std::size_t> View::networks(const Policy& policy) const {
  std::vector<std::size_t> networks;
  for (std::size_t i = 0; i < policy.networks.size(); ++i) {
    if (covers(policy, Entity{.kind = Entity::Kind::network, .network = i}, endpoint())) {
      networks.push_back(i);
    }
  }
  return networks;
}

WorldJudge::WorldJudge(const Policy& policy, const World& world)
    : policy_(policy), world_(world), names_(policy) {}

bool WorldJudge::is_workload(const WorldEnd& end) const {
  return end.labels ||
         (end.resident && world_.residents.at(*end.resident).state != World::State::unenforced);
}

WorldEnd WorldJudge::placed(WorldEnd end, const WorldEnd& other) {
  if (end.where == Where::beside) {
    end.where = Where::network;
    end.network = is_in_network(other) ? other.network : 0;
  }
  return end;
}

/// A workload as its own enforcement point knows it; any other end as a process beside it would.
View WorldJudge::own_view(const WorldEnd& end) const {
  if (!is_workload(end)) {
    return at(end, end, end.address);
  }
  View view;
  view.kind = Endpoint::Kind::workload;
  view.labels = end.labels ? *end.labels : world_.residents.at(*end.resident).labels;
  view.workload = end.resident ? world_.residents.at(*end.resident).number : 0;
  return view;
}

View WorldJudge::at(const WorldEnd& end, const WorldEnd& viewer,
                    const std::optional<Address>& address) const {
  View view;
  view.kind = is_same_network(end, viewer) ? Endpoint::Kind::host : Endpoint::Kind::world;
  view.address = address;
  std::set<std::size_t> named;
  const auto add = [&](const std::string& name) {
    const auto networks = names_.match(name);
    named.insert(networks.begin(), networks.end());
  };
  std::ranges::for_each(end.names, add);
  if (address) {
    // Each enforcement point learns from the answers to its own workloads.
    const auto& known = world_.networks.at(is_in_network(viewer) ? viewer.network : 0).named;
    if (const auto found = known.find(*address); found != known.end()) {
      std::ranges::for_each(found->second, add);
    }
  }
  view.named.assign(named.begin(), named.end());
  return view;
}

/// The addresses that an unlabeled process in a network of this host can have for `viewer`: nullopt
/// stands for those that are not known.
std::vector<std::optional<Address>> WorldJudge::addresses(const WorldEnd& end,
                                                          const WorldEnd& viewer,
                                                          bool is_source) const {
  std::vector<std::optional<Address>> list;
  const auto& own = world_.networks.at(end.network).addresses;
  if (is_same_network(end, viewer)) {
    list = {std::nullopt, Address::parse("127.0.0.1").value(), Address::parse("::1").value()};
    for (const World::Interface& interface : own) {
      list.emplace_back(interface.address);
    }
    for (const Network& network : policy_.networks) {  // any address of 127.0.0.0/8 is local
      for (const Prefix& cidr : network.cidrs) {
        if (cidr.address.is_loopback()) {
          list.emplace_back(cidr.address);
        }
      }
    }
    return list;
  }
  const std::vector<World::Interface> none;
  const auto& theirs = is_in_network(viewer) ? world_.networks.at(viewer.network).addresses : none;
  std::vector<std::optional<Address>> others;
  for (const World::Interface& interface : own) {
    const Address& address = interface.address;
    const auto is_of_family = [&](const World::Interface& other) {
      return other.address.family == address.family;
    };
    if (address.is_loopback() || is_link_local(address) ||
        (!theirs.empty() && std::ranges::none_of(theirs, is_of_family))) {
      continue;
    }
    const bool is_near = std::ranges::any_of(theirs, [&](const World::Interface& other) {
      return is_on_link(interface, other.address);
    });
    (is_near ? list : others).emplace_back(address);
  }
  // The kernel gives a client the address of the interface that leads there. A server can listen on
  // any address.
  if (!is_source || list.empty()) {
    list.insert(list.end(), others.begin(), others.end());
  }
  if (list.empty()) {
    list.emplace_back();
  }
  return list;
}

std::vector<View> WorldJudge::views(const WorldEnd& end, const WorldEnd& viewer,
                                    bool is_source) const {
  const bool is_same = is_same_network(end, viewer);
  // Between networks, labels arrive only by a handshake.
  if (is_workload(end) && (is_same || world_.has_handshakes)) {
    View view = own_view(end);
    view.workload = is_same ? view.workload : 0;
    return {std::move(view)};
  }
  if (end.address || !is_in_network(end)) {
    return {at(end, viewer, end.address)};
  }
  std::vector<View> views;
  std::set<std::vector<std::size_t>> seen;
  for (const std::optional<Address>& address : addresses(end, viewer, is_source)) {
    View view = at(end, viewer, address);
    if (seen.insert(view.networks(policy_)).second) {
      views.push_back(std::move(view));
    }
  }
  return views;
}

/// What is decided before any rule is asked; nullopt: nothing is.
std::optional<Ruling> WorldJudge::without_rules(const WorldEnd& from, const WorldEnd& to) const {
  Ruling ruling;
  ruling.from = own_view(from);
  ruling.to = own_view(to);
  for (const bool is_source : {true, false}) {
    const WorldEnd& end = is_source ? from : to;
    const WorldEnd& other = is_source ? to : from;
    const World::Resident* resident = end.resident ? &world_.residents.at(*end.resident) : nullptr;
    ruling.by = is_source ? Ruling::End::source : Ruling::End::destination;
    if (resident != nullptr && resident->state == World::State::quarantined) {
      ruling.aside = fmt::format("{} is in quarantine: {}", resident->name, resident->reason);
      return ruling;
    }
    // A server proves its labels only to a client that has proved its own.
    const bool proves = other.where == Where::peer && (is_source || is_workload(other));
    if (resident != nullptr && is_workload(end) && proves && !resident->unprovable.empty()) {
      ruling.aside = fmt::format("{}: {}", resident->name, resident->unprovable);
      ruling.decision = denial(policy_);
      return ruling;
    }
  }
  if (is_workload(from) && is_same_network(from, to) && from.network != 0 && !is_workload(to) &&
      to.address && is_resolver(*to.address)) {
    ruling.aside = "Docker's resolver is part of each container";
    ruling.by = Ruling::End::source;
    ruling.decision = {Verdict::allow, Reason::self, nullptr, false};
    return ruling;
  }
  return std::nullopt;
}

std::vector<Ruling> WorldJudge::decide(const WorldEnd& asked_from, const WorldEnd& asked_to,
                                       std::uint8_t protocol, std::uint16_t port) const {
  const WorldEnd from = placed(asked_from, asked_to);
  const WorldEnd to = placed(asked_to, asked_from);
  if (auto ruling = without_rules(from, to)) {
    return {std::move(*ruling)};
  }
  Ruling plain;
  plain.from = own_view(from);
  plain.to = own_view(to);
  if (from.may_have_labels || to.may_have_labels) {
    plain.is_known = false;
    plain.by = is_workload(from) ? Ruling::End::source
               : is_workload(to) ? Ruling::End::destination
                                 : Ruling::End::none;
    return {std::move(plain)};
  }
  const bool judges_here = is_workload(from);
  const bool judges_there = is_workload(to);
  if (!judges_here && !judges_there) {
    plain.decision = evaluate(policy_, plain.from.endpoint(), plain.to.endpoint(), protocol, port);
    return {std::move(plain)};
  }
  const auto sources = judges_there ? views(from, to, true) : std::vector<View>{plain.from};
  const auto targets = judges_here ? views(to, from, false) : std::vector<View>{plain.to};
  std::vector<Ruling> rulings;
  for (const View& source : sources) {
    for (const View& target : targets) {
      Ruling ruling = plain;
      if (judges_here) {
        ruling.source = evaluate(policy_, plain.from.endpoint(), target.endpoint(), protocol, port);
      }
      if (judges_there) {
        ruling.destination =
            evaluate(policy_, source.endpoint(), plain.to.endpoint(), protocol, port);
      }
      const bool by_source =
          judges_here && (!judges_there || rank(*ruling.source) >= rank(*ruling.destination));
      ruling.by = by_source ? Ruling::End::source : Ruling::End::destination;
      ruling.decision = by_source ? *ruling.source : *ruling.destination;
      (by_source ? ruling.to : ruling.from) = by_source ? target : source;
      rulings.push_back(std::move(ruling));
    }
  }
  return rulings;
}

}  // namespace trireme::policy
