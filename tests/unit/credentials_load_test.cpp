// SPDX-License-Identifier: Apache-2.0
// Trust::load(): the problems that it reports for invalid files.
#include <gmock/gmock.h>

#include "credentials_support.hpp"

namespace trireme::credentials {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

class LoadTrust : public testing::Test {
 protected:
  [[nodiscard]] TrustMaterial material(const CertificateSpec& spec = {}) {
    TrustMaterial material;
    material.host_name = "web-1";
    material.certificate = file("host.pem", authority_.issue(spec, key_));
    material.key = file("host.key", key_.pem());
    material.authorities = {file("ca.pem", authority_.certificate)};
    return material;
  }
  TestAuthority authority_;
  TestKey key_;
};

std::string pem(const Der& der) {
  std::string text(4096, '\0');
  std::size_t size = 0;
  EXPECT_EQ(mbedtls_pem_write_buffer(
                "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n", der.data(),
                der.size(), reinterpret_cast<unsigned char*>(text.data()), text.size(), &size),
            0);
  text.resize(size - 1);
  return text;
}

TEST_F(LoadTrust, TakesPemAndDerAndSeveralInAFile) {
  EXPECT_THAT(problems(material()), IsEmpty());
  TestAuthority other("CN=other");
  TrustMaterial with = material();
  const Der own(with.certificate.content.begin(), with.certificate.content.end());
  with.authorities = {
      file("all.pem", "# both\n" + pem(other.certificate) + "\n" + pem(authority_.certificate))};
  with.certificate = file("chain.pem", pem(own) + pem(authority_.certificate));
  EXPECT_THAT(problems(with), IsEmpty());
  const auto trust = Trust::load(with, nullptr, now()).value();
  TestKey peer;
  EXPECT_TRUE(trust->verify(CredentialType::certificate, other.issue({}, peer), now()));
}

TEST_F(LoadTrust, ReportsEveryProblemAndWhoseItIs) {
  TestKey other;
  TestAuthority stranger("CN=stranger");
  TrustMaterial bad = material(
      {.from = "20250101000000", .to = "20260601000000", .usage = MBEDTLS_X509_KU_KEY_CERT_SIGN});
  bad.key = file("host.key", other.pem());
  bad.authorities = {file("stranger.pem", stranger.certificate), file("junk.pem", "junk")};
  bad.revoked = {file("gone.pem", "-----BEGIN NOTHING-----")};
  const auto loaded = Trust::load(bad, nullptr, now());
  ASSERT_FALSE(loaded);
  std::vector<std::string> paths;
  for (const auto& problem : loaded.error()) {
    paths.push_back(problem.path);
  }
  EXPECT_THAT(paths, ElementsAre("junk.pem", "gone.pem", "host.pem", "host.key", "host.pem"));
  EXPECT_THAT(
      problems(bad),
      ElementsAre(
          HasSubstr("'junk.pem' contains an invalid certificate: X509"),
          "'gone.pem' contains neither a certificate nor a revocation list; expected PEM or DER",
          HasSubstr("'host.pem' is not valid for client or server authentication"),
          "'host.key' is not the key of 'host.pem'",
          "'host.pem' is not signed by any CA in 'ca'; list the CA that issued it, even if it is "
          "an intermediate CA"));
}

TEST_F(LoadTrust, TheHostsOwnCertificate) {
  EXPECT_THAT(problems(material({.extensions = {}})),
              ElementsAre(HasSubstr("'host.pem' contains no host name")));
  EXPECT_THAT(problems(material({.extensions = {san(dns("a")), labels({"*"})}})),
              ElementsAre(HasSubstr("has invalid label constraints")));
  EXPECT_THAT(problems(material({.version = MBEDTLS_X509_CRT_VERSION_1, .extensions = {}})),
              ElementsAre("'host.pem' is an X.509 certificate of version 1, not 3",
                          HasSubstr("contains no host name")));
  TrustMaterial authority = material();
  authority.certificate = authority.authorities.front();
  authority.key = file("ca.key", authority_.key.pem());
  EXPECT_THAT(problems(authority),
              ElementsAre(HasSubstr("contains no host name"),
                          HasSubstr("is a CA certificate, not a host certificate"),
                          HasSubstr("is not valid for client or server authentication")));
  TrustMaterial revoked = material();
  revoked.revoked = {revoked.certificate};
  EXPECT_THAT(problems(revoked), ElementsAre("'host.pem' is revoked"));
}

/// A host whose certificate has expired, or whose clock is wrong at boot, must still enforce policy
/// on its own workloads, so dates are not errors.
TEST_F(LoadTrust, DatesAreDoubtsAndNoProblems) {
  const auto doubt = [](const TrustMaterial& with, Time at) {
    const auto trust = Trust::load(with, nullptr, at).value();
    const auto found = trust->doubt(at);
    return std::pair(trust->is_current(at), found ? found->text() : "");
  };
  const TrustMaterial host = material({.from = "20260101000000", .to = "20260601000000"});
  EXPECT_EQ(doubt(host, day(2026, 3, 1)), std::pair(true, std::string()));
  EXPECT_EQ(
      doubt(host, day(2026, 5, 20)),
      std::pair(true,
                std::string("the certificate of web-1 by CN=fleet, until 2026-06-01, expires soon; "
                            "issue a new one with trirectl pki issue")));
  EXPECT_EQ(doubt(host, day(2026, 6, 2)),
            std::pair(false, std::string("the certificate of web-1 by CN=fleet, until 2026-06-01, "
                                         "has expired: no connections to or from remote hosts; "
                                         "issue a new one with trirectl pki issue")));
  EXPECT_THAT(doubt(host, day(2025, 12, 1)),
              testing::Pair(false, HasSubstr("is not valid before 2026-01-01")));
  EXPECT_THAT(doubt(material({.from = "20200101000000", .to = "20400101000000"}), day(2036, 1, 1)),
              testing::Pair(false, HasSubstr("until 2035-01-01, has expired")));
}

TEST_F(LoadTrust, TheSameFilesAreTheSameTrust) {
  const TrustMaterial first = material();
  const auto trust = Trust::load(first, nullptr, now()).value();
  EXPECT_EQ(Trust::load(first, trust, now()).value(), trust);
  TrustMaterial other = first;
  other.host_labels = policy::LabelSet::decode("zone=eu-1\n").value();
  EXPECT_NE(Trust::load(other, trust, now()).value(), trust);
  other = first;
  other.authorities.push_back(file("other.pem", TestAuthority("CN=other").certificate));
  EXPECT_NE(Trust::load(other, trust, now()).value(), trust);
  other = first;
  other.revoked.push_back(file("gone.pem", authority_.issue({.serial = "77"}, key_)));
  EXPECT_NE(Trust::load(other, trust, now()).value(), trust);
}

TEST_F(LoadTrust, LabelsHaveTheRoomThatTheCredentialLeaves) {
  const auto trust = Trust::load(material(), nullptr, now()).value();
  const std::size_t certificate = trust->credential(CredentialType::certificate).size();
  EXPECT_EQ(wire::reply_size(certificate, wire::kReplyStart + room_for_labels(*trust)),
            wire::kMaxToken);
  EXPECT_EQ(wire::reply_size(16, wire::kReplyStart + room_for_labels(*Trust::local().value())),
            wire::kMaxToken);
}

TEST_F(LoadTrust, MustVouchForTheHostsLabels) {
  TrustMaterial with = material({.extensions = {san(dns("web-1")), labels({"app=web*"})}});
  with.host_labels = policy::LabelSet::decode("zone=eu-1\n").value();
  EXPECT_THAT(
      problems(with),
      ElementsAre(HasSubstr("'host.pem' does not vouch for the labels of [host]: zone=eu-1")));
  with = material({.extensions = {san(dns("web-1")), labels({"zone=eu-*"})}});
  with.host_labels = policy::LabelSet::decode("zone=eu-1\n").value();
  EXPECT_THAT(problems(with), IsEmpty());
}

TEST_F(LoadTrust, RsaDoesNotFitATokenAndOtherCurvesAreNone) {
  TestKey rsa(TestKey::kRsa2048);
  TestKey p384(MBEDTLS_ECP_DP_SECP384R1);
  TrustMaterial with = material();
  with.authorities.push_back(
      file("rsa.pem", make_certificate(TestAuthority::spec("CN=rsa"), rsa, "CN=rsa", rsa)));
  with.authorities.push_back(
      file("p384.pem", make_certificate(TestAuthority::spec("CN=p384"), p384, "CN=p384", p384)));
  EXPECT_THAT(
      problems(with),
      ElementsAre(
          AllOf(HasSubstr("'rsa.pem' is a CA with a key of type RSA-2048, not P-256"),
                HasSubstr("1180 bytes"), HasSubstr("1,121"), HasSubstr("trirectl pki init")),
          HasSubstr("'p384.pem' is a CA with a key of type secp384r1")));
  with = material();
  with.certificate = file("host.pem", make_certificate({}, key_, "CN=fleet", rsa));
  EXPECT_THAT(problems(with), ElementsAre(AllOf(HasSubstr("'host.pem' is signed with RSA and has "),
                                                HasSubstr("a token has room for 1180"))));
  with.certificate = file("host.pem", authority_.issue({}, rsa));
  with.key = file("host.key", rsa.pem());
  EXPECT_THAT(problems(with),
              UnorderedElementsAre(HasSubstr("'host.key' contains a key that is not P-256"),
                                   HasSubstr("'host.pem' has a key of type RSA-2048, not P-256")));
}

TEST_F(LoadTrust, AuthoritiesMustBeSome) {
  TrustMaterial with = material();
  TestKey other;
  with.authorities.push_back(file("leaf.pem", authority_.issue({.subject = "CN=db"}, other)));
  CertificateSpec limited = TestAuthority::spec("CN=limited");
  limited.extensions = {labels({"app=web"})};
  with.authorities.push_back(
      file("limited.pem", make_certificate(limited, other, "CN=limited", other)));
  with.authorities.push_back(file("empty.pem", ""));
  EXPECT_THAT(
      problems(with),
      ElementsAre(HasSubstr("'leaf.pem' contains a certificate of 'CN=db', which is not a CA"),
                  HasSubstr("'limited.pem' is a CA certificate with label constraints"),
                  HasSubstr("'empty.pem' contains no certificate")));
  TestAuthority old("CN=old");
  CertificateSpec expired = TestAuthority::spec("CN=old");
  expired.to = "20260101000000";
  with = material();
  with.authorities.push_back(
      file("old.pem", make_certificate(expired, old.key, "CN=old", old.key)));
  EXPECT_THAT(problems(with), IsEmpty());
}

TEST_F(LoadTrust, LeavesRoomForLabels) {
  const auto sized = [this](std::size_t name) {
    return material({.extensions = {san(dns(std::string(name, 'a')))}});
  };
  const std::size_t overhead = sized(200).certificate.content.size() - 200;
  const auto limit = wire::kMaxToken - wire::reply_size(0, wire::kReplyStart);
  // The size of a signature varies by a few bytes.
  EXPECT_THAT(problems(sized(limit - 64 - overhead - 6)), IsEmpty());
  EXPECT_THAT(
      problems(sized(limit - 64 - overhead + 6)),
      ElementsAre(AllOf(HasSubstr("'host.pem' does not fit a token: the credential has 10"),
                        HasSubstr("together can have at most 1105 bytes, of which 64 are reserved "
                                  "for labels; the labels of [host] have 0 bytes"))));
  TrustMaterial with = sized(limit - 200 - overhead + 6);
  EXPECT_THAT(problems(with), IsEmpty());
  with.host_labels = policy::LabelSet::decode("zone=" + std::string(193, 'a') + "\n").value();
  EXPECT_THAT(problems(with), ElementsAre(HasSubstr("the labels of [host] have 200 bytes")));
}

TEST_F(LoadTrust, Keys) {
  TrustMaterial with = material();
  with.key.content = "junk";
  EXPECT_THAT(problems(with), ElementsAre(HasSubstr("'host.key' contains no private key: ")));
  with.key.content =
      "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: "
      "AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\n"
      "AAAA\n-----END EC PRIVATE KEY-----\n";
  EXPECT_THAT(problems(with), ElementsAre(HasSubstr("'host.key' is encrypted")));
  TestKey p384(MBEDTLS_ECP_DP_SECP384R1);
  with.key.content = p384.pem();
  EXPECT_THAT(problems(with),
              ElementsAre(HasSubstr("'host.key' contains a key that is not P-256")));
}

TEST(LoadSecrets, EachLineIsASecretOrAProblem) {
  TrustMaterial material;
  material.host_name = "web-1";
  const auto say = [&](const std::string& content) {
    material.psk = file("psk", content);
    return problems(material);
  };
  const std::string good = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
  EXPECT_THAT(say(good), IsEmpty());
  EXPECT_THAT(say(good + "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==\nno base64!\n"),
              ElementsAre("'psk' line 2 has 31 bytes; a secret needs at least 32; create a secret "
                          "with trirectl pki psk",
                          HasSubstr("'psk' line 3 is not base64")));
  EXPECT_THAT(say(""), ElementsAre("'psk' contains no secret; create one with trirectl pki psk"));
  EXPECT_THAT(say("\n \n"),
              ElementsAre("'psk' contains no secret; create one with trirectl pki psk"));
  std::string many;
  for (int i = 0; i < 17; ++i) {
    many += good;
  }
  EXPECT_THAT(say(many), ElementsAre("'psk' contains 17 secrets; at most 16 are accepted"));
  material.host_name = std::string(65, 'a');
  EXPECT_THAT(say(good), ElementsAre(HasSubstr("requires a host name of 1 to 64 bytes")));
}

}  // namespace
}  // namespace trireme::credentials
