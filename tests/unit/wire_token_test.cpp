// SPDX-License-Identifier: Apache-2.0
// HELLO and REPLY: known bytes, and what is rejected.
#include "trireme/wire/token.hpp"

#include <algorithm>

#include "wire_support.hpp"

namespace trireme::wire {
namespace {

const Octets kShared = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
const Octets kPsk = join({hex("0011223344556677"), Octets{'d', 'b', '-', '1'}});
const Octets kLabels = hex("6170703d7765620a");  // app=web
const Octets kTag = hex("c0c1c2c3c4c5c6c7c8c9cacbcccdcecf");
constexpr Nonce kNonce = {0xB0, 0xB1, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7,
                          0xB8, 0xB9, 0xBA, 0xBB, 0xBC, 0xBD, 0xBE, 0xBF};

constexpr PolicyDigest kPolicy = {0xD0, 0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7};

const Octets kHello =
    hex("89 545249 52454d45 02 01 02 00 b0b1b2b3b4b5b6b7b8b9babbbcbdbebf 0010 0008 d0d1d2d3d4d5d6d7"
        "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff 6170703d7765620a");
const Octets kReply =
    hex("89 545249 52454d45 02 02 02 00 b0b1b2b3b4b5b6b7b8b9babbbcbdbebf 000c 0008 d0d1d2d3d4d5d6d7"
        "0011223344556677 64622d31 6170703d7765620a c0c1c2c3c4c5c6c7c8c9cacbcccdcecf");

Token hello() {
  return {Message::hello, CredentialType::psk, 0, kNonce, kPolicy, kShared, kLabels, {}};
}

Token reply() {
  return {Message::reply, CredentialType::psk, 0, kNonce, kPolicy, kPsk, kLabels, kTag};
}

Octets written(const Token& token) {
  Octets out(4096);
  out.resize(write_token(token, out));
  return out;
}

BadToken why(Message expected, const Octets& bytes) {
  const Octets exact = bytes;
  const auto token = read_token(expected, exact);
  EXPECT_FALSE(token);
  return token ? BadToken{} : token.error();
}

Octets with(Octets bytes, std::size_t at, unsigned value) {
  bytes.at(at) = static_cast<std::uint8_t>(value);
  return bytes;
}

TEST(Token, WritesKnownBytes) {
  EXPECT_EQ(written(hello()), kHello);
  EXPECT_EQ(written(reply()), kReply);
  EXPECT_EQ(hello_size(16, 8), kHello.size());
  EXPECT_EQ(reply_size(12, 8), kReply.size());
}

TEST(Token, ReadsKnownBytes) {
  const auto first = read_token(Message::hello, kHello);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->message, Message::hello);
  EXPECT_EQ(first->type, CredentialType::psk);
  EXPECT_EQ(first->flags, 0);
  EXPECT_EQ(octets(first->nonce), octets(kNonce));
  EXPECT_EQ(first->policy, kPolicy);
  EXPECT_EQ(octets(first->credential), kShared);
  EXPECT_EQ(octets(first->labels), kLabels);
  EXPECT_TRUE(first->tag.empty());
  const auto second = read_token(Message::reply, kReply);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->message, Message::reply);
  EXPECT_EQ(second->type, CredentialType::psk);
  EXPECT_EQ(octets(second->credential), kPsk);
  EXPECT_EQ(octets(second->labels), kLabels);
  EXPECT_EQ(octets(second->tag), kTag);
}

TEST(Token, ARefusalIsLaidOutAsAReply) {
  Token token = reply();
  token.message = Message::refusal;
  const Octets bytes = with(kReply, 9, 5);
  EXPECT_EQ(written(token), bytes);
  const auto read = read_token(Message::refusal, bytes);
  ASSERT_TRUE(read);
  EXPECT_EQ(octets(read->labels), kLabels);
  EXPECT_EQ(octets(read->tag), kTag);
  EXPECT_EQ(why(Message::reply, bytes), BadToken::message);
  EXPECT_EQ(why(Message::refusal, kReply), BadToken::message);
}

TEST(Token, RefusesTheOtherMessage) {
  EXPECT_EQ(why(Message::reply, kHello), BadToken::message);
  EXPECT_EQ(why(Message::hello, kReply), BadToken::message);
  EXPECT_EQ(why(Message::hello, with(kHello, 9, 0)), BadToken::message);
  EXPECT_EQ(why(Message::hello, with(kHello, 9, 3)), BadToken::message);
}

TEST(Token, RefusesEveryTruncationAndExtension) {
  for (const auto& [message, bytes] :
       {std::pair(Message::hello, kHello), std::pair(Message::reply, kReply)}) {
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_EQ(why(message, slice(bytes, 0, size)),
                size < 8 ? BadToken::no_token : BadToken::truncated)
          << size;
    }
    for (std::size_t more = 1; more <= 40; ++more) {
      EXPECT_EQ(why(message, join({bytes, Octets(more, 0)})), BadToken::truncated) << more;
    }
  }
}

TEST(Token, RefusesUnknownTypes) {
  for (unsigned type = 0; type < 256; ++type) {
    if (type < 1 || type > 2) {
      EXPECT_EQ(why(Message::hello, with(kHello, 10, type)), BadToken::credential) << type;
    }
  }
}

// A credential of 16 bytes is valid for both types. Only REPLY's tag reveals a changed type.
TEST(Token, RefusesEveryFlipInTheHeaderOutsideTypeNonceAndPolicy) {
  const auto expected = [](std::size_t at, unsigned bit) {
    const bool is_possible_length = at == 29 && (16U ^ 1U << bit) >= 9 && (16U ^ 1U << bit) <= 72;
    constexpr std::array<BadToken, 4> kByField = {BadToken::version, BadToken::message,
                                                  BadToken::credential, BadToken::flags};
    return at < 8                           ? BadToken::no_token
           : at < 12                        ? kByField.at(at - 8)
           : at < 30 && !is_possible_length ? BadToken::credential
                                            : BadToken::truncated;
  };
  for (std::size_t at = 0; at < kTokenHeader; ++at) {
    if (at == 10 || (at >= 12 && at < 28) || at >= 32) {
      continue;
    }
    for (unsigned bit = 0; bit < 8; ++bit) {
      EXPECT_EQ(why(Message::hello, with(kHello, at, kHello[at] ^ 1U << bit)), expected(at, bit))
          << at << " bit " << bit;
    }
  }
}

TEST(Token, AFlipElsewhereIsReadAsItStands) {
  for (const auto& [message, bytes] :
       {std::pair(Message::hello, kHello), std::pair(Message::reply, kReply)}) {
    for (std::size_t at = 12; at < bytes.size(); ++at) {
      if (at < 28 || at >= 32) {
        const Octets flipped = with(bytes, at, bytes[at] ^ 1U);
        const auto token = read_token(message, flipped);
        ASSERT_TRUE(token) << at;
        EXPECT_EQ(written(*token), flipped);
      }
    }
  }
}

TEST(Token, BoundsCredentialsByTheirType) {
  const auto is_possible = [](CredentialType type, std::size_t length) {
    const Octets credential(length, 1);
    Token token = hello();
    token.type = type;
    token.credential = credential;
    const Octets bytes = written(token);
    const Octets by_hand = join({slice(kHello, 0, 10),
                                 {static_cast<std::uint8_t>(type)},
                                 slice(kHello, 11, 17),
                                 number(length, 2),
                                 number(kLabels.size(), 2),
                                 octets(kPolicy),
                                 credential,
                                 kLabels});
    EXPECT_EQ(bytes, read_token(Message::hello, by_hand) ? by_hand : Octets{})
        << "what read_token() accepts, write_token() writes";
    return !bytes.empty();
  };
  for (std::size_t length = 0; length < 1300; ++length) {
    EXPECT_EQ(is_possible(CredentialType::certificate, length),
              length >= 1 && kTokenHeader + length + kLabels.size() <= 1180)
        << length;
    EXPECT_EQ(is_possible(CredentialType::psk, length), length >= 9 && length <= 72) << length;
    EXPECT_FALSE(is_possible(CredentialType::local, length)) << length;
    EXPECT_FALSE(is_possible(CredentialType{0}, length) || is_possible(CredentialType{4}, length))
        << length;
  }
}

TEST(Token, IsNoLargerThanReadersHaveRoomFor) {
  for (const std::size_t size : {kMaxToken, kMaxToken + 1, std::size_t{65'535}}) {
    const std::size_t labels = size - kTokenHeader - 12 - kTagSize;
    const Octets bytes = join({slice(kReply, 0, 30), number(labels, 2), slice(kReply, 32, 20),
                               Octets(labels, 'x'), kTag});
    ASSERT_EQ(bytes.size(), size);
    EXPECT_EQ(read_token(Message::reply, bytes).has_value(), size == kMaxToken) << size;
  }
}

TEST(Token, LabelsMayBeEmpty) {
  Token token = reply();
  token.labels = {};
  const Octets bytes = written(token);
  EXPECT_EQ(bytes.size(), reply_size(12, 0));
  const auto again = read_token(Message::reply, bytes);
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->labels.empty());
  EXPECT_EQ(octets(again->tag), kTag);
}

TEST(Token, WritesNothingThatDoesNotFitOrCannotBeRead) {
  Octets out(kReply.size() - 1, 0xEE);
  EXPECT_EQ(write_token(reply(), out), 0U);
  EXPECT_EQ(out, Octets(out.size(), 0xEE)) << "unchanged";
  out.push_back(0);
  EXPECT_EQ(write_token(reply(), out), out.size());
  Token token = reply();
  token.flags = 1;
  EXPECT_TRUE(written(token).empty());
  token = reply();
  token.tag = {};
  EXPECT_TRUE(written(token).empty());
  token = hello();
  token.tag = kTag;
  EXPECT_TRUE(written(token).empty());
  token = hello();
  token.message = Message{3};
  EXPECT_TRUE(written(token).empty());
  const Octets many(0x10000, 'a');
  token = hello();
  token.labels = many;
  Octets large(0x20000);
  EXPECT_EQ(write_token(token, large), 0U);
  token.labels = token.labels.first(kMaxToken - kTokenHeader - 16 + 1);
  EXPECT_EQ(write_token(token, large), 0U);
  token.labels = token.labels.first(kMaxToken - kTokenHeader - 16);
  EXPECT_EQ(write_token(token, large), kMaxToken);
}

TEST(Token, AnyBytesAreRefusedOrWrittenBack) {
  std::mt19937 random(20240229);
  const int count = cases(25'000, 1'000'000);
  int good = 0;
  for (int i = 0; i < count; ++i) {
    Octets bytes = random() % 2 == 0 ? kHello : kReply;
    for (auto flips = random() % 3; flips > 0; --flips) {
      bytes[random() % bytes.size()] ^= static_cast<std::uint8_t>(1U << random() % 8);
    }
    if (random() % 4 == 0) {
      bytes.resize(random() % (bytes.size() + 20));
    }
    const Octets exact(bytes);
    for (const auto message : {Message::hello, Message::reply}) {
      if (const auto token = read_token(message, exact)) {
        ASSERT_EQ(written(*token), exact);
        ++good;
      }
    }
  }
  EXPECT_GT(good, count / 4) << "all cases are rejected";
}

TEST(BadToken, HasATextEach) {
  for (const auto bad : {BadToken::no_token, BadToken::truncated, BadToken::version,
                         BadToken::message, BadToken::credential, BadToken::flags}) {
    EXPECT_STRNE(text(bad), "bad token");
  }
}

}  // namespace
}  // namespace trireme::wire
