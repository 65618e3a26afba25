// SPDX-License-Identifier: Apache-2.0
// The output of `trirectl pki`, checked with Trust and with OpenSSL.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>

#include "credentials_support.hpp"
#include "trireme/base/file.hpp"
#include "trireme/credentials/pki.hpp"

namespace trireme::credentials {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class Pki : public testing::Test {
 protected:
  void SetUp() override {
    auto made = make_authority("fleet.example.org", now(), test_random());
    ASSERT_TRUE(made) << made.error().text();
    authority_ = file("ca.pem", made->certificate);
    authority_key_ = file("ca.key", made->key);
  }
  [[nodiscard]] Result<Issued> issue(const HostRequest& request, Time at = now()) const {
    return credentials::issue(authority_, authority_key_, request, at, test_random());
  }
  [[nodiscard]] TrustMaterial material(const HostRequest& request) const {
    const auto issued = issue(request);
    EXPECT_TRUE(issued) << issued.error().text();
    TrustMaterial material;
    material.host_name = request.host;
    material.certificate = file("host.pem", issued->certificate);
    material.key = file("host.key", issued->key);
    material.authorities = {authority_};
    return material;
  }

  TrustMaterial::File authority_;
  TrustMaterial::File authority_key_;
};

TEST_F(Pki, HostsOfOneAuthorityBelieveEachOther) {
  const auto web =
      Trust::load(material({.host = "web-1", .labels = {{{"app", "web*"}, {"env", "dev"}}}}),
                  nullptr, now())
          .value();
  const auto db = Trust::load(material({.host = "db-1"}), nullptr, now()).value();
  const auto peer =
      db->verify(CredentialType::certificate, web->credential(CredentialType::certificate), now());
  ASSERT_TRUE(peer);
  EXPECT_EQ((*peer)->name, "web-1");
  EXPECT_TRUE(
      (*peer)->constraints.permit(policy::LabelSet::decode("app=web-2\nenv=dev\n").value()));
  EXPECT_FALSE((*peer)->constraints.permit(policy::LabelSet::decode("app=db\n").value()));
  EXPECT_EQ(web->constraints().patterns().size(), 2U);
  EXPECT_EQ(web->description(), "certificate of web-1 by CN=fleet.example.org, until 2027-06-15");
  const auto back =
      web->verify(CredentialType::certificate, db->credential(CredentialType::certificate), now());
  ASSERT_TRUE(back);
  EXPECT_EQ((*back)->secret, (*peer)->secret);
  EXPECT_FALSE((*back)->constraints.limited());
}

TEST_F(Pki, CertificatesAreSmall) {
  const auto trust =
      Trust::load(material({.host = "web-1.example.org", .labels = {{{"app", "web*"}}}}), nullptr,
                  now())
          .value();
  EXPECT_LT(trust->credential(CredentialType::certificate).size(), 520U);
}

TEST_F(Pki, NothingIsTheSameTwice) {
  const auto first = issue({.host = "web-1"});
  const auto second = issue({.host = "web-1"});
  ASSERT_TRUE(first && second);
  EXPECT_NE(first->key, second->key);
  EXPECT_NE(first->certificate, second->certificate);
  EXPECT_NE(make_secret(test_random()).value(), make_secret(test_random()).value());
}

TEST_F(Pki, RefusesWhatCannotBe) {
  EXPECT_THAT(issue({.host = "web 1"}).error().text(),
              HasSubstr("invalid name 'web 1' for a host"));
  EXPECT_THAT(issue({.host = "web,CN=db"}).error().text(),
              HasSubstr("invalid name 'web,CN=db' for a host"));
  EXPECT_FALSE(issue({.host = ""}));
  EXPECT_FALSE(issue({.host = std::string(65, 'a')}));
  EXPECT_TRUE(issue({.host = std::string(64, 'a')}));
  EXPECT_FALSE(make_authority("a/b", now(), test_random()));
  EXPECT_THAT(issue({.host = "web-1", .days = 3700}).error().text(),
              HasSubstr("a certificate for 3700 days is too long: the CA expires on 2036-06-14"));
  std::vector<policy::Label> many(40, policy::Label{"app", std::string(40, 'x')});
  EXPECT_THAT(issue({.host = "web-1", .labels = many}).error().text(),
              HasSubstr("does not fit a token"));
  const auto other = make_authority("other", now(), test_random()).value();
  EXPECT_THAT(credentials::issue(authority_, file("ca.key", other.key), {.host = "web-1"}, now(),
                                 test_random())
                  .error()
                  .text(),
              HasSubstr("'ca.key' is not the key of 'ca.pem'"));
}

TEST_F(Pki, SignsForAuthoritiesOfOthers) {
  TestAuthority foreign("C=DE, O=Example, OU=a, CN=fleet");  // a country is a PrintableString
  const auto issued =
      credentials::issue(file("ca.pem", foreign.certificate), file("ca.key", foreign.key.pem()),
                         {.host = "web-1"}, now(), test_random());
  EXPECT_TRUE(issued) << issued.error().text();
}

TEST_F(Pki, SecretsAreWhatTrustReads) {
  TrustMaterial material;
  material.host_name = "web-1";
  material.psk = file("psk", make_secret(test_random()).value());
  EXPECT_THAT(problems(material), IsEmpty());
}

/// Runs OpenSSL and returns its output; nullopt if it is not installed.
std::optional<std::string> openssl(const std::string& arguments) {
  FILE* pipe = ::popen(("openssl " + arguments + " 2>&1; echo status $?").c_str(), "r");
  std::string output;
  for (char buffer[512]; pipe != nullptr && std::fgets(buffer, sizeof buffer, pipe) != nullptr;) {
    output += buffer;
  }
  if (pipe != nullptr) {
    ::pclose(pipe);
  }
  return output.find("status 127") == std::string::npos ? std::optional(output) : std::nullopt;
}

TEST_F(Pki, OpensslAgrees) {
  std::string directory = (std::filesystem::temp_directory_path() / "trireme-pki-XXXXXX").string();
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  const auto made =
      make_authority("fleet", std::chrono::system_clock::now(), test_random()).value();
  const auto issued = credentials::issue(file("ca.pem", made.certificate), file("ca.key", made.key),
                                         {.host = "web-1", .labels = {{{"app", "web*"}}}},
                                         std::chrono::system_clock::now(), test_random())
                          .value();
  ASSERT_TRUE(write_file(directory + "/ca.pem", made.certificate));
  ASSERT_TRUE(write_file(directory + "/host.pem", issued.certificate));
  for (const std::string purpose : {"sslclient", "sslserver"}) {
    const auto output = openssl("verify -x509_strict -purpose " + purpose + " -CAfile " +
                                directory + "/ca.pem " + directory + "/host.pem");
    if (output) {
      EXPECT_THAT(*output, HasSubstr("host.pem: OK"));
    }
  }
  if (const auto text = openssl("x509 -noout -text -in " + directory + "/host.pem")) {
    EXPECT_THAT(*text, HasSubstr("DNS:web-1"));
    EXPECT_THAT(*text, HasSubstr("TLS Web Server Authentication, TLS Web Client Authentication"));
    EXPECT_THAT(*text, HasSubstr("1.2.840.113556.1.8000.2554.38167.30895.46823.18183.40325.4490689."
                                 "6667315"));
  }
  if (const auto text = openssl("x509 -noout -text -in " + directory + "/ca.pem")) {
    EXPECT_THAT(
        *text, HasSubstr("X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0"));
    EXPECT_THAT(
        *text, HasSubstr("X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign"));
  }
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace trireme::credentials
