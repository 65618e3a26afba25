// SPDX-License-Identifier: Apache-2.0
// Policy to the sets that the kernel decides with. Pure data; the enforcer writes it,
// docs/datapath.md says how the kernel reads it.
//
// A workload has a number (w). Two questions decide a flow from w to v at (protocol, port):
//   1. same:   groups[w] == groups[v], and that group is in `same`: allowed, whatever the port.
//   2. pairs:  profile = pairs[classes[w], classes[v]]; port class = ports[protocol, port] (0 where
//   no interval covers it);
//              verdicts[profile, port class]. Any miss on the way: refused.
//      (Under `[defaults] mode = "audit"` what the kernel refuses passes as audit; the sets do not
//      depend on that mode.)
// Peers without labels have no number; their class comes from their address: `local4/6` for
// processes of this host (@host), `remote4/6` for everybody else (@world), each a partition of the
// address space. Addresses that are in networks by a DNS name too have their class from
// `local_named` and `remote_named` instead, which name() fills.
//
// Identities that rules cannot tell apart share a class, so that pairs count classes, not
// identities. Identities whose members may all talk to each other on every port without a log line
// share a group; any other workload has a group of its own (a workload always reaches itself).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "trireme/policy/evaluate.hpp"

namespace trireme::policy {

using Number = std::uint32_t;

/// Numbers and classes below this are reserved.
inline constexpr Number kFirstNumber = 16;
/// 24 bits: a flow's conntrack label holds both numbers and their complements.
inline constexpr Number kLastNumber = (1U << 24U) - 1U;

/// What the kernel does with a (profile, port class). Absent means refused.
enum class Outcome : std::uint32_t { allow = 1, allow_log = 2, audit = 3 };

/// Ports of one protocol that every rule treats alike. Sorted, disjoint; what no interval covers is
/// port class 0.
struct PortInterval {
  PortRange range;
  std::uint32_t port_class = 0;
  auto operator<=>(const PortInterval&) const = default;
};

/// Addresses (first..last, both included) whose unlabelled peers every rule treats alike.
struct AddressInterval {
  Address first;
  Address last;
  std::uint32_t address_class = 0;
  auto operator<=>(const AddressInterval&) const = default;
};

/// The part that depends on the policy alone; changes at reload only.
struct Tables {
  std::vector<PortInterval> ports;
  std::vector<AddressInterval> local4, local6, remote4,
      remote6;  // sorted, disjoint, each covering its whole family
  bool operator==(const Tables&) const = default;
};

/// The part that workloads, and addresses learned from DNS, add to. Hash sets in the kernel.
struct Elements {
  std::map<Number, std::uint32_t> groups;   // workload -> group
  std::map<Number, std::uint32_t> classes;  // workload -> class
  std::set<std::uint32_t> same;             // groups whose members reach each other
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t>
      pairs;  // (source class, destination class) -> profile
  std::map<std::pair<std::uint32_t, std::uint32_t>, Outcome>
      verdicts;  // (profile, port class) -> outcome
  std::map<Address, std::uint32_t> local_named,
      remote_named;  // address of a name -> class of an unlabelled peer there
  bool operator==(const Elements&) const = default;
};

/// What changed; removal is by key.
struct Delta {
  Elements add;
  Elements remove;
  [[nodiscard]] bool empty() const { return add == Elements{} && remove == Elements{}; }
};

/// Incremental compiler. The cost of add() and remove() does not grow with the number of workloads;
/// it grows with the rules that match the workload's labels and, for labels never seen before that
/// rules tell apart, with the classes that those rules reach.
///
/// Two cases make a class of every label set: the baseline same-labels where a deny, audited deny
/// or logging rule restricts what an identity may do with its own, and the baseline
/// any-common-label. If a rule then allows from everybody to everybody, pairs grow with the square
/// of the label sets; under any-common-label those that share a group (of the label most in use
/// when they came) need none among themselves.
class Compiler {
 public:
  /// `policy` is shared and immutable. Groups, classes (those in tables() too) and profiles are
  /// numbered from `first_id` on: a reload gives the two policies disjoint ranges, so that a packet
  /// which the reload overtakes between two look-ups finds nothing rather than a mixture.
  Compiler(std::shared_ptr<const Policy> policy, std::uint32_t first_id);
  ~Compiler();
  Compiler(Compiler&&) noexcept;
  Compiler& operator=(Compiler&&) noexcept;

  /// Enrols a workload. `number` is in kFirstNumber..kLastNumber; if it is enrolled, that workload
  /// ends first, in the same delta.
  Delta add(Number number, const LabelSet& labels);
  /// Ends a workload; what only it needed goes too (groups, classes, pairs). Nothing where nobody
  /// has the number.
  Delta remove(Number number);
  /// From now on `address` is in `networks` (indices into Policy::networks, sorted), and in those
  /// that its CIDRs put it in.
  Delta name(const Address& address, const std::vector<std::size_t>& networks);
  /// From now on its CIDRs alone count. Nothing where it has no name.
  Delta unname(const Address& address);

  [[nodiscard]] std::uint32_t first_id() const;
  [[nodiscard]] const Tables& tables() const;
  /// Everything that add() and remove() returned, summed up.
  [[nodiscard]] const Elements& elements() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// From `before` to `after`: what a reload writes. A key whose value changes is in both halves;
/// removals come first. Addresses of names are not in it: their elements carry more than the
/// compiler knows.
[[nodiscard]] Delta difference(const Elements& before, const Elements& after);

/// The kernel's algorithm over the sets, step by step as in this file's header: what tests hold
/// against evaluate(). `from` and `to` are a number, or 0 and an address with `local` true for a
/// process of this host. Returns nothing where the kernel refuses: under `[defaults] mode =
/// "audit"` its refusal lets pass, so nothing stands for evaluate()'s audit of any reason but
/// audited_deny. The sets say nothing about flows without a workload at either end, which the
/// kernel never looks up: nothing is returned for them too.
struct SetPeer {
  Number number = 0;
  Address address;
  bool local = true;
};
[[nodiscard]] std::optional<Outcome> judge(const Tables& tables, const Elements& elements,
                                           const SetPeer& from, const SetPeer& to,
                                           std::uint8_t protocol, std::uint16_t port);

}  // namespace trireme::policy
