// SPDX-License-Identifier: Apache-2.0
// The key schedule of docs/protocol.md: from the secret of a pair of credentials to REPLY's seal
// and PROOF. Belongs to one thread.
#pragma once

#include "trireme/credentials/crypto.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::handshake {

using credentials::Bytes;
using credentials::Digest;
using credentials::Key;
using wire::Nonce;
using wire::Tag;
/// An end of a flow as tokens name it: address, IPv4 as ::ffff:a.b.c.d, and port; big endian.
using EndBytes = std::array<std::uint8_t, wire::kEndSize>;

/// What the header of the message at hand says beside its nonce.
struct Shape {
  wire::CredentialType type = wire::CredentialType::certificate;
  std::uint8_t flags = 0;
  wire::PolicyDigest policy{};  // its sender's
};

/// What a HELLO says, beside its nonce and its credential.
struct Said {
  Shape shape;
  Digest labels{};  // SHA-256 of them
};

/// Between one client's and one server's credential, both of which are part of every key.
class PairKeys {
 public:
  PairKeys(const Key& secret, const Digest& client, const Digest& server);

  /// K': seals one REPLY.
  [[nodiscard]] Key reply_key(const Nonce& client_nonce, const Nonce& server_nonce);
  /// The same of one REFUSAL.
  [[nodiscard]] Key refusal_key(const Nonce& client_nonce, const Nonce& server_nonce);
  /// PROOF for the REPLY with this nonce and tag, of a client at `client`; zeros where the server
  /// wants no address.
  [[nodiscard]] Tag proof(const Nonce& server_nonce, Bytes tag, const EndBytes& client);
  /// READY, the server's answer to it.
  [[nodiscard]] Tag ready(const Nonce& server_nonce, Bytes tag);

 private:
  credentials::Hmac key_;
};

/// What the tag of REPLY or REFUSAL covers beside the text that it seals.
struct ReplyContext {
  const Said& hello;
  Shape shape;  // its own
};
/// In its place.
void seal_reply(credentials::Aead& aead, const Key& key, const ReplyContext& context,
                std::span<std::uint8_t> text, std::span<std::uint8_t, wire::kTagSize> tag);
/// False where the tag does not fit. `text` is as long as `sealed`.
[[nodiscard]] bool open_reply(credentials::Aead& aead, const Key& key, const ReplyContext& context,
                              Bytes sealed, Bytes tag, std::span<std::uint8_t> text);

}  // namespace trireme::handshake
