// SPDX-License-Identifier: Apache-2.0
// The ends of suggested rules: from what was seen to what a rule can name.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "trireme/policy/seen.hpp"
#include "trireme/policy/suggest.hpp"

namespace trireme::policy {

/// An end that a rule can name, by number.
using SideId = std::size_t;

/// The part of a label set that a selector can express; Docker's labels may hold anything.
[[nodiscard]] LabelSet expressible(const LabelSet& labels);
/// "app=web,env=prod": a selector that asks for all of them.
[[nodiscard]] std::string selector_text(const LabelSet& labels);

/// One use of an address: by whom, which way, on which port. Addresses of the same uses become one
/// network.
struct AddressUse {
  bool is_source = false;
  std::string peer;
  PortRange ports;
  auto operator<=>(const AddressUse&) const = default;
};

class Sides {
 public:
  Sides(const Policy& policy, const std::vector<LabelSet>& present);

  /// First round: every end of every flow, so that addresses are known by all their uses.
  void note_use(const SeenEnd& end, AddressUse use);
  /// After it: makes the networks.
  void settle();

  [[nodiscard]] SideId of(const SeenEnd& end, bool is_dns);
  /// What a rule writes for these sides; label sets are merged into one selector where that catches
  /// nobody else.
  [[nodiscard]] std::vector<std::string> texts(const std::set<SideId>& sides) const;
  [[nodiscard]] const std::vector<SuggestedNetwork>& networks() const { return networks_; }
  /// "app=web is also app=web,env=dev": workloads that are there, were not seen, and are caught by
  /// the selectors nevertheless; or empty.
  [[nodiscard]] std::string caught(const std::set<SideId>& sides) const;
  /// "12 addresses, among them ..." where @world stands for more addresses than were seen.
  [[nodiscard]] const std::string& comment(SideId side) const { return sides_[side].comment; }

 private:
  struct Side {
    std::string text;
    LabelSet labels;  // not empty: a workload's
    std::string comment;
  };
  SideId add(Side side);
  /// Those present whose labels include all of `part`, which is not empty.
  [[nodiscard]] std::vector<const LabelSet*> present_with(const LabelSet& part) const;
  [[nodiscard]] std::string network_name(const std::set<AddressUse>& uses) const;
  [[nodiscard]] const Network* known_network(const SeenEnd& end) const;

  const Policy& policy_;
  std::set<LabelSet> present_;
  std::map<std::pair<std::string, std::string>, std::vector<const LabelSet*>>
      by_label_;  // of present_
  std::map<Address, std::set<AddressUse>> uses_;
  std::map<Address, SideId> by_address_;
  std::map<std::string, SideId> by_text_;
  std::vector<Side> sides_;
  std::vector<SuggestedNetwork> networks_;
};

/// Whether the end is named by its address: elsewhere, or a name server on this host.
[[nodiscard]] bool is_by_address(const SeenEnd& end, bool is_dns);

}  // namespace trireme::policy
