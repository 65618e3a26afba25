// SPDX-License-Identifier: Apache-2.0
// Test vectors of FIPS 180-4, RFC 4231, and RFC 5869. For the zero nonce, no vectors are published;
// these were computed with OpenSSL.
#include "credentials_support.hpp"

namespace trireme::credentials {
namespace {

Key key_from_hex(std::string_view text) {
  return array_from_hex(text);
}

TEST(Crypto, Sha256) {
  EXPECT_EQ(to_hex(sha256({})), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(to_hex(sha256({as_bytes("abc")})),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(to_hex(sha256({as_bytes("abcdbcdecdefdefgefghfghig"),
                           {},
                           as_bytes("hijhijkijkljklmklmnlmnomnopnopq")})),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

// The keys of RFC 4231 are shorter than 32 bytes. HMAC pads keys with zeros, so padded keys give
// the same results.
TEST(Crypto, Hmac) {
  Hmac jefe(key_from_hex("4a65666500000000000000000000000000000000000000000000000000000000"));
  EXPECT_EQ(to_hex(jefe({as_bytes("what do ya want "), as_bytes("for nothing?")})),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  Hmac first(key_from_hex("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b000000000000000000000000"));
  EXPECT_EQ(to_hex(first({as_bytes("Hi There")})),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
}

TEST(Crypto, HmacCanBeUsedAgainAndMoved) {
  Hmac hmac(key_from_hex("4a65666500000000000000000000000000000000000000000000000000000000"));
  const Digest first = hmac({as_bytes("a")});
  EXPECT_NE(hmac({as_bytes("b")}), first);
  EXPECT_EQ(hmac({as_bytes("a")}), first);
  Hmac moved(std::move(hmac));
  EXPECT_EQ(moved({as_bytes("a")}), first);
}

TEST(Crypto, Hkdf) {
  const Der input(22, 0x0b);
  EXPECT_EQ(
      to_hex(hkdf(input, from_hex("000102030405060708090a0b0c"), from_hex("f0f1f2f3f4f5f6f7f8f9"))),
      "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
  EXPECT_EQ(to_hex(hkdf(input, {}, {})),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d");
}

TEST(Crypto, Equal) {
  EXPECT_TRUE(equal({}, {}));
  EXPECT_TRUE(equal(as_bytes("abc"), as_bytes("abc")));
  EXPECT_FALSE(equal(as_bytes("abc"), as_bytes("abd")));
  EXPECT_FALSE(equal(as_bytes("abc"), as_bytes("ab")));
  EXPECT_FALSE(equal(as_bytes(""), as_bytes("a")));
}

TEST(Crypto, Wipe) {
  Der secret = {1, 2, 3};
  wipe(secret);
  EXPECT_EQ(secret, Der(3, 0));
  wipe({});
}

struct Sealed {
  Der bytes;
  std::array<std::uint8_t, 16> tag = {};
};
const Key kSealKey =
    array_from_hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
constexpr std::string_view kPlain = "app=web\nenv=prod\n";
constexpr std::string_view kAdditional = "what was said before";

Sealed seal(Aead& aead, std::string_view plain) {
  Sealed sealed{Der(plain.size()), {}};
  aead.seal(kSealKey, as_bytes(kAdditional), as_bytes(plain), sealed.bytes, sealed.tag);
  return sealed;
}

TEST(Crypto, AeadSeals) {
  Aead aead;
  const Sealed sealed = seal(aead, kPlain);
  EXPECT_EQ(to_hex(sealed.bytes), "4b2c6a90493f8cc1a85f53c2d4afc24e7c");
  EXPECT_EQ(to_hex(sealed.tag), "883584756cfbe13429b0f51a838d83c8");
  Der opened(kPlain.size());
  ASSERT_TRUE(aead.open(kSealKey, as_bytes(kAdditional), sealed.bytes, sealed.tag, opened));
  EXPECT_TRUE(equal(opened, as_bytes(kPlain)));
}

TEST(Crypto, AeadSealsNothing) {
  Aead aead;
  const Sealed sealed = seal(aead, "");
  EXPECT_TRUE(aead.open(kSealKey, as_bytes(kAdditional), {}, sealed.tag, {}));
}

TEST(Crypto, AeadRefusesEveryFlippedBitAndLeavesNothing) {
  Aead aead;
  const Sealed good = seal(aead, kPlain);
  for (std::size_t bit = 0; bit < 8 * (kPlain.size() + 16 + kAdditional.size()); ++bit) {
    Der all = good.bytes + Der(good.tag.begin(), good.tag.end()) +
              Der(kAdditional.begin(), kAdditional.end());
    all[bit / 8] ^= static_cast<std::uint8_t>(1U << (bit % 8));
    const Bytes view = all;
    Der opened(kPlain.size(), 1);
    EXPECT_FALSE(aead.open(kSealKey, view.subspan(kPlain.size() + 16), view.first(kPlain.size()),
                           view.subspan(kPlain.size(), 16), opened));
    EXPECT_EQ(opened, Der(kPlain.size(), 0));
  }
}

TEST(Crypto, AeadRefusesShortTags) {
  Aead aead;
  const Sealed sealed = seal(aead, kPlain);
  for (const std::size_t size : {0U, 1U, 15U}) {
    Der opened(kPlain.size(), 1);
    EXPECT_FALSE(aead.open(kSealKey, as_bytes(kAdditional), sealed.bytes,
                           Bytes(sealed.tag).first(size), opened));
    EXPECT_EQ(opened, Der(kPlain.size(), 0));
  }
  Der shorter(kPlain.size() - 1);
  EXPECT_FALSE(aead.open(kSealKey, as_bytes(kAdditional), sealed.bytes, sealed.tag, shorter));
}

TEST(Crypto, RandomFillsWhateverTheSize) {
  Random random = Random::open().value();
  Der large(5000, 0);
  ASSERT_TRUE(random.fill(large));
  for (std::size_t at = 0; at + 16 <= large.size(); at += 16) {
    EXPECT_TRUE(std::any_of(large.begin() + static_cast<std::ptrdiff_t>(at),
                            large.begin() + static_cast<std::ptrdiff_t>(at + 16),
                            [](auto byte) { return byte != 0; }));
  }
  Der again(5000, 0);
  ASSERT_TRUE(random.fill(again));
  EXPECT_NE(large, again);
  EXPECT_TRUE(random.fill({}));
}

TEST(Crypto, CredentialHashAndPairKey) {
  const Digest client = credential_hash(CredentialType::local, as_bytes("client"));
  const Digest server = credential_hash(CredentialType::psk, as_bytes("server"));
  EXPECT_EQ(to_hex(client), "2fca516d043f5dec2c7e2ff705e6e135ca523ff2ad174989767191be96a93d73");
  EXPECT_EQ(to_hex(server), "553dc8931e3fc6a08bfb8988fdf4029bc87694873ba8dd5eb3fe1c9d1741ccef");
  EXPECT_EQ(to_hex(pair_key(kSealKey, client, server)),
            "0b49f84e17140b5d1bea64d752ca6cfbce5cf2fe9da81290e705750a0ac3d2e5");
  EXPECT_NE(pair_key(kSealKey, server, client), pair_key(kSealKey, client, server));
}

}  // namespace
}  // namespace trireme::credentials
