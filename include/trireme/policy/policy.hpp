// SPDX-License-Identifier: Apache-2.0
// A loaded policy: what policy.toml and policy.d say, checked and resolved.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "trireme/policy/address.hpp"
#include "trireme/policy/selector.hpp"

namespace trireme::policy {

/// Where something was written: 1-based line and column (bytes).
struct SourceLocation {
  std::string file;
  std::uint32_t line = 0;
  std::uint32_t column = 0;
  [[nodiscard]] std::string text() const;  // "policy.toml:12:8"
};

enum class Mode : std::uint8_t { enforce, audit };
enum class Baseline : std::uint8_t { same_labels, any_common_label, none };
enum class Refuse : std::uint8_t { reject, drop };

/// A peer without labels.
struct Entity {
  enum class Kind : std::uint8_t { host, world, network };
  Kind kind = Kind::host;
  std::size_t network = 0;  // index into Policy::networks where kind is network
  auto operator<=>(const Entity&) const = default;
};

/// One alternative of a rule's `from` or `to`; a rule's list is OR.
using Peer = std::variant<Selector, Entity>;

/// Ports of one protocol, both ends included. For protocols without ports (icmp, icmpv6) the whole
/// range 0..65535.
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
  SourceLocation where;

  /// "allow 'web to db' (policy.toml:12:1)", for logs and explanations.
  [[nodiscard]] std::string text() const;
};

struct Network {
  std::string name;
  std::vector<Prefix> cidrs;
  std::vector<std::string> names;  // DNS names, `*.` wildcards included
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
  std::optional<PortRange> port;  // absent: every port must give the expected answer
  bool expect_allow = true;
  SourceLocation where;
};

struct Policy {
  Mode mode = Mode::enforce;
  Baseline baseline = Baseline::same_labels;
  Refuse refuse = Refuse::reject;
  bool tell_peers = true;  // peers whose credential was verified hear why they are refused
  std::vector<Network> networks;
  std::vector<Rule> rules;  // allow and deny; the order never matters
  std::vector<PolicyTest> tests;
  /// SHA-256 over names and contents of its files in the order in which they are read: the same on
  /// all hosts that have the same policy. Zeros where it comes from no files.
  std::array<std::uint8_t, 32> digest{};
};

/// Of a digest or its first bytes: two hexadecimal digits a byte.
[[nodiscard]] std::string hex(std::span<const std::uint8_t> bytes);

}  // namespace trireme::policy
