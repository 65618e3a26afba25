// SPDX-License-Identifier: Apache-2.0
// IP addresses and prefixes as values.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/result.hpp"

namespace trireme::policy {

/// An IPv4 or IPv6 address in network byte order; IPv4 uses the first 4 bytes and leaves the rest
/// zero.
struct Address {
  enum class Family : std::uint8_t { v4, v6 };
  Family family = Family::v4;
  std::array<std::uint8_t, 16> bytes{};

  [[nodiscard]] static Result<Address> parse(
      std::string_view text);  // IPv4-mapped IPv6 becomes IPv4
  [[nodiscard]] std::string text() const;
  [[nodiscard]] std::size_t size() const { return family == Family::v4 ? 4 : 16; }
  [[nodiscard]] bool is_loopback() const;  // 127.0.0.0/8, ::1
  auto operator<=>(const Address&) const = default;
};

/// Where a socket that gets packets to `address` can be bound: there, to 0.0.0.0 or to ::.
[[nodiscard]] std::array<Address, 3> bound_addresses(const Address& address);

/// `address/length`. Host bits are zero; parse() rejects a text with host bits set and suggests the
/// prefix.
struct Prefix {
  Address address;
  std::uint8_t length = 0;

  [[nodiscard]] static Result<Prefix> parse(
      std::string_view text);  // a bare address is a /32 or /128
  /// The prefix of this length that contains the address, whose host bits may be set.
  [[nodiscard]] static Prefix around(const Address& address, std::uint8_t length);
  [[nodiscard]] bool contains(const Address& other) const;
  [[nodiscard]] Address last() const;  // the last address of the prefix; the first is `address`
  [[nodiscard]] std::string text() const;
  auto operator<=>(const Prefix&) const = default;
};

/// Where a TCP server listens: "127.0.0.1:9464", "[::1]:9464".
struct SocketAddress {
  Address address;
  std::uint16_t port = 0;

  [[nodiscard]] static Result<SocketAddress> parse(std::string_view text);
  [[nodiscard]] std::string text() const;
  auto operator<=>(const SocketAddress&) const = default;
};

/// Sorts the prefixes and removes those that another one contains.
[[nodiscard]] std::vector<Prefix> disjoint(std::vector<Prefix> prefixes);

}  // namespace trireme::policy
