// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/address.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace trireme::policy {
namespace {

constexpr std::array<std::uint8_t, 12> kMappedPrefix = {0, 0, 0, 0,    0,   0, 0,
                                                        0, 0, 0, 0xFF, 0xFF};  // RFC 4291, 2.5.5.2

std::optional<Address> parse_literally(std::string_view text) {
  const std::string terminated(text);
  if (terminated.find('\0') != std::string::npos) {
    return std::nullopt;
  }
  Address address;
  address.family =
      text.find(':') == std::string_view::npos ? Address::Family::v4 : Address::Family::v6;
  const int family = address.family == Address::Family::v4 ? AF_INET : AF_INET6;
  if (::inet_pton(family, terminated.c_str(), address.bytes.data()) != 1) {
    return std::nullopt;
  }
  return address;
}

bool is_mapped(const Address& address) {
  return address.family == Address::Family::v6 &&
         std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), address.bytes.begin());
}

Address unmapped(const Address& address) {
  if (!is_mapped(address)) {
    return address;
  }
  Address plain;
  std::copy(address.bytes.begin() + kMappedPrefix.size(), address.bytes.end(), plain.bytes.begin());
  return plain;
}

tl::unexpected<Error> bad_address(std::string_view text) {
  return fail(fmt::format("invalid IP address '{}'", text),
              "write 192.0.2.1 or 2001:db8::1; DNS names go into `names`");
}

// Clears all bits after the first `length`.
Address masked(Address address, unsigned length) {
  for (std::size_t i = 0; i < address.bytes.size(); ++i) {
    const unsigned before = static_cast<unsigned>(i) * 8;
    const unsigned kept = length <= before ? 0 : std::min(8U, length - before);
    address.bytes[i] = static_cast<std::uint8_t>(address.bytes[i] & (0xFF00U >> kept));
  }
  return address;
}

}  // namespace

Result<Address> Address::parse(std::string_view text) {
  const auto address = parse_literally(text);
  if (!address) {
    return bad_address(text);
  }
  return unmapped(*address);
}

std::string Address::text() const {
  char buffer[INET6_ADDRSTRLEN] = {};
  ::inet_ntop(family == Family::v4 ? AF_INET : AF_INET6, bytes.data(), buffer, sizeof buffer);
  return buffer;
}

bool Address::is_loopback() const {
  if (family == Family::v4) {
    return bytes[0] == 127;
  }
  return bytes.back() == 1 &&
         std::all_of(bytes.begin(), bytes.end() - 1, [](std::uint8_t byte) { return byte == 0; });
}

std::array<Address, 3> bound_addresses(const Address& address) {
  return {address, Address{.family = Address::Family::v4, .bytes = {}},
          Address{.family = Address::Family::v6, .bytes = {}}};
}

Result<SocketAddress> SocketAddress::parse(std::string_view text) {
  const auto bad = [&] {
    return fail(fmt::format("invalid address and port '{}'", text),
                "write 127.0.0.1:9464 or [::1]:9464");
  };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return bad();
  }
  const std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.starts_with('[') && host.ends_with(']');
  const auto address = Address::parse(bracketed ? host.substr(1, host.size() - 2) : host);
  const std::string_view digits = text.substr(colon + 1);
  SocketAddress result;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), result.port);
  if (!address || bracketed != (host.find(':') != std::string_view::npos) || error != std::errc() ||
      end != digits.data() + digits.size() || result.port == 0) {
    return bad();
  }
  result.address = *address;
  return result;
}

std::string SocketAddress::text() const {
  return address.family == Address::Family::v4 ? fmt::format("{}:{}", address.text(), port)
                                               : fmt::format("[{}]:{}", address.text(), port);
}

Result<Prefix> Prefix::parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  const auto address = parse_literally(text.substr(0, slash));
  if (!address) {
    return bad_address(text.substr(0, slash));
  }
  const auto bits = static_cast<unsigned>(address->size() * 8);
  unsigned length = bits;
  if (slash != std::string_view::npos) {
    const std::string_view digits = text.substr(slash + 1);
    const auto [end, status] =
        std::from_chars(digits.data(), digits.data() + digits.size(), length);
    if (status != std::errc{} || end != digits.data() + digits.size() || length > bits) {
      return fail(fmt::format("invalid prefix length '{}'", digits),
                  fmt::format("use a number from 0 to {}", bits));
    }
  }
  Prefix prefix{masked(*address, length), static_cast<std::uint8_t>(length)};
  if (prefix.address != *address) {
    return fail(fmt::format("'{}' has bits set beyond its prefix length", text),
                fmt::format("did you mean {} or {}/{}?", prefix.text(), address->text(), bits));
  }
  if (is_mapped(prefix.address) && length >= 96) {
    prefix = {unmapped(prefix.address), static_cast<std::uint8_t>(length - 96)};
  }
  return prefix;
}

Prefix Prefix::around(const Address& address, std::uint8_t length) {
  return {masked(address, length), length};
}

bool Prefix::contains(const Address& other) const {
  return other.family == address.family && masked(other, length) == address;
}

Address Prefix::last() const {
  Address last = address;
  for (unsigned bit = length; bit < address.size() * 8; ++bit) {
    last.bytes[bit / 8] = static_cast<std::uint8_t>(last.bytes[bit / 8] | (0x80U >> (bit % 8)));
  }
  return last;
}

std::string Prefix::text() const {
  return fmt::format("{}/{}", address.text(), length);
}

std::vector<Prefix> disjoint(std::vector<Prefix> prefixes) {
  std::ranges::sort(
      prefixes);  // at equal addresses the shorter prefix, which contains the other, sorts first
  std::vector<Prefix> result;
  for (const Prefix& prefix : prefixes) {
    if (result.empty() || !result.back().contains(prefix.address)) {
      result.push_back(prefix);
    }
  }
  return result;
}

}  // namespace trireme::policy
