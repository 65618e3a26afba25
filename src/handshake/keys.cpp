#include "trireme/handshake/keys.hpp"

#include <algorithm>
#include <string_view>

#include "trireme/credentials/trust.hpp"

namespace trireme::handshake {
namespace {

Bytes text(std::string_view value) {
  return {reinterpret_cast<const std::uint8_t*>(value.data()), value.size()};
}

/// version . type . flags . digest of the policy
constexpr std::size_t kShape = 3 + sizeof(wire::PolicyDigest);

std::array<std::uint8_t, kShape> shape_bytes(const Shape& shape) {
  std::array<std::uint8_t, kShape> bytes = {wire::kVersion, static_cast<std::uint8_t>(shape.type),
                                            shape.flags};
  std::ranges::copy(shape.policy, bytes.begin() + 3);
  return bytes;
}

/// T1 . shape . server's nonce . s
using Additional = std::array<std::uint8_t, 32 + kShape + wire::kNonceSize + 32>;

Additional additional_data(const ReplyContext& context) {
  Additional bytes{};
  auto* end = std::copy(context.hello.begin(), context.hello.end(), bytes.begin());
  const auto shape = shape_bytes(context.shape);
  end = std::copy(shape.begin(), shape.end(), end);
  end = std::copy(context.server_nonce.begin(), context.server_nonce.end(), end);
  std::copy(context.server.begin(), context.server.end(), end);
  return bytes;
}

}  // namespace

Digest hello_transcript(const Shape& shape, const Nonce& client_nonce, const Digest& client,
                        const Digest& labels) {
  return credentials::sha256(
      {text("trireme v2 hello"), shape_bytes(shape), client_nonce, client, labels});
}

PairKeys::PairKeys(const Key& secret, const Digest& client, const Digest& server)
    : key_(credentials::pair_key(secret, client, server)) {}

Key PairKeys::reply_key(const Digest& hello, const Nonce& server_nonce) {
  return key_({text("trireme v2 reply"), hello, server_nonce});
}

Key PairKeys::refusal_key(const Digest& hello, const Nonce& server_nonce) {
  return key_({text("trireme v2 refusal"), hello, server_nonce});
}

namespace {

Tag first_of(const Digest& whole) {
  Tag tag;
  std::copy_n(whole.begin(), tag.size(), tag.begin());
  return tag;
}

}  // namespace

Tag PairKeys::proof(const Digest& transcript, const EndBytes& client) {
  return first_of(key_({text("trireme v2 proof"), transcript, client}));
}

Tag PairKeys::ready(const Digest& transcript) {
  return first_of(key_({text("trireme v2 ready"), transcript}));
}

void seal_reply(credentials::Aead& aead, const Key& key, const ReplyContext& context,
                std::span<std::uint8_t> text, std::span<std::uint8_t, wire::kTagSize> tag) {
  aead.seal(key, additional_data(context), text, text, tag);
}

bool open_reply(credentials::Aead& aead, const Key& key, const ReplyContext& context, Bytes sealed,
                Bytes tag, std::span<std::uint8_t> text) {
  return aead.open(key, additional_data(context), sealed, tag, text);
}

Digest reply_transcript(const ReplyContext& context, Bytes sealed, Bytes tag) {
  return credentials::sha256({text("trireme v2 proof"), additional_data(context), sealed, tag});
}

}  // namespace trireme::handshake
