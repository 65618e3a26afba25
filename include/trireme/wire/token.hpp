// SPDX-License-Identifier: Apache-2.0
// The bytes of HELLO and REPLY. docs/protocol.md has the layout; numbers are big endian.
//
//   0   8  magic                     28  2  length of the credential
//   8   1  version                   30  2  length of the labels (REPLY: sealed, without the tag)
//   9   1  message                   32  8  digest of the sender's policy, its first bytes
//   10  1  credential type           40     credential
//   11  1  flags, 0                         labels (REPLY: sealed labels, then a tag of 16 bytes)
//   12  16 nonce
//
// What REPLY seals begins with an end of the flow and a byte: kReplyStart, handshake/binding.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include <tl/expected.hpp>

namespace trireme::wire {

inline constexpr std::array<std::uint8_t, 8> kMagic = {0x89, 'T', 'R', 'I', 'R', 'E', 'M', 'E'};
inline constexpr std::uint8_t kVersion = 2;
inline constexpr std::size_t kTokenHeader = 40;
inline constexpr std::size_t kNonceSize = 16;
inline constexpr std::size_t kTagSize = 16;      // of REPLY's seal, and PROOF
inline constexpr std::size_t kEndSize = 16 + 2;  // an address and a port: handshake/binding.hpp
/// Sealed in REPLY ahead of the labels: an end, and a byte.
inline constexpr std::size_t kReplyStart = kEndSize + 1;
/// Largest token: fits IPv6's minimum MTU with 40 bytes of TCP options.
inline constexpr std::size_t kMaxToken = 1280 - 40 - 20 - 40;

using Nonce = std::array<std::uint8_t, kNonceSize>;
using Tag = std::array<std::uint8_t, kTagSize>;
/// The first bytes of a SHA-256 that names a policy; zeros: it is not said.
using PolicyDigest = std::array<std::uint8_t, 8>;

enum class Message : std::uint8_t {
  hello = 1,
  reply = 2,
  proof = 3,  // this one and READY: control.hpp
  ready = 4,
  refusal = 5,  // in the place of REPLY: why there is none
  meet = 6,     // in the place of HELLO, between two workloads of one host: control.hpp
};

/// Which secret the pair key comes from.
enum class CredentialType : std::uint8_t {
  certificate = 1,  // DER of an X.509 leaf
  psk = 2,  // 8 bytes that name the shared secret, then the name of the host that holds it, 1 to 64
            // bytes
  local = 3,  // none: both ends are this daemon's, and no token has it
};

/// A view into the bytes that it was read from.
struct Token {
  Message message = Message::hello;
  CredentialType type = CredentialType::certificate;
  std::uint8_t flags = 0;
  std::span<const std::uint8_t, kNonceSize> nonce;
  PolicyDigest policy{};
  std::span<const std::uint8_t> credential;
  std::span<const std::uint8_t> labels;  // plain in HELLO, in REPLY all that is sealed
  std::span<const std::uint8_t> tag;     // REPLY, REFUSAL: 16 bytes; HELLO: empty
};

enum class BadToken : std::uint8_t {
  no_token,    // the magic is not there: data of somebody else
  truncated,   // lengths go beyond the data, or data beyond the lengths or beyond any token's
  version,     // another version than kVersion
  message,     // not the message that belongs here
  credential,  // unknown type, or a credential of impossible length
  flags,       // a flag that this version does not know
};
[[nodiscard]] const char* text(BadToken bad);

/// Reads one message of the kind expected: kMaxToken bytes at most, and every one must be accounted
/// for.
[[nodiscard]] tl::expected<Token, BadToken> read_token(Message expected,
                                                       std::span<const std::uint8_t> bytes);

[[nodiscard]] constexpr std::size_t hello_size(std::size_t credential, std::size_t labels) {
  return kTokenHeader + credential + labels;
}
/// `sealed`: kReplyStart and the labels.
[[nodiscard]] constexpr std::size_t reply_size(std::size_t credential, std::size_t sealed) {
  return kTokenHeader + credential + sealed + kTagSize;
}
/// The version that a message names; 0 where it does not begin as one.
[[nodiscard]] std::uint8_t version_of(std::span<const std::uint8_t> bytes);
/// Writes a message into `out` and returns its size, 0 where it does not fit or read_token() would
/// refuse it.
[[nodiscard]] std::size_t write_token(const Token& token, std::span<std::uint8_t> out);

}  // namespace trireme::wire
