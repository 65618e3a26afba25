// SPDX-License-Identifier: Apache-2.0
// Trust::verify() and plausible(), with real certificates.
#include <gmock/gmock.h>

#include <thread>

#include "credentials_support.hpp"

namespace trireme::credentials {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using testing::ElementsAre;

class TrustTest : public testing::Test {
 protected:
  /// This host's material: "web-0" under `authority_`.
  [[nodiscard]] TrustMaterial material() {
    TrustMaterial material;
    material.host_name = "web-0";
    material.certificate = file(
        "host.pem",
        authority_.issue({.subject = "CN=web-0", .extensions = {san(dns("web-0"))}}, own_key_));
    material.key = file("host.key", own_key_.pem());
    material.authorities = {file("ca.pem", authority_.certificate)};
    return material;
  }
  [[nodiscard]] static std::shared_ptr<const Trust> load(const TrustMaterial& material) {
    auto loaded = Trust::load(material, nullptr, now());
    if (!loaded) {
      ADD_FAILURE() << loaded.error().front().text();
      return nullptr;
    }
    return *loaded;
  }
  [[nodiscard]] Der leaf(const CertificateSpec& spec = {}) { return authority_.issue(spec, key_); }

  /// The label constraints of a certificate with these extensions; nullopt if it is malformed.
  [[nodiscard]] std::optional<LabelConstraints> constraints(
      const std::vector<Extension>& extensions) {
    CertificateSpec spec;
    spec.extensions.insert(spec.extensions.end(), extensions.begin(), extensions.end());
    const Der der = leaf(spec);
    if (judge(der) != kTrusted) {
      EXPECT_EQ(judge(der), kMalformed);
      return std::nullopt;
    }
    return trust_->verify(CertificateType, der, now()).value()->constraints;
  }

  /// "trusted", or the reason why the certificate is not trusted. Checks that a trusted one is
  /// plausible.
  [[nodiscard]] static std::string judge(const Trust& trust, const Der& der, Time at = now()) {
    const auto peer = trust.verify(CertificateType, der, at);
    if (peer) {
      EXPECT_TRUE(trust.plausible(CertificateType, der));
    }
    return peer ? "trusted" : text(peer.error());
  }
  [[nodiscard]] std::string judge(const Der& der, Time at = now()) {
    if (!trust_) {
      trust_ = load(material());
    }
    return judge(*trust_, der, at);
  }

  static constexpr CredentialType CertificateType = CredentialType::certificate;
  static inline const std::string kTrusted = "trusted";
  static inline const std::string kMalformed = text(Distrust::malformed);
  static inline const std::string kUntrusted = text(Distrust::untrusted);
  static inline const std::string kExpired = text(Distrust::expired);
  static inline const std::string kUsage = text(Distrust::usage);
  static inline const std::string kRevoked = text(Distrust::revoked);

  TestAuthority authority_;
  TestKey own_key_;
  TestKey key_;
  std::shared_ptr<const Trust> trust_;
};

TEST_F(TrustTest, BothEndsShareASecret) {
  const auto here = load(material());
  TrustMaterial other = material();
  other.certificate = file("host.pem", leaf());
  other.key = file("host.key", key_.pem());
  const auto there = load(other);
  const auto peer = here->verify(CertificateType, there->credential(CertificateType), now());
  const auto back = there->verify(CertificateType, here->credential(CertificateType), now());
  ASSERT_TRUE(peer && back);
  EXPECT_EQ((*peer)->secret, (*back)->secret);
  EXPECT_NE((*peer)->secret, Key{});
  EXPECT_EQ((*peer)->name, "web-1");
  EXPECT_EQ((*back)->name, "web-0");
  EXPECT_EQ((*peer)->type, CertificateType);
  EXPECT_EQ((*peer)->hash, there->hash(CertificateType));
  EXPECT_EQ((*peer)->hash, credential_hash(CertificateType, (*peer)->credential));
  EXPECT_TRUE(equal((*peer)->credential, there->credential(CertificateType)));
  EXPECT_FALSE((*peer)->constraints.limited());
}

TEST_F(TrustTest, SaysWhatItOffers) {
  const auto trust = load(material());
  EXPECT_EQ(trust->offered(), CredentialType::certificate);
  EXPECT_TRUE(trust->has(CredentialType::local));
  EXPECT_FALSE(trust->has(CredentialType::psk));
  EXPECT_TRUE(trust->credential(CredentialType::psk).empty());
  EXPECT_EQ(trust->description(), "certificate of web-0 by CN=fleet, until 2027-01-01");
  EXPECT_EQ(trust->expires(), day(2027, 1, 1) - std::chrono::hours(12));
}

TEST_F(TrustTest, RefusesOtherAuthorities) {
  TestAuthority other("CN=other");
  TestAuthority impostor("CN=fleet");
  EXPECT_EQ(judge(leaf()), kTrusted);
  EXPECT_EQ(judge(other.issue({}, key_)), kUntrusted);
  EXPECT_EQ(judge(impostor.issue({}, key_)), kUntrusted);
  EXPECT_FALSE(trust_->plausible(CertificateType, other.issue({}, key_)));
  EXPECT_TRUE(trust_->plausible(CertificateType, impostor.issue({}, key_)));
}

TEST_F(TrustTest, HoldsBothAuthoritiesDuringARotation) {
  TestAuthority next("CN=fleet 2");
  TestAuthority renamed("CN=fleet");  // the same name, another key
  TrustMaterial both = material();
  both.authorities.push_back(file("next.pem", next.certificate));
  both.authorities.push_back(file("renamed.pem", renamed.certificate));
  const auto trust = load(both);
  for (TestAuthority* authority : {&authority_, &next, &renamed}) {
    EXPECT_EQ(judge(*trust, authority->issue({}, key_)), kTrusted);
  }
}

TEST_F(TrustTest, BelievesIntermediatesThatAreListed) {
  CertificateSpec spec = TestAuthority::spec("CN=fleet east");
  TestAuthority intermediate(spec, authority_);
  EXPECT_EQ(judge(intermediate.issue({}, key_)), kUntrusted);
  TrustMaterial both = material();
  both.authorities.push_back(file("east.pem", intermediate.certificate));
  EXPECT_EQ(judge(*load(both), intermediate.issue({}, key_)), kTrusted);
}

TEST_F(TrustTest, DatesHaveFiveMinutesOfLeeway) {
  const Der der = leaf({.from = "20260601100000", .to = "20260615120000"});
  const Time from = day(2026, 6, 1) - std::chrono::hours(2);
  const Time to = day(2026, 6, 15);
  EXPECT_EQ(judge(der, from - minutes(5)), kTrusted);
  EXPECT_EQ(judge(der, from - minutes(5) - seconds(1)), kExpired);
  EXPECT_EQ(judge(der, to + minutes(5)), kTrusted);
  EXPECT_EQ(judge(der, to + minutes(5) + seconds(1)), kExpired);
  const auto peer = trust_->verify(CertificateType, der, now());
  ASSERT_TRUE(peer);
  EXPECT_EQ((*peer)->not_before, from - minutes(5));
  EXPECT_EQ((*peer)->not_after, to + minutes(5));
}

TEST_F(TrustTest, DatesOfTheAuthorityCountToo) {
  const Der der = leaf({.from = "20200101000000", .to = "20400101000000"});
  EXPECT_EQ(judge(der), kTrusted);
  const auto peer = trust_->verify(CertificateType, der, now());
  EXPECT_EQ((*peer)->not_after, day(2035, 1, 1) - std::chrono::hours(12) + minutes(5));
  EXPECT_EQ((*peer)->not_before, day(2025, 1, 1) - std::chrono::hours(12) - minutes(5));
  EXPECT_EQ(judge(der, day(2035, 1, 2)), kExpired);
  EXPECT_EQ(judge(der, day(2024, 12, 30)), kExpired);
}

TEST_F(TrustTest, DatesBeyondTheClockAreClamped) {
  EXPECT_EQ(judge(leaf({.from = "19500101000000", .to = "99991231235959"})), kTrusted);
}

TEST_F(TrustTest, ALeafIsNoAuthority) {
  EXPECT_EQ(judge(authority_.certificate), kMalformed);  // it contains no host name
  EXPECT_EQ(judge(leaf({.authority = true})), kUsage);
  // A leaf cannot sign either.
  TestKey deeper;
  const Der forged = make_certificate({.subject = "CN=db", .extensions = {san(dns("db"))}}, deeper,
                                      "CN=web-1", key_);
  EXPECT_EQ(judge(forged), kUntrusted);
}

TEST_F(TrustTest, Usage) {
  const auto with = [this](std::optional<unsigned> usage, const Der& extended) {
    CertificateSpec spec{.usage = usage};
    if (!extended.empty()) {
      spec.extensions.push_back(extended_usage(extended));
    }
    return judge(leaf(spec));
  };
  EXPECT_EQ(with({}, {}), kTrusted);
  EXPECT_EQ(with(MBEDTLS_X509_KU_DIGITAL_SIGNATURE, kClientAuth + kServerAuth), kTrusted);
  EXPECT_EQ(with(MBEDTLS_X509_KU_KEY_AGREEMENT, kServerAuth), kTrusted);
  EXPECT_EQ(with(MBEDTLS_X509_KU_DIGITAL_SIGNATURE | MBEDTLS_X509_KU_KEY_ENCIPHERMENT, kClientAuth),
            kTrusted);
  EXPECT_EQ(with(MBEDTLS_X509_KU_KEY_ENCIPHERMENT, {}), kUsage);
  EXPECT_EQ(with(MBEDTLS_X509_KU_KEY_CERT_SIGN, {}), kUsage);
  EXPECT_EQ(with({}, kCodeSigning), kUsage);
  EXPECT_EQ(with({}, kCodeSigning + kClientAuth), kTrusted);
}

TEST_F(TrustTest, RefusesOtherKeysAndVersions) {
  TestKey p384(MBEDTLS_ECP_DP_SECP384R1);
  TestKey koblitz(MBEDTLS_ECP_DP_SECP256K1);
  TestKey rsa(TestKey::kRsa2048);
  EXPECT_EQ(judge(authority_.issue({}, p384)), kMalformed);
  EXPECT_EQ(judge(authority_.issue({}, koblitz)), kMalformed);
  EXPECT_EQ(judge(authority_.issue({}, rsa)), kMalformed);
  EXPECT_EQ(judge(make_certificate({}, key_, "CN=fleet", rsa)), kUntrusted);
  EXPECT_EQ(judge(leaf({.version = MBEDTLS_X509_CRT_VERSION_1, .extensions = {}})), kMalformed);
  EXPECT_EQ(judge(leaf({.hash = MBEDTLS_MD_SHA1})), kUntrusted);
  EXPECT_EQ(judge(leaf({.hash = MBEDTLS_MD_SHA512})), kTrusted);
}

TEST_F(TrustTest, RefusesCriticalExtensionsThatNobodyKnows) {
  const Der oid = from_hex("2a0304");
  EXPECT_EQ(judge(leaf({.extensions = {san(dns("web-1")), {oid, false, {5, 0}}}})), kTrusted);
  EXPECT_EQ(judge(leaf({.extensions = {san(dns("web-1")), {oid, true, {5, 0}}}})), kMalformed);
}

TEST_F(TrustTest, NamesComeFromTheAlternativeName) {
  const auto name = [this](const Der& names) {
    const Der der = leaf({.extensions = {san(names)}});
    const std::string outcome = judge(der);
    return outcome == kTrusted ? trust_->verify(CertificateType, der, now()).value()->name
                               : outcome;
  };
  EXPECT_EQ(name(dns("db-7.example.org")), "db-7.example.org");
  EXPECT_EQ(name(uri("spiffe://fleet/host/db-7")), "spiffe://fleet/host/db-7");
  EXPECT_EQ(name(uri("spiffe://fleet/host/db-7") + dns("db-7")), "db-7");
  EXPECT_EQ(name(uri("https://example.org") + uri("spiffe://fleet/a") + uri("spiffe://fleet/b")),
            "spiffe://fleet/a");
  EXPECT_EQ(name(element(0x87, "\x7f\x01\x01\x01") + element(0x81, "a@b") + dns("db-7")), "db-7");
  EXPECT_EQ(name(dns("bad\x1b[1m")), kMalformed);
  EXPECT_EQ(name(dns("two words")), kMalformed);
  EXPECT_EQ(name(dns(std::string_view("db\0x", 4))), kMalformed);
  EXPECT_EQ(name(dns("")), kMalformed);
  EXPECT_EQ(name(uri("spiffe://")), kMalformed);
  EXPECT_EQ(name(uri("https://example.org")), kMalformed);
  EXPECT_EQ(judge(leaf({.extensions = {}})), kMalformed);
}

TEST_F(TrustTest, LabelConstraints) {
  const auto set = [](const std::string& encoded) {
    return policy::LabelSet::decode(encoded).value();
  };
  const auto limited = constraints({labels({"app=web*", "env=dev"})});
  ASSERT_TRUE(limited);
  EXPECT_TRUE(limited->limited());
  EXPECT_THAT(limited->patterns(),
              ElementsAre(policy::Label{"app", "web*"}, policy::Label{"env", "dev"}));
  EXPECT_TRUE(limited->permit(set("app=web-2\nenv=dev\n")));
  EXPECT_TRUE(limited->permit({}));
  EXPECT_FALSE(limited->permit(set("app=db\nenv=dev\n")));
  EXPECT_FALSE(limited->permit(set("app=web\nteam=a\n")));
  EXPECT_FALSE(limited->permit(set("env=development\n")));

  const auto nothing = constraints({labels({})});
  ASSERT_TRUE(nothing);
  EXPECT_TRUE(nothing->limited());
  EXPECT_TRUE(nothing->permit({}));
  EXPECT_FALSE(nothing->permit(set("app=web\n")));
  EXPECT_TRUE(constraints({})->permit(set("app=web\n")));
  EXPECT_FALSE(constraints({labels({"app=web"}, true)})
                   ->permit(set("app=db\n")));  // a critical extension is accepted too

  for (const std::string bad : {"app", "*", "app*=x", "app=w*b", "app=a b", "=x", ""}) {
    EXPECT_FALSE(constraints({labels({"env=dev", bad})})) << bad;
  }
  EXPECT_FALSE(constraints({{kLabelsExtension, false, from_hex("3005130361")}}));  // truncated
  EXPECT_FALSE(constraints(
      {{kLabelsExtension, false, from_hex("3005") + element(0x13, "a=b")}}));  // a PrintableString
  EXPECT_FALSE(constraints(
      {{kLabelsExtension, false, element(0x30, element(0x0C, "a=b")) + Der{0}}}));  // trailing
  EXPECT_FALSE(constraints({{kLabelsExtension, false, {}}}));
}

TEST_F(TrustTest, LabelConstraintsOfTheFirstVersion) {
  const auto patterns =
      [this](
          const std::vector<Extension>& extensions) -> std::optional<std::vector<policy::Label>> {
    const auto limits = constraints(extensions);
    return limits ? std::optional(limits->patterns()) : std::nullopt;
  };
  const Extension now = labels({"app=web"});
  const Extension former = labels({"app=web"}, false, kFormerLabelsExtension);
  const std::vector<policy::Label> web = {{"app", "web"}};
  EXPECT_EQ(patterns({former}), web);
  EXPECT_EQ(patterns({former, now}), web);
  EXPECT_EQ(patterns({now, former}), web);
  EXPECT_FALSE(patterns({now, labels({"app=db"}, false, kFormerLabelsExtension)}));
  EXPECT_FALSE(patterns({labels({}, false, kFormerLabelsExtension), now}));
}

TEST_F(TrustTest, RevokedByCertificate) {
  const Der bad = leaf({.subject = "CN=stolen"});
  TrustMaterial with = material();
  with.revoked = {file("old.pem", bad)};
  const auto trust = load(with);
  EXPECT_EQ(judge(*trust, leaf()), kTrusted);
  EXPECT_EQ(judge(*trust, bad), kRevoked);
}

// (r, s) and (r, n - s) are both valid signatures, so the owner of a certificate can encode it in
// another way. Revocation must cover that encoding too.
TEST_F(TrustTest, RevokedHoweverTheSignatureIsWritten) {
  const Der bad = leaf();
  mbedtls_x509_crt parsed;
  mbedtls_x509_crt_init(&parsed);
  ASSERT_EQ(mbedtls_x509_crt_parse_der(&parsed, bad.data(), bad.size()), 0);
  unsigned char* at = parsed.sig.p;
  const unsigned char* end = at + parsed.sig.len;
  std::size_t size = 0;
  mbedtls_mpi r;
  mbedtls_mpi s;
  mbedtls_mpi_init(&r);
  mbedtls_mpi_init(&s);
  ASSERT_EQ(mbedtls_asn1_get_tag(&at, end, &size, 0x30), 0);
  ASSERT_EQ(mbedtls_asn1_get_mpi(&at, end, &r), 0);
  ASSERT_EQ(mbedtls_asn1_get_mpi(&at, end, &s), 0);
  ASSERT_EQ(mbedtls_mpi_sub_mpi(&s, &mbedtls_pk_ec(*key_.get())->grp.N, &s), 0);
  const auto integer = [](const mbedtls_mpi& value) {
    Der content(mbedtls_mpi_size(&value) + 1);
    EXPECT_EQ(mbedtls_mpi_write_binary(&value, content.data(), content.size()), 0);
    return element(0x02, content[1] < 0x80 ? Der(content.begin() + 1, content.end()) : content);
  };
  const Der signature = element(0x03, Der{0} + element(0x30, integer(r) + integer(s)));
  const Der body(parsed.tbs.p, parsed.tbs.p + parsed.tbs.len);
  // Between the body and the signature, whose tag, length and count of unused bits are 3 bytes.
  const Der algorithm(parsed.tbs.p + parsed.tbs.len, parsed.sig.p - 3);
  const Der other = element(0x30, body + algorithm + signature);
  mbedtls_mpi_free(&r);
  mbedtls_mpi_free(&s);
  mbedtls_x509_crt_free(&parsed);

  ASSERT_NE(other, bad);
  EXPECT_EQ(judge(other), kTrusted);
  TrustMaterial with = material();
  with.revoked = {file("old.pem", bad)};
  EXPECT_EQ(judge(*load(with), other), kRevoked);
}

TEST_F(TrustTest, RevokedByList) {
  // RFC 5280, section 5.1: version 2, serial 22, by CN=fleet.
  const auto list = [](TestAuthority& authority, const std::string& next_update) {
    const Der algorithm = from_hex("300a06082a8648ce3d040302");
    const Der issuer =
        element(0x30, element(0x31, element(0x30, from_hex("0603550403") +
                                                      element(0x0C, authority.subject.substr(3)))));
    const Der entry = element(0x30, element(0x02, Der{0x22}) + element(0x17, "260601000000Z"));
    const Der body =
        element(0x30, element(0x02, Der{1}) + algorithm + issuer + element(0x17, "260601000000Z") +
                          element(0x17, next_update) + element(0x30, entry));
    return element(0x30, body + algorithm + element(0x03, Der{0} + authority.key.sign(body)));
  };
  TestAuthority next("CN=fleet 2");
  for (const std::string next_update :
       {"270601000000Z", "260602000000Z"}) {  // an outdated list is used too
    TrustMaterial with = material();
    with.authorities.push_back(file("next.pem", next.certificate));
    with.revoked = {file("ca.crl", list(authority_, next_update))};
    const auto trust = load(with);
    ASSERT_TRUE(trust);
    EXPECT_EQ(judge(*trust, leaf({.serial = "22"})), kRevoked);
    EXPECT_EQ(judge(*trust, leaf({.serial = "2200"})), kTrusted);
    EXPECT_EQ(judge(*trust, next.issue({.serial = "22"}, key_)),
              kTrusted);  // the serial of another CA
  }
  TestAuthority impostor("CN=fleet");
  TrustMaterial with = material();
  with.revoked = {file("ca.crl", list(impostor, "270601000000Z"))};
  EXPECT_THAT(problems(with),
              ElementsAre("'ca.crl' is a revocation list that is not signed by any CA in 'ca'"));
}

TEST_F(TrustTest, NoFlippedBitIsBelieved) {
  Der der = leaf({.extensions = {san(dns("web-1")), labels({"app=web*"})}});
  ASSERT_EQ(judge(der), kTrusted);
  for (std::size_t bit = 0; bit < 8 * der.size();
       bit += 3) {  // 3 and 8 are coprime: every bit position is tested
    der[bit / 8] ^= static_cast<std::uint8_t>(1U << (bit % 8));
    EXPECT_NE(judge(der), kTrusted) << "bit " << bit;
    der[bit / 8] ^= static_cast<std::uint8_t>(1U << (bit % 8));
  }
  EXPECT_EQ(judge(der), kTrusted);
}

TEST_F(TrustTest, RefusesTruncatedAndTrailingBytes) {
  const Der der = leaf();
  EXPECT_EQ(judge({}), kMalformed);
  for (std::size_t size = 0; size < der.size(); ++size) {
    EXPECT_EQ(judge(Der(der.begin(), der.begin() + static_cast<std::ptrdiff_t>(size))), kMalformed)
        << size;
  }
  EXPECT_EQ(judge(der + Der{0}), kMalformed);
  EXPECT_EQ(judge(der + der), kMalformed);
  EXPECT_EQ(judge(Der(5000, 0x30)), kMalformed);
  EXPECT_FALSE(trust_->plausible(CertificateType, der + Der{0}));
  EXPECT_FALSE(trust_->plausible(CertificateType, {}));
}

TEST_F(TrustTest, ThreadsMayVerifyAtOnce) {
  trust_ = load(material());
  const Der der = leaf();
  std::vector<std::thread> threads;
  std::vector<Key> secrets(4);
  for (Key& secret : secrets) {
    threads.emplace_back([&] {
      for (int round = 0; round < 5; ++round) {
        secret = trust_->verify(CertificateType, der, now()).value()->secret;
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(secrets, std::vector<Key>(4, secrets.front()));
}

TEST(TrustLocal, IsThisDaemonAlone) {
  const auto trust = Trust::local().value();
  const auto other = Trust::local().value();
  EXPECT_FALSE(trust->offered());
  EXPECT_FALSE(trust->has(CredentialType::certificate));
  EXPECT_EQ(trust->description(), "this host only");
  EXPECT_EQ(trust->expires(), Time::max());
  const Bytes own = trust->credential(CredentialType::local);
  EXPECT_EQ(own.size(), 16U);
  const auto peer = trust->verify(CredentialType::local, own, now());
  ASSERT_TRUE(peer);
  EXPECT_EQ((*peer)->name, "this host");
  EXPECT_TRUE(trust->plausible(CredentialType::local, own));
  EXPECT_FALSE(other->plausible(CredentialType::local, own));
  EXPECT_EQ(other->verify(CredentialType::local, own, now()).error(), Distrust::untrusted);
  EXPECT_EQ(trust->verify(CredentialType::local, own.first(15), now()).error(),
            Distrust::malformed);
  EXPECT_EQ(trust->verify(CredentialType::psk, as_bytes("12345678web"), now()).error(),
            Distrust::unknown_type);
  EXPECT_EQ(trust->verify(CredentialType::certificate, as_bytes("x"), now()).error(),
            Distrust::unknown_type);
  EXPECT_EQ(trust->verify(static_cast<CredentialType>(0), as_bytes("x"), now()).error(),
            Distrust::unknown_type);
  EXPECT_EQ(trust->verify(static_cast<CredentialType>(77), as_bytes("x"), now()).error(),
            Distrust::unknown_type);
}

TEST(TrustLocal, GoesOnAcrossLoads) {
  const auto first = Trust::local().value();
  const auto second = Trust::load({}, first, now()).value();
  EXPECT_TRUE(
      equal(first->credential(CredentialType::local), second->credential(CredentialType::local)));
}

const std::string kFirst = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";       // 0, 1, ... 31
const std::string kSecond = "/////////////////////////////////////////////w==";  // 34 times 255

TrustMaterial secrets(const std::string& content, const std::string& host = "web-0") {
  TrustMaterial material;
  material.host_name = host;
  material.psk = file("psk", content);
  return material;
}

TEST(TrustSecret, IsNamedByItsHash) {
  const auto trust = Trust::load(secrets(kFirst + "\n"), nullptr, now()).value();
  EXPECT_EQ(trust->offered(), CredentialType::psk);
  // SHA-256("trireme v2 psk" . 00 01 .. 1f), computed with OpenSSL.
  EXPECT_EQ(to_hex(trust->credential(CredentialType::psk)),
            "269c8b9de5aebed4" + to_hex(as_bytes("web-0")));
  EXPECT_EQ(trust->description(), "shared secret 269c8b9de5aebed4 of web-0, 1 accepted");
  const auto peer = trust->verify(CredentialType::psk,
                                  from_hex("269c8b9de5aebed4" + to_hex(as_bytes("db"))), now());
  ASSERT_TRUE(peer);
  EXPECT_EQ((*peer)->name, "db");
  EXPECT_EQ(to_hex((*peer)->secret),
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
  EXPECT_FALSE((*peer)->constraints.limited());
  EXPECT_LT((*peer)->not_before, now());
  EXPECT_GT((*peer)->not_after, now());
}

TEST(TrustSecret, ALongOneIsHashed) {
  const auto trust = Trust::load(secrets(kSecond), nullptr, now()).value();
  const auto peer =
      trust->verify(CredentialType::psk, trust->credential(CredentialType::psk), now());
  EXPECT_EQ((*peer)->secret, sha256({Der(34, 0xFF)}));
}

TEST(TrustSecret, RotatesWithoutAGap) {
  const auto old_only = Trust::load(secrets(kFirst), nullptr, now()).value();
  const auto both = Trust::load(secrets(kFirst + "\n" + kSecond + "\n"), nullptr, now()).value();
  const auto swapped = Trust::load(secrets(kSecond + "\r\n\n" + kFirst), nullptr, now()).value();
  const auto new_only = Trust::load(secrets(kSecond), nullptr, now()).value();
  const auto meets = [](const Trust& client, const Trust& server) {
    const Bytes offered = client.credential(CredentialType::psk);
    EXPECT_EQ(server.plausible(CredentialType::psk, offered),
              server.verify(CredentialType::psk, offered, now()).has_value());
    return server.plausible(CredentialType::psk, offered);
  };
  EXPECT_TRUE(meets(*old_only, *both) && meets(*both, *old_only));
  EXPECT_TRUE(meets(*both, *swapped) && meets(*swapped, *both));
  EXPECT_TRUE(meets(*swapped, *new_only) && meets(*new_only, *swapped));
  EXPECT_FALSE(meets(*old_only, *new_only));
  EXPECT_EQ(new_only->verify(CredentialType::psk, old_only->credential(CredentialType::psk), now())
                .error(),
            Distrust::untrusted);
}

TEST_F(TrustTest, TellsOfItsOwnCertificatesDates) {
  struct Case {
    const char* from;
    const char* to;
    Time at;
    const char* message;
  };
  const Case cases[] = {
      // Thirty days before.
      {"20260101000000", "20270101000000", day(2026, 12, 1), ""},
      {"20260101000000", "20270101000000", day(2026, 12, 3), "expires soon"},
      // A third of the lifetime, if that is less: 3 of 9 days.
      {"20260601000000", "20260610000000", day(2026, 6, 6), ""},
      {"20260601000000", "20260610000000", day(2026, 6, 7), "expires soon"},
      {"20260601000000", "20260610000000", day(2026, 6, 10), "has expired"},
      {"20260601000000", "20260610000000", day(2026, 5, 31), "is not valid before"},
  };
  for (const Case& each : cases) {
    TrustMaterial own = material();
    CertificateSpec spec{.subject = "CN=web-0", .extensions = {san(dns("web-0"))}};
    spec.from = each.from;
    spec.to = each.to;
    own.certificate = file("host.pem", authority_.issue(spec, own_key_));
    const auto doubt = load(own)->doubt(each.at);
    EXPECT_EQ(doubt.has_value(), *each.message != '\0') << each.to << " " << each.message;
    EXPECT_TRUE(!doubt || doubt->message.find(each.message) != std::string::npos) << doubt->message;
  }
}

TEST(TrustSecret, HasNoDates) {
  EXPECT_FALSE(Trust::load(secrets(kFirst), nullptr, now()).value()->doubt(now()));
}

TEST(TrustSecret, RefusesNamesThatCannotBe) {
  const auto trust = Trust::load(secrets(kFirst), nullptr, now()).value();
  const Der name = from_hex("269c8b9de5aebed4");
  const auto error = [&](const Der& credential) {
    return trust->verify(CredentialType::psk, credential, now()).error();
  };
  EXPECT_EQ(error(name), Distrust::malformed);
  EXPECT_EQ(error({}), Distrust::malformed);
  EXPECT_EQ(error(name + Der(65, 'a')), Distrust::malformed);
  EXPECT_TRUE(trust->verify(CredentialType::psk, name + Der(64, 'a'), now()));
  EXPECT_EQ(error(name + Der{'a', 0}), Distrust::malformed);
  EXPECT_EQ(error(Der(8, 0) + Der{'a'}), Distrust::untrusted);
}

}  // namespace
}  // namespace trireme::credentials
