// SPDX-License-Identifier: Apache-2.0
// Parses the endpoints of a flow to explain.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "trireme/base/lower_case.hpp"
#include "trireme/policy/explain.hpp"
#include "trireme/policy/samples.hpp"

namespace trireme::policy {
namespace {

using Where = WorldEnd::Where;

WorldEnd at_place(Where where, std::size_t network = 0) {
  WorldEnd end;
  end.where = where;
  end.network = network;
  return end;
}

/// Collects parts of an endpoint; keeps one of those that no rule distinguishes.
class Parts {
 public:
  Parts(const Policy& policy, const NameIndex& names) : policy_(policy), names_(names) {}

  void add(ExplainEnd part) {
    const WorldEnd& end = part.end;
    View view{.address = end.address};
    for (const std::string& name : end.names) {
      const auto networks = names_.match(name);
      view.named.insert(view.named.end(), networks.begin(), networks.end());
    }
    if (list_.size() < kMostParts && seen_
                                         .emplace(end.where, end.network, end.resident,
                                                  end.may_have_labels, view.networks(policy_))
                                         .second) {
      list_.push_back(std::move(part));
    }
  }
  [[nodiscard]] std::vector<ExplainEnd> take() { return std::move(list_); }

 private:
  using Key =
      std::tuple<Where, std::size_t, std::optional<std::size_t>, bool, std::vector<std::size_t>>;
  const Policy& policy_;
  const NameIndex& names_;
  std::set<Key> seen_;
  std::vector<ExplainEnd> list_;
};

class EndParser {
 public:
  EndParser(const Policy& policy, const World& world)
      : policy_(policy), world_(world), names_(policy) {}

  [[nodiscard]] Result<std::vector<ExplainEnd>> parse(std::string_view text) const;

 private:
  [[nodiscard]] Result<std::vector<ExplainEnd>> entity(std::string_view text) const;
  [[nodiscard]] std::vector<ExplainEnd> network(std::string_view text, std::size_t index) const;
  [[nodiscard]] std::vector<ExplainEnd> resident(std::string_view text, std::size_t index) const;
  [[nodiscard]] std::vector<ExplainEnd> labels(std::string_view text, const LabelSet& labels) const;
  [[nodiscard]] std::vector<ExplainEnd> address(std::string_view text,
                                                const Address& address) const;
  [[nodiscard]] ExplainEnd unlabeled(std::string_view text, const Address& address) const;
  void add_name(std::string_view text, const std::string& name, bool is_unlabeled,
                Parts& parts) const;
  [[nodiscard]] std::set<Address> addresses_of(const std::string& name) const;
  [[nodiscard]] std::vector<bool> networks_with(const Address& address) const;
  [[nodiscard]] bool has_workloads_here() const;

  const Policy& policy_;
  const World& world_;
  NameIndex names_;
};

/// A process without labels at an address.
ExplainEnd EndParser::unlabeled(std::string_view text, const Address& address) const {
  ExplainEnd part{at_place(Where::elsewhere), std::string(text)};
  const auto& own = world_.networks.front().addresses;
  if (address.is_loopback()) {
    part.end.where = Where::beside;
  } else if (std::ranges::find(own, address, &World::Interface::address) != own.end()) {
    part.end.where = Where::network;
  } else if (std::ranges::any_of(world_.peers,
                                 [&](const Prefix& peers) { return peers.contains(address); })) {
    part.end.where = Where::peer;
  }
  part.end.address = address;
  return part;
}

/// Whether workloads share this host's addresses with its unlabeled processes.
bool EndParser::has_workloads_here() const {
  return std::ranges::any_of(world_.residents, [](const World::Resident& resident) {
    return resident.state != World::State::unenforced &&
           std::ranges::find(resident.networks, std::size_t{0}) != resident.networks.end();
  });
}

/// For each network of World::networks, whether it is of containers and has the address.
std::vector<bool> EndParser::networks_with(const Address& address) const {
  std::vector<bool> found(world_.networks.size());
  for (std::size_t i = 1; i < found.size(); ++i) {
    const auto& addresses = world_.networks[i].addresses;
    found[i] = std::ranges::find(addresses, address, &World::Interface::address) != addresses.end();
  }
  return found;
}

std::vector<ExplainEnd> EndParser::address(std::string_view text, const Address& address) const {
  std::vector<ExplainEnd> parts;
  const std::vector<bool> has_address = networks_with(address);
  for (std::size_t index = 0; index < world_.residents.size(); ++index) {
    const World::Resident& found = world_.residents[index];
    const auto is_meant = [&](std::size_t network) { return has_address.at(network); };
    if (std::ranges::none_of(found.networks, is_meant)) {
      continue;
    }
    for (ExplainEnd& part : resident(found.name, index)) {
      if (!is_meant(part.end.network)) {
        continue;  // it is also in another network
      }
      part.text = text;
      if (found.state == World::State::unenforced) {
        part.end.address = address;
      }
      parts.push_back(std::move(part));
    }
  }
  if (!parts.empty()) {
    return parts;
  }
  parts.push_back(unlabeled(text, address));
  const Where where = parts.front().end.where;
  if ((where == Where::network || where == Where::beside) && has_workloads_here()) {
    parts.front().note = fmt::format(
        "{} is taken for a process without labels; for a workload in this host's network, use its "
        "name: --to NAME, or --from NAME",
        address.text());
  }
  if (where == Where::peer) {
    parts.push_back(parts.front());
    parts.front().end.may_have_labels = true;
    parts.back().text = fmt::format("{}, without labels", address.text());
  }
  return parts;
}

std::set<Address> EndParser::addresses_of(const std::string& name) const {
  std::set<Address> addresses;
  for (const World::Network& network : world_.networks) {
    for (const auto& [address, names] : network.named) {
      if (std::ranges::find(names, name) != names.end()) {
        addresses.insert(address);
      }
    }
  }
  if (names_.match(name).empty()) {
    for (const auto& [seen, address] : world_.seen_names) {
      if (seen == name) {
        addresses.insert(address);
      }
    }
  }
  return addresses;
}

/// Adds an endpoint for each known address of a DNS name, or one without an address.
void EndParser::add_name(std::string_view text, const std::string& name, bool is_unlabeled,
                         Parts& parts) const {
  const std::set<Address> addresses = addresses_of(name);
  const bool is_listed = !names_.match(name).empty();
  for (const Address& each : addresses) {
    auto found = is_unlabeled ? std::vector{unlabeled(text, each)} : address(text, each);
    for (ExplainEnd& part : found) {
      part.end.names = {name};
      part.note = fmt::format(
          "{} resolved to {}{}{}{}{}", name, each.text(),
          addresses.size() > 1 ? fmt::format(" and {} other {}", addresses.size() - 1,
                                             addresses.size() == 2 ? "address" : "addresses")
                               : "",
          is_listed ? "" : "; no [[network]] lists the name, so only the address counts",
          part.note.empty() ? "" : "; ", part.note);
      parts.add(std::move(part));
    }
  }
  if (!addresses.empty()) {
    return;
  }
  ExplainEnd part{at_place(Where::elsewhere), std::string(text)};
  part.end.names = {name};
  part.note = fmt::format(
      "no DNS answer for {} was seen yet: until a workload looks up the name, its addresses are "
      "denied",
      name);
  parts.add(std::move(part));
}

/// One endpoint for each combination of networks that contain addresses or names of the network: it
/// is one without labels.
std::vector<ExplainEnd> EndParser::network(std::string_view text, std::size_t index) const {
  const Network& network = policy_.networks[index];
  Parts parts(policy_, names_);
  if (!network.cidrs.empty()) {
    parts.add(unlabeled(text, network.cidrs.front().address));
    for (const Address& address : samples(policy_, index)) {
      parts.add(unlabeled(text, address));
    }
  }
  for (const World::Interface& own : world_.networks.front().addresses) {
    if (std::ranges::any_of(network.cidrs,
                            [&](const Prefix& cidr) { return cidr.contains(own.address); })) {
      parts.add(unlabeled(text, own.address));
    }
  }
  for (const std::string& name : network.names) {
    add_name(name, name, true, parts);
  }
  std::vector<ExplainEnd> list = parts.take();
  if (list.size() == 1) {
    list.front().text = text;  // the network has only one part
  }
  return list;
}

Result<std::vector<ExplainEnd>> EndParser::entity(std::string_view text) const {
  if (text == "@host") {
    return std::vector{ExplainEnd{at_place(Where::network), std::string(text)}};
  }
  if (text == "@world") {
    return std::vector{ExplainEnd{at_place(Where::elsewhere), std::string(text)}};
  }
  for (std::size_t i = 0; i < policy_.networks.size(); ++i) {
    if (policy_.networks[i].name == text.substr(1)) {
      return network(text, i);
    }
  }
  return fail(fmt::format("unknown network '{}'", text),
              "use @host, @world, or the name of a [[network]] of the policy");
}

std::vector<ExplainEnd> EndParser::resident(std::string_view text, std::size_t index) const {
  const World::Resident& resident = world_.residents[index];
  std::vector<ExplainEnd> parts;
  for (const std::size_t network : resident.networks) {
    parts.push_back({at_place(Where::network, network), std::string(text)});
  }
  if (parts.empty()) {
    parts.push_back({at_place(Where::elsewhere), std::string(text)});
  }
  for (ExplainEnd& part : parts) {
    part.end.resident = index;
    if (resident.state == World::State::unenforced) {
      part.note = fmt::format("{} is not enforced, so no policy applies to it: {}", resident.name,
                              resident.reason);
    }
  }
  return parts;
}

/// Whether the workload has these labels, with or without those of [host].
bool has_labels(const World::Resident& resident, const LabelSet& labels) {
  return resident.labels.items() == labels.items() ||
         resident.labels.own().items() == labels.items();
}

/// Labels stand for the workloads of this host that have them, and where there is none, for one
/// that could be.
std::vector<ExplainEnd> EndParser::labels(std::string_view text, const LabelSet& labels) const {
  std::vector<ExplainEnd> parts;
  std::set<std::pair<std::size_t, LabelSet>> seen;
  for (const World::Resident& resident : world_.residents) {
    if (resident.state != World::State::enforced || !has_labels(resident, labels)) {
      continue;
    }
    for (const std::size_t network : resident.networks) {
      if (seen.emplace(network, resident.labels).second) {
        ExplainEnd part{at_place(Where::network, network), std::string(text)};
        part.end.labels = resident.labels;  // some may be labels of [host]
        parts.push_back(std::move(part));
      }
    }
  }
  if (parts.size() > 1) {
    for (ExplainEnd& part : parts) {
      part.text += fmt::format(" in the network of {}", world_.networks[part.end.network].name);
    }
  }
  if (parts.empty()) {
    parts.push_back({at_place(Where::beside), std::string(text)});
    if (!world_.peers.empty()) {
      parts.push_back({at_place(Where::peer), std::string(text) + " on another host"});
    }
    for (ExplainEnd& part : parts) {
      part.end.labels = labels;
    }
  }
  return parts;
}

std::string plain_name(std::string_view text) {
  return lower_case(text.substr(0, text.size() - (text.ends_with('.') ? 1 : 0)));
}

Result<std::vector<ExplainEnd>> EndParser::parse(std::string_view text) const {
  if (text.empty()) {
    return fail("an endpoint of the flow is empty",
                "use a workload's name, labels such as app=web,env=prod, @host, @world, @NETWORK "
                "or an address");
  }
  if (text.front() == '@') {
    return entity(text);
  }
  const auto named = std::ranges::find(world_.residents, text, &World::Resident::name);
  if (named != world_.residents.end()) {
    return resident(text, static_cast<std::size_t>(named - world_.residents.begin()));
  }
  if (text.find('=') != std::string_view::npos || is_clearly_selector(text)) {
    const auto set = parse_labels(text);
    return set ? Result<std::vector<ExplainEnd>>(labels(text, *set)) : tl::unexpected(set.error());
  }
  if (const auto at = Address::parse(text)) {
    return address(text, *at);
  }
  const std::string name = plain_name(text);
  if (!names_.match(name).empty() || !addresses_of(name).empty()) {
    Parts parts(policy_, names_);
    add_name(text, name, false, parts);
    return parts.take();
  }
  return fail(
      fmt::format("'{}' is not a workload, label (app=web), @entity, network or address", text),
      "'trirectl workloads' lists the names, which only the daemon knows; write labels as "
      "app=web,env=prod; a DNS name must be in a [[network]], or in 'trirectl flows'");
}

}  // namespace

Result<std::vector<ExplainEnd>> parse_ends(std::string_view text, const Policy& policy,
                                           const World& world) {
  auto parts = EndParser(policy, world).parse(text);
  if (parts && parts->size() > kMostParts) {
    parts->front().left_out = parts->size() - kMostParts;
    parts->resize(kMostParts);
  }
  return parts;
}

}  // namespace trireme::policy
