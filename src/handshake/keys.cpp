// SPDX-License-Identifier: Apache-2.0
#include "trireme/handshake/keys.hpp"

#include <algorithm>

#include "trireme/credentials/trust.hpp"

namespace trireme::handshake {
namespace {

/// The first byte of the input of HMAC; it separates the purposes of the results. Every input fits
/// one block of SHA-256, with the padding.
enum class Purpose : std::uint8_t { reply = 1, refusal = 2, proof = 3, ready = 4 };

std::array<std::uint8_t, 1> byte(Purpose purpose) {
  return {static_cast<std::uint8_t>(purpose)};
}

/// Size of: version . type . flags . policy digest
constexpr std::size_t kShape = 3 + sizeof(wire::PolicyDigest);

std::uint8_t* write_shape(const Shape& shape, std::uint8_t* out) {
  *out++ = wire::kVersion;
  *out++ = static_cast<std::uint8_t>(shape.type);
  *out++ = shape.flags;
  return std::copy(shape.policy.begin(), shape.policy.end(), out);
}

/// HELLO's shape . H(its labels) . shape of the REPLY or REFUSAL itself
using Additional = std::array<std::uint8_t, kShape + sizeof(Digest) + kShape>;

Additional additional_data(const ReplyContext& context) {
  Additional bytes{};
  std::uint8_t* end = write_shape(context.hello.shape, bytes.data());
  end = std::copy(context.hello.labels.begin(), context.hello.labels.end(), end);
  write_shape(context.shape, end);
  return bytes;
}

Tag first_of(const Digest& whole) {
  Tag tag;
  std::copy_n(whole.begin(), tag.size(), tag.begin());
  return tag;
}

}  // namespace

PairKeys::PairKeys(const Key& secret, const Digest& client, const Digest& server)
    : key_(credentials::pair_key(secret, client, server)) {}

Key PairKeys::reply_key(const Nonce& client_nonce, const Nonce& server_nonce) {
  return key_({byte(Purpose::reply), client_nonce, server_nonce});
}

Key PairKeys::refusal_key(const Nonce& client_nonce, const Nonce& server_nonce) {
  return key_({byte(Purpose::refusal), client_nonce, server_nonce});
}

Tag PairKeys::proof(const Nonce& server_nonce, Bytes tag, const EndBytes& client) {
  return first_of(key_({byte(Purpose::proof), server_nonce, tag, client}));
}

Tag PairKeys::ready(const Nonce& server_nonce, Bytes tag) {
  return first_of(key_({byte(Purpose::ready), server_nonce, tag}));
}

void seal_reply(credentials::Aead& aead, const Key& key, const ReplyContext& context,
                std::span<std::uint8_t> text, std::span<std::uint8_t, wire::kTagSize> tag) {
  aead.seal(key, additional_data(context), text, text, tag);
}

bool open_reply(credentials::Aead& aead, const Key& key, const ReplyContext& context, Bytes sealed,
                Bytes tag, std::span<std::uint8_t> text) {
  return aead.open(key, additional_data(context), sealed, tag, text);
}

}  // namespace trireme::handshake
