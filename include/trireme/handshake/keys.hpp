// SPDX-License-Identifier: Apache-2.0
// The key schedule of docs/protocol.md: from the secret of a pair of credentials to the key that
// seals REPLY, and to PROOF. Not thread-safe.
#pragma once

#include "trireme/credentials/crypto.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::handshake {

using credentials::Bytes;
using credentials::Digest;
using credentials::Key;
using wire::Nonce;
using wire::Tag;
/// An endpoint of a flow in the encoding of tokens, 18 bytes, big endian: 16 bytes of address (IPv4
/// as ::ffff:a.b.c.d) and the port.
using EndBytes = std::array<std::uint8_t, wire::kEndSize>;

/// Header fields of a message, without its nonce.
struct Shape {
  wire::CredentialType type = wire::CredentialType::certificate;
  std::uint8_t flags = 0;
  wire::PolicyDigest policy{};  // first 8 bytes of the sender's policy digest; zeros: not stated
};

/// The contents of a HELLO that REPLY's tag covers, without its nonce and its credential.
struct Said {
  Shape shape;
  Digest labels{};  // SHA-256 of the encoded labels
};

/// The keys of one client's and one server's credential. Both are part of every key.
class PairKeys {
 public:
  /// `secret` is S of docs/protocol.md; `client` and `server` are the hashes of the credentials.
  PairKeys(const Key& secret, const Digest& client, const Digest& server);

  /// K' of docs/protocol.md: seals one REPLY.
  [[nodiscard]] Key reply_key(const Nonce& client_nonce, const Nonce& server_nonce);
  /// The key that seals one REFUSAL.
  [[nodiscard]] Key refusal_key(const Nonce& client_nonce, const Nonce& server_nonce);
  /// PROOF, 16 bytes, for the REPLY with this nonce and tag. `client` is the client's endpoint, or
  /// zeros if REPLY says that PROOF names no address.
  [[nodiscard]] Tag proof(const Nonce& server_nonce, Bytes tag, const EndBytes& client);
  /// READY, 16 bytes: the server's answer to that PROOF (UDP).
  [[nodiscard]] Tag ready(const Nonce& server_nonce, Bytes tag);

 private:
  credentials::Hmac key_;
};

/// Additional data that the tag of REPLY or REFUSAL covers, beside the sealed text.
struct ReplyContext {
  const Said& hello;
  Shape shape;  // of the REPLY or REFUSAL itself
};
/// Encrypts `text` in place and writes the tag.
void seal_reply(credentials::Aead& aead, const Key& key, const ReplyContext& context,
                std::span<std::uint8_t> text, std::span<std::uint8_t, wire::kTagSize> tag);
/// Decrypts `sealed` into `text`, which must have the same size. False if the tag is wrong.
[[nodiscard]] bool open_reply(credentials::Aead& aead, const Key& key, const ReplyContext& context,
                              Bytes sealed, Bytes tag, std::span<std::uint8_t> text);

}  // namespace trireme::handshake
