// The key schedule against vectors that another implementation of docs/protocol.md made: Python's
// hashlib and hmac, and the ChaCha20-Poly1305 of its package cryptography.
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
  const Shape shape_{wire::CredentialType::psk, 0, counting<wire::PolicyDigest>(32)};
  const Digest hello_ =
      hello_transcript(shape_, client_nonce_, client_, credentials::sha256({bytes("app=web\n")}));
  PairKeys keys_{counting<Key>(0), client_, server_};
  const ReplyContext context_{shape_, hello_, server_nonce_, server_};
};

TEST_F(Vectors, OfVersion2) {
  EXPECT_EQ(wire::kVersion, 2);
  EXPECT_EQ(hex(hello_), "212a1393849f420c9be2030479e05c7bd9ee605278e1f82325053f494b00ca4e");
  const Key key = keys_.reply_key(hello_, server_nonce_);
  EXPECT_EQ(hex(key), "ac61f1ef3f06d59198c9ff2c10ff8a19c8e5df8b5abb3b8fb4c114c9015bf643");

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
  EXPECT_EQ(hex(text), "a9f431867d8abce95b9895a07ee5a4ecd5c376df17869b7a1222");
  EXPECT_EQ(hex(tag), "19eb2a3a3389146f0bbc51bd1e6ed272");
  std::vector<std::uint8_t> opened(text.size());
  ASSERT_TRUE(open_reply(aead, key, context_, text, tag, opened));
  EXPECT_EQ(opened, plain);

  const Digest transcript = reply_transcript(context_, text, tag);
  EXPECT_EQ(hex(transcript), "5741ea62305f3c7d17e9d47ce20d21e9d95d8fbe8a547fd3f1fa51c4f4589767");
  EXPECT_EQ(hex(keys_.proof(transcript,
                            end_bytes(policy::SocketAddress::parse("10.0.0.1:40000").value()))),
            "40c28e27b26000d7f4df031fa2b9cd0d");
  EXPECT_EQ(hex(keys_.proof(transcript, EndBytes{})), "2d13e7da3ca78403b5ad2c6780b13ec9");
  EXPECT_EQ(hex(keys_.ready(transcript)), "5ba44b8784b6e038dcb62183ce11af43");
}

TEST(Ends, HaveOneForm) {
  for (const char* text : {"10.0.0.1:80", "[fd00::1]:65535", "[::1]:1", "255.255.255.255:1"}) {
    EXPECT_EQ(end_text(end_bytes(policy::SocketAddress::parse(text).value())), text);
  }
}

}  // namespace
}  // namespace trireme::handshake
