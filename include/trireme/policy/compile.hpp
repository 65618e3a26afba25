// SPDX-License-Identifier: Apache-2.0
// Compiles a policy to the sets that the kernel decides with. The result is plain data: the
// enforcer writes it to the kernel, and docs/datapath.md describes how the kernel reads it.
//
// Every workload has a number. The kernel decides a flow from workload w to workload v at
// (protocol, port) in two steps:
//   1. If groups[w] == groups[v] and that group is in `same`, the flow is allowed on every port.
//   2. Otherwise: profile = pairs[classes[w], classes[v]]; port class = ports[protocol, port], or 0
//      if no interval covers the port; outcome = outcomes[profile, port class]. If any of these
//      lookups finds nothing, the flow is denied.
//      (With `[defaults] mode = "audit"` the kernel lets a denied flow pass as audited. The sets do
//      not depend on that mode.)
// Endpoints without labels have no number. Their class follows from their address: `local4` and
// `local6` for processes of this host (@host), `remote4` and `remote6` for all others (@world),
// each a partition of the address space. An address that is in networks by a DNS name too has its
// class from `local_named` or `remote_named` instead, which name() fills.
//
// Identities that no rule distinguishes share a class, so that the number of pairs grows with the
// classes, not with the identities. Identities that may reach each other on every port without a
// log line share a group. Every other workload has a group of its own, because a workload can
// always reach itself. Pairs with the same outcome for every port class share a profile.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "trireme/abi/abi.hpp"
#include "trireme/policy/evaluate.hpp"

namespace trireme::policy {

using Number = abi::Number;

/// What the kernel does with a (profile, port class). Absent means denied.
enum class Outcome : std::uint32_t { allow = 1, allow_log = 2, audit = 3 };

/// Ports of one protocol that no rule distinguishes. A list of them is sorted and disjoint; a port
/// that no interval covers has port class 0.
struct PortInterval {
  PortRange range;
  std::uint32_t port_class = 0;
  auto operator<=>(const PortInterval&) const = default;
};

/// Addresses (first..last, both included) whose endpoints without labels no rule distinguishes.
struct AddressInterval {
  Address first;
  Address last;
  std::uint32_t address_class = 0;
  auto operator<=>(const AddressInterval&) const = default;
};

/// The sets that depend on the policy alone. They change only at a reload.
struct Tables {
  std::vector<PortInterval> ports;
  std::vector<AddressInterval> local4, local6, remote4,
      remote6;  // sorted, disjoint, each covering its whole family
  bool operator==(const Tables&) const = default;
};

/// The sets that change with workloads and with addresses learned from DNS. Hash sets in the
/// kernel.
struct Elements {
  std::map<Number, std::uint32_t> groups;   // workload -> group
  std::map<Number, std::uint32_t> classes;  // workload -> class
  std::set<std::uint32_t> same;             // groups whose members may reach each other
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t>
      pairs;  // (source class, destination class) -> profile
  std::map<std::pair<std::uint32_t, std::uint32_t>, Outcome>
      outcomes;  // (profile, port class) -> outcome
  std::map<Address, std::uint32_t> local_named,
      remote_named;  // address of a DNS name -> class of an endpoint without labels there
  bool operator==(const Elements&) const = default;
};

/// What changed. `remove` is applied by key.
struct Delta {
  Elements add;
  Elements remove;
  [[nodiscard]] bool empty() const { return add == Elements{} && remove == Elements{}; }
};

/// Incremental compiler. The cost of add() and remove() does not depend on the number of workloads.
/// It grows with the rules that match the workload's labels and, for a new label set that rules
/// distinguish from all others, with the classes that those rules reach.
///
/// In two cases every label set has a class of its own: under the baseline same-labels if a deny,
/// audited deny or logging rule restricts flows within an identity, and under the baseline
/// any-common-label. If a rule then allows all workloads to reach all others, the number of pairs
/// is the square of the number of label sets. Under any-common-label, label sets that share a group
/// (that of the label most in use when they were added) need no pairs among themselves.
class Compiler {
 public:
  /// `policy` is shared and immutable. Groups, classes (those in tables() too) and profiles are
  /// numbered from `first_id` on. A reload gives the old and the new policy disjoint ranges: a
  /// packet whose lookups happen before and after the reload then finds nothing and is denied,
  /// instead of being decided by a mixture of both policies.
  Compiler(std::shared_ptr<const Policy> policy, std::uint32_t first_id);
  ~Compiler();
  Compiler(Compiler&&) noexcept;
  Compiler& operator=(Compiler&&) noexcept;

  /// Adds a workload. `number` is in abi::kFirstNumber..kLastNumber. If a workload has that number
  /// already, it is removed first, in the same delta.
  Delta add(Number number, const LabelSet& labels);
  /// Removes a workload, and the groups, classes and pairs that only it needed. Empty if no
  /// workload has the number.
  Delta remove(Number number);
  /// Records that a DNS name resolves to `address`: it is now in `networks` (indices into
  /// Policy::networks, sorted), and still in the networks whose CIDRs contain it.
  Delta name(const Address& address, const std::vector<std::size_t>& networks);
  /// Reverts name(): only CIDRs decide which networks contain the address. Empty if it had no name.
  Delta unname(const Address& address);

  [[nodiscard]] std::uint32_t first_id() const;
  [[nodiscard]] const Tables& tables() const;
  /// The sum of all deltas returned so far.
  [[nodiscard]] const Elements& elements() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The changes from `before` to `after` that a reload writes. A key whose value changes is in both
/// halves; apply removals first. local_named and remote_named are left out, because the enforcer
/// stores more in their elements (a timeout) than the compiler knows.
[[nodiscard]] Delta difference(const Elements& before, const Elements& after);

/// The kernel's algorithm over the sets, as described at the top of this file. Tests compare it
/// with evaluate(). `from` and `to` are either a number, or 0 and an address (`local`: a process of
/// this host). Returns nullopt if the kernel denies the flow. With `[defaults] mode = "audit"` the
/// kernel lets such a flow pass, so nullopt then corresponds to evaluate()'s Verdict::audit for
/// every reason except audited_deny. Also nullopt if neither endpoint is a workload: the kernel
/// never looks up such flows.
struct SetPeer {
  Number number = 0;
  Address address;
  bool local = true;
};
[[nodiscard]] std::optional<Outcome> judge(const Tables& tables, const Elements& elements,
                                           const SetPeer& from, const SetPeer& to,
                                           std::uint8_t protocol, std::uint16_t port);

}  // namespace trireme::policy
