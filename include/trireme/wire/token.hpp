// SPDX-License-Identifier: Apache-2.0
// The bytes of HELLO, REPLY and REFUSAL, as docs/protocol.md specifies them. Numbers are big
// endian.
//
//   0   8  magic                     28  2  length of the credential
//   8   1  version                   30  2  length of the labels (REPLY: sealed, without the tag)
//   9   1  message                   32  8  digest of the sender's policy, its first bytes
//   10  1  credential type           40     credential
//   11  1  flags, 0                         labels (REPLY: sealed labels, then a tag of 16 bytes)
//   12  16 nonce
//
// The sealed part of REPLY begins with an endpoint of the flow and a byte (kReplyStart); see
// handshake/binding.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include <tl/expected.hpp>

#include "trireme/abi/abi.hpp"

namespace trireme::wire {

inline constexpr std::uint8_t kVersion = 2;
inline constexpr std::size_t kTokenHeader = 40;
inline constexpr std::size_t kNonceSize = 16;
inline constexpr std::size_t kTagSize = 16;      // of REPLY's seal, and PROOF
inline constexpr std::size_t kEndSize = 16 + 2;  // address and port: handshake/binding.hpp
/// Size of what REPLY seals ahead of the labels: an endpoint and a byte.
inline constexpr std::size_t kReplyStart = kEndSize + 1;
/// Largest token in bytes: fits the minimum MTU of IPv6 with 40 bytes of TCP options.
inline constexpr std::size_t kMaxToken = 1280 - 40 - 20 - 40;

using Nonce = std::array<std::uint8_t, kNonceSize>;
using Tag = std::array<std::uint8_t, kTagSize>;
/// The first bytes of the policy's SHA-256 digest. Zeros: the sender does not state it.
using PolicyDigest = std::array<std::uint8_t, 8>;

enum class Message : std::uint8_t {
  hello = 1,
  reply = 2,
  proof = 3,    // control.hpp
  ready = 4,    // control.hpp
  refusal = 5,  // replaces REPLY and says why there is none
  meet = 6,     // replaces HELLO between two workloads of one host: control.hpp
};

/// The kind of secret that the key of a pair of hosts is derived from.
enum class CredentialType : std::uint8_t {
  certificate = 1,  // DER of an X.509 leaf
  psk = 2,    // 8 bytes that identify the shared secret, then the name of the host that holds it, 1
              // to 64 bytes
  local = 3,  // no credential: both endpoints belong to this daemon; not used in tokens
};

/// HELLO, REPLY or REFUSAL. Its spans point into the bytes that it was read from.
struct Token {
  Message message = Message::hello;
  CredentialType type = CredentialType::certificate;
  std::uint8_t flags = 0;
  std::span<const std::uint8_t, kNonceSize> nonce;
  PolicyDigest policy{};
  std::span<const std::uint8_t> credential;
  std::span<const std::uint8_t> labels;  // HELLO: plain; REPLY, REFUSAL: the sealed text
  std::span<const std::uint8_t> tag;     // REPLY, REFUSAL: 16 bytes; HELLO: empty
};

enum class BadToken : std::uint8_t {
  no_token,    // the magic is missing: not data of this protocol
  truncated,   // the lengths do not match the data, or the data are longer than any token
  version,     // another version than kVersion
  message,     // not the expected message
  credential,  // unknown type, or an invalid length for its type
  flags,       // a flag unknown to this version
};
[[nodiscard]] const char* text(BadToken bad);

/// Reads one message of the expected kind. `bytes` is at most kMaxToken bytes and must contain
/// nothing else.
[[nodiscard]] tl::expected<Token, BadToken> read_token(Message expected,
                                                       std::span<const std::uint8_t> bytes);

[[nodiscard]] constexpr std::size_t hello_size(std::size_t credential, std::size_t labels) {
  return kTokenHeader + credential + labels;
}
/// `sealed` is kReplyStart plus the size of the labels.
[[nodiscard]] constexpr std::size_t reply_size(std::size_t credential, std::size_t sealed) {
  return kTokenHeader + credential + sealed + kTagSize;
}
/// The protocol version of a message; 0 if the bytes do not begin with the magic.
[[nodiscard]] std::uint8_t version_of(std::span<const std::uint8_t> bytes);
/// Writes a message into `out` and returns its size in bytes; 0 if it does not fit or read_token()
/// would reject it.
[[nodiscard]] std::size_t write_token(const Token& token, std::span<std::uint8_t> out);

}  // namespace trireme::wire
