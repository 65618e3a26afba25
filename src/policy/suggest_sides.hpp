// SPDX-License-Identifier: Apache-2.0
// The sides (`from`, `to`) of suggested rules: turns endpoints that were seen into what a rule can
// name.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "trireme/policy/seen.hpp"
#include "trireme/policy/suggest.hpp"

namespace trireme::policy {

/// The index of something that a rule can name as `from` or `to`.
using SideId = std::size_t;

/// The labels of a set that a selector can express. Docker's labels may contain any characters.
[[nodiscard]] LabelSet expressible(const LabelSet& labels);
/// "app=web,env=prod": a selector that requires all of them.
[[nodiscard]] std::string selector_text(const LabelSet& labels);

/// Which side of a flow an endpoint is.
enum class Role : std::uint8_t { source, destination, name_server };

/// One use of an address: its peer, the direction and the ports. Addresses with equal uses become
/// one network, unless they have DNS names.
struct AddressUse {
  bool is_source = false;
  std::string peer;
  PortRange ports;
  auto operator<=>(const AddressUse&) const = default;
};

class Sides {
 public:
  Sides(const Policy& policy, const std::vector<LabelSet>& present);

  /// Call first, for both endpoints of every flow: collects all uses of each address.
  void note_use(const SeenEnd& end, Role role, AddressUse use);
  /// Call next: groups the addresses into networks.
  void settle();

  [[nodiscard]] SideId of(const SeenEnd& end, Role role);
  /// The text of these sides in a rule. Label sets are merged into one selector if it matches no
  /// other workload.
  [[nodiscard]] std::vector<std::string> texts(const std::set<SideId>& sides) const;
  [[nodiscard]] const std::vector<SuggestedNetwork>& networks() const { return networks_; }
  /// A comment if the selectors also match current workloads of which no flow was seen: "also
  /// matches app=web,env=dev, of which no flow was seen". Empty if there are none.
  [[nodiscard]] std::string caught(const std::set<SideId>& sides) const;
  /// A comment if @world replaces many addresses: "@world covers 40 addresses that were seen, …".
  [[nodiscard]] const std::string& comment(SideId side) const { return sides_[side].comment; }
  /// The labels that the side names; empty if it is not a workload.
  [[nodiscard]] const LabelSet& labels(SideId side) const { return sides_[side].labels; }

 private:
  struct Side {
    std::string text;
    LabelSet labels;  // empty: not a workload
    std::string comment;
  };
  SideId add(Side side);
  /// Current label sets that include all labels of `part`, which must not be empty.
  [[nodiscard]] std::vector<const LabelSet*> present_with(const LabelSet& part) const;
  [[nodiscard]] static std::string base_name(const std::set<AddressUse>& uses);
  /// `base`, or with a number if another network has that name.
  [[nodiscard]] std::string free_name(const std::string& base) const;
  [[nodiscard]] const Network* known_network(const SeenEnd& end, Role role) const;
  [[nodiscard]] std::string site(const SeenEnd& end, Role role) const;

  const Policy& policy_;
  NameIndex index_;
  std::set<LabelSet> present_;
  std::map<std::pair<std::string, std::string>, std::vector<const LabelSet*>>
      by_label_;  // of present_
  std::map<Address, std::set<AddressUse>> uses_;
  std::map<Address, SideId> by_address_;
  std::map<std::string, std::set<Address>> by_name_;  // addresses that a DNS name was seen with
  std::map<std::string, SideId> sites_;               // by DNS name
  std::map<std::string, SideId> by_text_;
  std::vector<Side> sides_;
  std::vector<SuggestedNetwork> networks_;
};

/// Whether a rule names the endpoint by its address or DNS name: another host, or a DNS server on
/// this host.
[[nodiscard]] bool is_by_address(const SeenEnd& end, Role role);

}  // namespace trireme::policy
