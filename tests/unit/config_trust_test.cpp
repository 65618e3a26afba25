// SPDX-License-Identifier: Apache-2.0
// The files of [trust]: their owners, modes, and contents.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "config_support.hpp"
#include "trireme/credentials/pki.hpp"

namespace trireme::config {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class TrustFiles : public testing::Test {
 protected:
  [[nodiscard]] Configuration load() const { return config::load(directory_.path()); }
  [[nodiscard]] std::string path(const std::string& name) const { return directory_.path(name); }
  void write_secret(const std::string& name, const std::string& content) const {
    directory_.write(name, content);
    ASSERT_EQ(::chmod(path(name).c_str(), 0600), 0);
  }
  void write_psk() {
    write_secret("psk", credentials::make_secret(random_).value());
    directory_.write("identity.toml", "[trust]\npsk_file = 'psk'\n");
  }
  /// Writes a CA, and a certificate of this host that it signed.
  void write_certificates(const credentials::HostRequest& request = {.host = "web-1"}) {
    const auto now = std::chrono::system_clock::now();
    const auto authority = credentials::make_authority("fleet", now, random_).value();
    const auto issued = credentials::issue({"ca.pem", authority.certificate},
                                           {"ca.key", authority.key}, request, now, random_)
                            .value();
    directory_.write("ca.pem", authority.certificate);
    directory_.write("host.pem", issued.certificate);
    write_secret("host.key", issued.key);
    directory_.write("identity.toml", kIdentity);
  }

  static constexpr const char* kIdentity =
      "[trust]\ncertificate = 'host.pem'\nkey = 'host.key'\nca = ['ca.pem']\n";
  TemporaryDirectory directory_;
  credentials::Random random_ = credentials::Random::open().value();
};

TEST_F(TrustFiles, ASecretIsRead) {
  write_psk();
  const Configuration configuration = load();
  EXPECT_THAT(texts(configuration), IsEmpty());
  EXPECT_EQ(configuration.trust.psk.path, path("psk"));
  EXPECT_EQ(configuration.trust.psk.content.size(), 45U);
  EXPECT_EQ(configuration.trust.host_name, configuration.host.name);
}

TEST_F(TrustFiles, CertificatesAreReadWhereverTheyLie) {
  write_certificates();
  directory_.write("identity.toml",
                   "[host]\nname = 'db'\nlabels = { zone = 'eu' }\n[trust]\ncertificate = '" +
                       path("host.pem") + "'\nkey = 'host.key'\nca = 'ca.pem'\n");
  const Configuration configuration = load();
  EXPECT_THAT(texts(configuration), IsEmpty());
  EXPECT_EQ(configuration.trust.certificate.path, path("host.pem"));
  EXPECT_EQ(configuration.trust.authorities.size(), 1U);
  EXPECT_EQ(configuration.trust.host_name, "db");
  EXPECT_EQ(configuration.trust.host_labels.text(), "zone=eu");
}

TEST_F(TrustFiles, SecretsMustBeTheirOwnersAlone) {
  write_psk();
  for (const mode_t mode : {0644U, 0604U, 0602U, 0601U}) {
    ASSERT_EQ(::chmod(path("psk").c_str(), mode), 0);
    EXPECT_THAT(texts(load()),
                ElementsAre("identity.toml:2:12: error: '" + path("psk") +
                            "' contains a secret that every user of this host can access (mode 0" +
                            std::to_string(mode / 64) + std::to_string(mode / 8 % 8) +
                            std::to_string(mode % 8) + "); run 'chmod 600 " + path("psk") + "'"));
  }
  for (const mode_t mode : {0640U, 0620U}) {
    ASSERT_EQ(::chmod(path("psk").c_str(), mode), 0);
    EXPECT_THAT(texts(load()),
                ElementsAre(HasSubstr("contains a secret that its group can access (mode 06")));
  }
  ASSERT_EQ(::chmod(path("psk").c_str(), 0400), 0);
  EXPECT_THAT(texts(load()), IsEmpty());
}

TEST_F(TrustFiles, SecretsMustBelongToRootOrTheDaemon) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "only root can change the owner of a file";
  }
  write_psk();
  ASSERT_EQ(::chown(path("psk").c_str(), 4711, 4711), 0);
  EXPECT_THAT(texts(load()),
              ElementsAre("identity.toml:2:12: error: '" + path("psk") +
                          "' contains a secret and is owned by user 4711; run 'chown root " +
                          path("psk") + "'"));
  write_certificates();
  ASSERT_EQ(::chown(path("host.pem").c_str(), 4711, 4711), 0);
  EXPECT_THAT(texts(load()), IsEmpty());
}

TEST_F(TrustFiles, EachThatCannotBeReadIsNamed) {
  directory_.write("identity.toml", "[trust]\ncertificate = 'host.pem'\nkey = '" +
                                        path("k/host.key") +
                                        "'\nca = ['ca.pem', 'no.pem']\nrevoked = ['dir']\n");
  directory_.write("k/host.key", "key");
  ASSERT_EQ(::chmod(path("k/host.key").c_str(), 0644), 0);
  directory_.write("ca.pem", "certificate");
  fs::create_directory(path("dir"));
  EXPECT_THAT(
      texts(load()),
      ElementsAre("identity.toml:2:15: error: cannot read '" + path("host.pem") +
                      "': No such file or directory",
                  HasSubstr("identity.toml:3:7: error: '" + path("k/host.key") +
                            "' contains a secret that every user"),
                  "identity.toml:4:17: error: cannot read '" + path("no.pem") +
                      "': No such file or directory",
                  "identity.toml:5:12: error: '" + path("dir") + "' is not a regular file"));
}

// A policy repository does not contain the keys.
TEST_F(TrustFiles, WhereTheyAreOptionalAMissingOneIsAWarning) {
  write_certificates();
  ASSERT_EQ(::unlink(path("host.key").c_str()), 0);
  EXPECT_FALSE(load().valid());
  const Configuration configuration = config::load(directory_.path(), config::KeyFiles::optional);
  EXPECT_TRUE(configuration.valid());
  EXPECT_THAT(texts(configuration),
              ElementsAre("identity.toml:3:7: warning: cannot read '" + path("host.key") +
                          "': No such file or directory; the files of [trust] are not checked"));
  // Files that exist are still checked.
  write_secret("host.key", "key");
  ASSERT_EQ(::chmod(path("host.key").c_str(), 0644), 0);
  ASSERT_EQ(::unlink(path("ca.pem").c_str()), 0);
  EXPECT_THAT(texts(config::load(directory_.path(), config::KeyFiles::optional)),
              ElementsAre(HasSubstr("error: '" + path("host.key") + "' contains a secret that"),
                          HasSubstr("warning: cannot read '" + path("ca.pem"))));
  const auto other =
      credentials::make_authority("other", std::chrono::system_clock::now(), random_).value();
  directory_.write("ca.pem", other.certificate);
  ASSERT_EQ(::chmod(path("host.key").c_str(), 0600), 0);
  EXPECT_FALSE(config::load(directory_.path(), config::KeyFiles::optional).valid());
}

TEST_F(TrustFiles, WhatTheyHoldIsCheckedAndToldAtTheirPlaces) {
  write_certificates();
  const auto other =
      credentials::make_authority("other", std::chrono::system_clock::now(), random_).value();
  directory_.write("ca.pem", other.certificate);
  directory_.write("identity.toml", std::string(kIdentity) + "revoked = 'junk'\n");
  directory_.write("junk", "junk");
  EXPECT_THAT(
      texts(load()),
      ElementsAre(HasSubstr("identity.toml:2:15: error: '" + path("host.pem") +
                            "' is not signed by any CA in 'ca'"),
                  HasSubstr("identity.toml:5:11: error: '" + path("junk") + "' contains neither")));
  directory_.write("identity.toml", "[trust]\npsk_file = 'psk'\n");
  write_secret("psk", "AAAA\n");
  EXPECT_THAT(texts(load()), ElementsAre("identity.toml:2:12: error: '" + path("psk") +
                                         "' line 1 has 3 bytes; a secret needs at least 32; create "
                                         "a secret with trirectl pki psk"));
}

TEST_F(TrustFiles, ACertificateMustVouchForTheHostsLabels) {
  write_certificates({.host = "web-1", .labels = {{{"app", "web*"}}}});
  EXPECT_THAT(texts(load()), IsEmpty());
  directory_.write("identity.toml", std::string(kIdentity) + "[host]\nlabels = { zone = 'eu' }\n");
  EXPECT_THAT(texts(load()),
              ElementsAre(HasSubstr("does not vouch for the labels of [host]: zone=eu")));
}

TEST_F(TrustFiles, HalfOfATrustIsReportedOnce) {
  write_certificates();
  directory_.write("identity.toml", "[trust]\ncertificate = 'host.pem'\n");
  EXPECT_THAT(texts(load()),
              ElementsAre(HasSubstr("[trust] has no 'key'"), HasSubstr("[trust] has no 'ca'")));
  write_psk();
  directory_.write("identity.toml", std::string(kIdentity) + "psk_file = 'psk'\n");
  EXPECT_THAT(texts(load()), ElementsAre(HasSubstr("[trust] has both psk_file and certificates")));
}

// The daemon does this when it restarts with the last valid files.
TEST_F(TrustFiles, CompleteReadsThemForWhatWasParsed) {
  write_certificates();
  const std::vector<Source> identity = {{"identity.toml", kIdentity}};
  Configuration configuration = parse({}, identity);
  EXPECT_TRUE(configuration.trust.key.content.empty());
  complete(directory_.path(), configuration);
  EXPECT_THAT(texts(configuration), IsEmpty());
  EXPECT_FALSE(configuration.trust.key.content.empty());
  EXPECT_FALSE(configuration.host.name.empty());
  ASSERT_EQ(::unlink(path("host.key").c_str()), 0);
  configuration = parse({}, identity);
  complete(directory_.path(), configuration);
  EXPECT_THAT(texts(configuration),
              ElementsAre(HasSubstr("identity.toml:3:7: error: cannot read ")));
  EXPECT_FALSE(configuration.valid());
}

}  // namespace
}  // namespace trireme::config
