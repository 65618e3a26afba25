// SPDX-License-Identifier: Apache-2.0
// Reads the addresses of the queried name from a DNS answer. libresolv does the parsing. The input
// comes from the network and is not trusted.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trireme/policy/address.hpp"

namespace trireme::names {

struct ResolvedAddress {
  policy::Address address;
  std::chrono::seconds ttl{};  // the least of the address record's and its aliases' TTLs
  auto operator<=>(const ResolvedAddress&) const = default;
};

struct Answer {
  std::string name;  // the queried name: lower case, no final dot
  std::vector<ResolvedAddress> addresses;
};

/// Maximum number of aliases (CNAME) between a name and its addresses.
inline constexpr std::size_t kMostAliases = 16;

/// `message` is a DNS message (RFC 1035, section 4) without the length prefix of TCP. Only the A
/// and AAAA records in the answer section that belong to the queried name, or to the name that its
/// CNAME records lead to, are used. Records whose names contain characters other than letters,
/// digits, '-', '_' and '.' are ignored. Returns nullopt if the message is malformed, is not a
/// successful answer to exactly one question of class IN, or contains no address.
[[nodiscard]] std::optional<Answer> read_answer(std::span<const std::uint8_t> message);

}  // namespace trireme::names
