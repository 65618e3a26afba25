// SPDX-License-Identifier: Apache-2.0
// What an answer of a name server says: the addresses of the name that was asked for. Parsed by
// libresolv; bytes come from the network.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trireme/policy/address.hpp"

namespace trireme::names {

struct Told {
  policy::Address address;
  std::chrono::seconds ttl{};  // the least of the address's and of the aliases that led to it
  auto operator<=>(const Told&) const = default;
};

struct Answer {
  std::string name;  // that was asked for: lower case, no final dot
  std::vector<Told> addresses;
};

/// Aliases that are followed from a name to its addresses.
inline constexpr std::size_t kMostAliases = 16;

/// A DNS message (RFC 1035, section 4) without TCP's length prefix. Only what belongs to the
/// question counts: A and AAAA records of the name asked for, or of what its CNAME records lead to,
/// in the answer section. Names with other characters than letters, digits, '-', '_' and '.' count
/// for nothing. nullopt: not a successful answer to one question of class IN, malformed, or without
/// an address.
[[nodiscard]] std::optional<Answer> read_answer(std::span<const std::uint8_t> message);

}  // namespace trireme::names
