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
  wire::CredentialType type = wire::CredentialType::local;
  std::uint8_t flags = 0;
  wire::PolicyDigest policy{};  // its sender's
};

/// T1: names a HELLO.
[[nodiscard]] Digest hello_transcript(const Shape& shape, const Nonce& client_nonce,
                                      const Digest& client, const Digest& labels);

/// Between one client's and one server's credential.
class PairKeys {
 public:
  PairKeys(const Key& secret, const Digest& client, const Digest& server);

  /// K': seals one REPLY.
  [[nodiscard]] Key reply_key(const Digest& hello, const Nonce& server_nonce);
  /// The same of one REFUSAL.
  [[nodiscard]] Key refusal_key(const Digest& hello, const Nonce& server_nonce);
  /// PROOF for the handshake whose T2 this is, of a client at `client`; zeros where the server
  /// wants no address.
  [[nodiscard]] Tag proof(const Digest& transcript, const EndBytes& client);
  /// READY, the server's answer to it.
  [[nodiscard]] Tag ready(const Digest& transcript);

 private:
  credentials::Hmac key_;
};

/// What REPLY's tag covers beside the text that it seals.
struct ReplyContext {
  Shape shape;
  const Digest& hello;  // T1
  const Nonce& server_nonce;
  const Digest& server;  // hash of the credential
};
/// In its place.
void seal_reply(credentials::Aead& aead, const Key& key, const ReplyContext& context,
                std::span<std::uint8_t> text, std::span<std::uint8_t, wire::kTagSize> tag);
/// False where the tag does not fit. `text` is as long as `sealed`.
[[nodiscard]] bool open_reply(credentials::Aead& aead, const Key& key, const ReplyContext& context,
                              Bytes sealed, Bytes tag, std::span<std::uint8_t> text);
/// T2: names a REPLY and all before it.
[[nodiscard]] Digest reply_transcript(const ReplyContext& context, Bytes sealed, Bytes tag);

}  // namespace trireme::handshake
