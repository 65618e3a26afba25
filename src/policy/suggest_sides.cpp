// SPDX-License-Identifier: Apache-2.0
#include "suggest_sides.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <iterator>

#include "trireme/base/lower_case.hpp"

namespace trireme::policy {
namespace {

constexpr std::size_t kMostPrefixes = 32;  // of a suggested network; more would not be reviewed

/// Replaces both halves of a prefix by that prefix until nothing changes.
std::vector<Prefix> joined(std::vector<Prefix> prefixes) {
  prefixes = disjoint(std::move(prefixes));
  for (bool changed = true; changed;) {
    changed = false;
    std::vector<Prefix> next;
    for (const Prefix& prefix : prefixes) {
      if (!next.empty() && prefix.length > 0 && next.back().length == prefix.length) {
        Prefix parent{next.back().address, static_cast<std::uint8_t>(prefix.length - 1)};
        const auto byte = static_cast<std::size_t>(parent.length / 8);
        const auto bit = static_cast<std::uint8_t>(0x80U >> (parent.length % 8U));
        if ((parent.address.bytes.at(byte) & bit) == 0 && parent.contains(prefix.address)) {
          next.back() = parent;
          changed = true;
          continue;
        }
      }
      next.push_back(prefix);
    }
    prefixes = std::move(next);
  }
  return prefixes;
}

/// Every label of `part` is in `whole`.
bool includes(const LabelSet& whole, const LabelSet& part) {
  return std::ranges::all_of(part.items(), [&](const auto& item) {
    const std::string* value = whole.find(item.first);
    return value != nullptr && *value == item.second;
  });
}

LabelSet common_labels(const std::vector<const LabelSet*>& sets) {
  LabelSet common;
  if (sets.empty()) {
    return common;
  }
  for (const auto& [key, value] : sets.front()->items()) {
    LabelSet one;
    if (one.set(key, value) &&
        std::ranges::all_of(sets, [&](const LabelSet* set) { return includes(*set, one); })) {
      (void)common.set(key, value);
    }
  }
  return common;
}

/// What a policy accepts as a DNS name. Names in answers can contain any bytes.
bool can_be_name(std::string_view name) {
  if (name.empty() || name.size() > 253 || Prefix::parse(std::string(name))) {
    return false;
  }
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t dot = std::min(name.find('.', at), name.size());
    const std::string_view label = name.substr(at, dot - at);
    const bool is_valid = std::ranges::all_of(label, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    });
    if (label.empty() || label.size() > 63 || !is_valid || label.front() == '-' ||
        label.back() == '-') {
      return false;
    }
    at = dot + 1;
  }
  return true;
}

const char* service_name(const PortRange& ports) {
  switch (ports.first) {
    case 53:
      return "dns";
    case 123:
      return "ntp";
    case 80:
    case 443:
      return "web";
    default:
      return nullptr;
  }
}

}  // namespace

LabelSet expressible(const LabelSet& labels) {
  LabelSet result;
  for (const auto& [key, value] : labels.items()) {
    LabelSet one;
    if (!one.set(key, value)) {
      continue;
    }
    const std::string text = fmt::format("{}={}", key, value);
    const auto selector = Selector::parse(text);
    // The selector must mean exactly this label: "a=x*" would be a prefix, "k in (a)" another key.
    if (selector && selector->matches(one) && selector->requirements().size() == 1 &&
        selector->text() == text && !value.ends_with('*')) {
      (void)result.set(key, value);
    }
  }
  return result;
}

std::string selector_text(const LabelSet& labels) {
  return labels.text();
}

bool is_by_address(const SeenEnd& end, Role role) {
  static const Prefix loopback = Prefix::parse("127.0.0.0/8").value();
  static const Prefix own = Prefix::parse("127.0.0.1/32").value();
  if (end.labels || !end.address) {
    return false;
  }
  // A DNS server at 127.0.0.53 is systemd-resolved; 127.0.0.1 can be any process.
  return !end.host || (role == Role::name_server && loopback.contains(*end.address) &&
                       !own.contains(*end.address));
}

Sides::Sides(const Policy& policy, const std::vector<LabelSet>& present)
    : policy_(policy), index_(policy), present_(present.begin(), present.end()) {}

/// The network of the policy that the endpoint is in: by DNS name, or else the one with the longest
/// prefix.
const Network* Sides::known_network(const SeenEnd& end, Role role) const {
  if (role == Role::destination) {
    if (const auto named = end.networks(index_); !named.empty()) {
      return &policy_.networks[named.front()];
    }
  }
  const Network* narrowest = nullptr;
  int longest = -1;
  for (const Network& network : policy_.networks) {
    for (const Prefix& cidr : network.cidrs) {
      if (cidr.contains(*end.address) && cidr.length > longest) {
        longest = cidr.length;
        narrowest = &network;
      }
    }
  }
  return narrowest;
}

void Sides::note_use(const SeenEnd& end, Role role, AddressUse use) {
  if (end.labels) {
    present_.insert(*end.labels);
    return;
  }
  if (!is_by_address(end, role) || known_network(end, role) != nullptr) {
    return;
  }
  bool is_named = false;
  for (const std::string& name : end.names) {
    if (role == Role::destination && can_be_name(name)) {
      by_name_[name].insert(*end.address);
      is_named = true;
    }
  }
  if (!is_named) {
    uses_[*end.address].insert(std::move(use));
  }
}

/// The DNS name by which a rule names the endpoint; empty if it has none. Of several names, the one
/// that most addresses have: the addresses of one site then become one network. Clients are not
/// named, because their names say nothing about how they were found; name servers have no name
/// before they are asked.
std::string Sides::site(const SeenEnd& end, Role role) const {
  std::string best;
  std::size_t most = 0;
  for (const std::string& name : end.names) {
    const auto found = by_name_.find(name);
    if (role != Role::destination || found == by_name_.end()) {
      continue;
    }
    const std::size_t count = found->second.size();
    if (count > most || (count == most && name < best)) {
      best = name;
      most = count;
    }
  }
  return best;
}

std::string Sides::base_name(const std::set<AddressUse>& uses) {
  const AddressUse& first = *uses.begin();
  if (!first.is_source && first.ports.protocol != IPPROTO_TCP &&
      first.ports.protocol != IPPROTO_UDP) {
    return "hosts";
  }
  const char* service = service_name(first.ports);
  return first.is_source      ? "clients"
         : service != nullptr ? service
                              : "port-" + std::to_string(first.ports.first);
}

std::string Sides::free_name(const std::string& base) const {
  const auto taken = [this](const std::string& name) {
    const auto is_same = [&name](const auto& network) {
      return std::ranges::equal(network.name, name, {}, lower, lower);
    };
    return name == "host" || name == "world" || std::ranges::any_of(policy_.networks, is_same) ||
           std::ranges::any_of(networks_, is_same);
  };
  std::string name = base;
  for (int i = 2; taken(name); ++i) {
    name = fmt::format("{}-{}", base, i);
  }
  return name;
}

void Sides::settle() {
  for (const LabelSet& labels : present_) {
    for (const auto& label : labels.items()) {
      by_label_[{label.first, label.second}].push_back(&labels);
    }
  }
  std::map<std::set<AddressUse>, std::vector<Prefix>> groups;
  for (const auto& [address, uses] : uses_) {
    groups[uses].push_back({address, static_cast<std::uint8_t>(address.size() * 8)});
  }
  for (const auto& [uses, addresses] : groups) {
    const auto cidrs = joined(addresses);
    Side side;
    if (cidrs.size() > kMostPrefixes) {
      side.text = "@world";
      side.comment = fmt::format(
          "@world covers {} addresses that were seen, such as {} and {}: use a [[network]] if you "
          "know one",
          addresses.size(), addresses.front().address.text(), addresses.back().address.text());
    } else {
      networks_.push_back({free_name(base_name(uses)), cidrs});
      side.text = "@" + networks_.back().name;
    }
    const SideId id = add(std::move(side));
    for (const Prefix& address : addresses) {
      by_address_[address.address] = id;
    }
  }
}

SideId Sides::add(Side side) {
  const auto [found, is_new] = by_text_.try_emplace(side.text, sides_.size());
  if (is_new) {
    sides_.push_back(std::move(side));
  } else if (sides_[found->second].comment.empty()) {
    sides_[found->second].comment = side.comment;
  }
  return found->second;
}

SideId Sides::of(const SeenEnd& end, Role role) {
  if (end.labels) {
    const LabelSet labels = expressible(*end.labels);
    return add({selector_text(labels), labels, {}});
  }
  if (!is_by_address(end, role)) {
    return add({end.host ? "@host" : "@world", {}, {}});
  }
  if (const Network* network = known_network(end, role)) {
    return add({"@" + network->name, {}, {}});
  }
  const std::string name = site(end, role);
  if (name.empty()) {
    return by_address_.at(*end.address);
  }
  const auto [found, is_new] = sites_.try_emplace(name, 0);
  if (is_new) {
    networks_.push_back({free_name(name), {}, {name}});
    found->second = add({"@" + networks_.back().name, {}, {}});
  }
  return found->second;
}

std::vector<std::string> Sides::texts(const std::set<SideId>& sides) const {
  std::vector<std::string> labeled;
  std::vector<std::string> others;
  std::vector<const LabelSet*> sets;
  for (const SideId id : sides) {
    const Side& side = sides_[id];
    (side.labels.empty() ? others : labeled).push_back(side.text);
    if (!side.labels.empty()) {
      sets.push_back(&side.labels);
    }
  }
  const LabelSet common = common_labels(sets);
  const std::set<LabelSet> exact = [&] {
    std::set<LabelSet> known;
    std::ranges::for_each(sets, [&](const LabelSet* set) { known.insert(*set); });
    return known;
  }();
  const auto is_other = [&](const LabelSet* labels) {
    return !exact.contains(expressible(*labels));
  };
  if (sets.size() > 1 && !common.empty() && std::ranges::none_of(present_with(common), is_other)) {
    labeled = {selector_text(common)};
  }
  std::ranges::sort(labeled);
  std::ranges::sort(others);
  labeled.insert(labeled.end(), others.begin(), others.end());
  return labeled;
}

std::vector<const LabelSet*> Sides::present_with(const LabelSet& part) const {
  const std::vector<const LabelSet*>* fewest = nullptr;
  for (const auto& label : part.items()) {
    const auto found = by_label_.find({label.first, label.second});
    if (found == by_label_.end()) {
      return {};
    }
    fewest = fewest == nullptr || found->second.size() < fewest->size() ? &found->second : fewest;
  }
  std::vector<const LabelSet*> result;
  std::ranges::copy_if(*fewest, std::back_inserter(result),
                       [&](const LabelSet* labels) { return includes(*labels, part); });
  return result;
}

std::string Sides::caught(const std::set<SideId>& sides) const {
  std::set<LabelSet> meant;
  std::ranges::for_each(sides, [&](SideId id) { meant.insert(sides_[id].labels); });
  std::set<const LabelSet*> others;
  for (const SideId id : sides) {
    for (const LabelSet* labels : sides_[id].labels.empty() ? std::vector<const LabelSet*>()
                                                            : present_with(sides_[id].labels)) {
      if (!meant.contains(expressible(*labels))) {
        others.insert(labels);
      }
    }
  }
  if (others.empty()) {
    return "";
  }
  const std::string more = others.size() == 1 ? "" : fmt::format(" and {} more", others.size() - 1);
  return fmt::format("also matches {}{}, of which no flow was seen", (*others.begin())->text(),
                     more);
}

}  // namespace trireme::policy
