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
  const Shape shape_{wire::CredentialType::psk, 0};
  const Digest hello_ =
      hello_transcript(shape_, client_nonce_, client_, credentials::sha256({bytes("app=web\n")}));
  PairKeys keys_{counting<Key>(0), client_, server_};
  const ReplyContext context_{shape_, hello_, server_nonce_, server_};
};

TEST_F(Vectors, OfVersion2) {
  EXPECT_EQ(wire::kVersion, 2);
  EXPECT_EQ(hex(hello_), "b3acbad65c006100601b590a935886ac46827823fa3ee01ead69d9df53a3655b");
  const Key key = keys_.reply_key(hello_, server_nonce_);
  EXPECT_EQ(hex(key), "25e5dd5a6d5087973e19a2320b54abee645902b8e3e0c9d0e0e487489756d3f5");

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
  EXPECT_EQ(hex(text), "e927378fd4bc562f57065b4aef0b2d08afb1820e20d8dbf25651");
  EXPECT_EQ(hex(tag), "ad4b07bf9c8d90d0260db3483f818611");
  std::vector<std::uint8_t> opened(text.size());
  ASSERT_TRUE(open_reply(aead, key, context_, text, tag, opened));
  EXPECT_EQ(opened, plain);

  const Digest transcript = reply_transcript(context_, text, tag);
  EXPECT_EQ(hex(transcript), "98f906e5d878567bef207697a2ea5496526d513a52f14bbf13168e899ed3dd9e");
  EXPECT_EQ(hex(keys_.proof(transcript,
                            end_bytes(policy::SocketAddress::parse("10.0.0.1:40000").value()))),
            "7436c0aa1b61b9589ad429af91b10e30");
  EXPECT_EQ(hex(keys_.proof(transcript, EndBytes{})), "9b685c1e03c3776240a8bcc41d1b78cc");
  EXPECT_EQ(hex(keys_.ready(transcript)), "cc82bfc1627ac2688f3e3fe0932f53af");
}

TEST(Ends, HaveOneForm) {
  for (const char* text : {"10.0.0.1:80", "[fd00::1]:65535", "[::1]:1", "255.255.255.255:1"}) {
    EXPECT_EQ(end_text(end_bytes(policy::SocketAddress::parse(text).value())), text);
  }
}

}  // namespace
}  // namespace trireme::handshake
