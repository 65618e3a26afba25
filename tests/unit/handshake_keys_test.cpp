// SPDX-License-Identifier: Apache-2.0
// The key schedule against test vectors from another implementation of docs/protocol.md: Python's
// hashlib and hmac, and ChaCha20-Poly1305 of the package cryptography.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "../../src/handshake/binding.hpp"
#include "trireme/credentials/trust.hpp"

namespace trireme::handshake {
namespace {

Bytes bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::string hex(Bytes data) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : data) {
    text += {kDigits[byte >> 4U], kDigits[byte & 15U]};
  }
  return text;
}

template <typename Array>
Array counting(std::uint8_t from) {
  Array array{};
  std::iota(array.begin(), array.end(), from);
  return array;
}

class Vectors : public testing::Test {
 protected:
  const Digest client_ = credentials::credential_hash(wire::CredentialType::psk, bytes("client"));
  const Digest server_ = credentials::credential_hash(wire::CredentialType::psk, bytes("server"));
  const Nonce client_nonce_ = counting<Nonce>(0);
  const Nonce server_nonce_ = counting<Nonce>(16);
  const Said hello_{{wire::CredentialType::psk, 0, counting<wire::PolicyDigest>(32)},
                    credentials::sha256({bytes("app=web\n")})};
  PairKeys keys_{counting<Key>(0), client_, server_};
  const ReplyContext context_{hello_,
                              {wire::CredentialType::psk, 0, counting<wire::PolicyDigest>(48)}};
};

TEST_F(Vectors, OfVersion2) {
  EXPECT_EQ(wire::kVersion, 2);
  const Key key = keys_.reply_key(client_nonce_, server_nonce_);
  EXPECT_EQ(hex(key), "2d02066a7b449bd7e9e507a7e10049a10b32f9258cf593dcf4671f1a5e3a772d");
  EXPECT_EQ(hex(keys_.refusal_key(client_nonce_, server_nonce_)),
            "fcbaa55e52a89ada0a4425b70996ac5d8cd5e9f1d3e7835e8aba2953f0a75383");

  Conversation conversation;
  conversation.asked_for = end_bytes(policy::SocketAddress::parse("10.0.0.2:80").value());
  const auto labels = bytes("app=db\n");
  std::vector<std::uint8_t> text(wire::kReplyStart + labels.size());
  write_reply_start(conversation, text);
  std::ranges::copy(labels, text.begin() + wire::kReplyStart);
  const std::vector<std::uint8_t> plain = text;
  Tag tag{};
  credentials::Aead aead;
  seal_reply(aead, key, context_, text, tag);
  EXPECT_EQ(hex(text), "742bb38d0ddedad22457e315d4be43bc36f5b1cf449e3830ffbb");
  EXPECT_EQ(hex(tag), "79d112985f933d2fe21f4d2cc6364b71");
  std::vector<std::uint8_t> opened(text.size());
  ASSERT_TRUE(open_reply(aead, key, context_, text, tag, opened));
  EXPECT_EQ(opened, plain);

  EXPECT_EQ(hex(keys_.proof(server_nonce_, tag,
                            end_bytes(policy::SocketAddress::parse("10.0.0.1:40000").value()))),
            "1ef9daa0cde1fd1f17ff1177fe23eac6");
  EXPECT_EQ(hex(keys_.proof(server_nonce_, tag, EndBytes{})), "0791485e74bb4cfdaf8eec9724a7840d");
  EXPECT_EQ(hex(keys_.ready(server_nonce_, tag)), "b40de958b271ad3aefe249b09f3e861b");
}

TEST(Ends, HaveOneForm) {
  for (const char* text : {"10.0.0.1:80", "[fd00::1]:65535", "[::1]:1", "255.255.255.255:1"}) {
    EXPECT_EQ(end_text(end_bytes(policy::SocketAddress::parse(text).value())), text);
  }
}

}  // namespace
}  // namespace trireme::handshake
