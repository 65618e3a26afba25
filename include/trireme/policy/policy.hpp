// SPDX-License-Identifier: Apache-2.0
// A loaded policy: the contents of policy.toml and policy.d, checked and resolved.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "trireme/policy/address.hpp"
#include "trireme/policy/selector.hpp"

namespace trireme::policy {

/// A place in a file: 1-based line and column, in bytes. 0: unknown.
struct SourceLocation {
  std::string file;
  std::uint32_t line = 0;
  std::uint32_t column = 0;
  [[nodiscard]] std::string text() const;  // "policy.toml:12:8"
};

enum class Mode : std::uint8_t { enforce, audit };
enum class Baseline : std::uint8_t { same_labels, any_common_label, none };
enum class Refuse : std::uint8_t { reject, drop };

/// An endpoint without labels, as rules name it.
struct Entity {
  enum class Kind : std::uint8_t { host, world, network };
  Kind kind = Kind::host;
  std::size_t network = 0;  // index into Policy::networks if kind is network
  auto operator<=>(const Entity&) const = default;
};

/// One alternative of a rule's `from` or `to`. The alternatives are ORed.
using Peer = std::variant<Selector, Entity>;

/// Ports of one protocol, `first` and `last` included. For protocols without ports (icmp, icmpv6)
/// the range is 0..65535.
struct PortRange {
  std::uint8_t protocol = 0;  // IANA protocol number: 6 tcp, 17 udp, 1 icmp, 58 icmpv6
  std::uint16_t first = 0;
  std::uint16_t last = 65535;
  [[nodiscard]] bool contains(std::uint8_t p, std::uint16_t port) const {
    return p == protocol && first <= port && port <= last;
  }
  auto operator<=>(const PortRange&) const = default;
};

struct Rule {
  enum class Action : std::uint8_t { allow, deny };
  Action action = Action::allow;
  std::string name;  // may be empty
  std::vector<Peer> from;
  std::vector<Peer> to;
  std::vector<PortRange> ports;  // empty: every protocol and port
  bool log = false;
  Mode mode = Mode::enforce;
  std::optional<std::chrono::sys_seconds> until = {};  // absent: forever; see expiry.hpp
  SourceLocation where;

  /// "allow 'web to db' (policy.toml:12:1)", for the log and explanations.
  [[nodiscard]] std::string text() const;
};

struct Network {
  std::string name;
  std::vector<Prefix> cidrs;
  std::vector<std::string> names;  // DNS names; `*.` at the start is a wildcard
  SourceLocation where;
};

/// One side of a [[test]]: labels of a workload, or an entity (optionally at an address).
struct TestPeer {
  std::variant<LabelSet, Entity> peer;
  std::optional<Address> address;
};

struct PolicyTest {
  TestPeer from;
  TestPeer to;
  std::optional<PortRange> port;  // absent: every port must have the expected verdict
  bool expect_allow = true;
  SourceLocation where;
};

struct Policy {
  Mode mode = Mode::enforce;
  Baseline baseline = Baseline::same_labels;
  Refuse refuse = Refuse::reject;
  bool tell_peers = true;  // tell authenticated peers why their flows are denied
  std::vector<Network> networks;
  std::vector<Rule> rules;  // allow and deny; the order does not matter
  std::vector<PolicyTest> tests;
  /// SHA-256 over the names and contents of the policy's files, in the order in which they are
  /// read. Hosts with equal digests have the same policy. Zeros if it was not read from files.
  std::array<std::uint8_t, 32> digest{};
};

/// Two hexadecimal digits per byte; for digests.
[[nodiscard]] std::string hex(std::span<const std::uint8_t> bytes);

}  // namespace trireme::policy
