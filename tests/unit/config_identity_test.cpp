// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <algorithm>

#include "config_support.hpp"

namespace trireme::config {
namespace {

using config::DockerSettings;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Files with most of what trireme-identity.toml(5) describes.
constexpr const char* kExample = R"toml(# identity.toml
[host]
name = "web-1"                       # default: the host name
labels = { zone = "eu-1" }           # added to every workload of this host
nat = ["203.0.113.0/24"]             # peers behind address translation
peers = ["10.0.0.0/8"]               # remote hosts that run trireme (bridge containers of this host are always included)

[trust]                              # nothing (this host only), psk_file, or a CA
certificate = "host.pem"
key = "host.key"
ca = ["ca.pem", "ca-next.pem"]       # several during a rotation
revoked = ["old-host.pem"]
# psk_file = "psk"

[docker]
socket = "/run/docker.sock"          # Podman's compatible socket works too
containers = "all"                   # all | labeled | host-network | none
image_labels = []                    # labels that come from the image are not part of the identity, unless listed here
ignore_labels = ["org.opencontainers.*", "org.label-schema.*", "com.docker.*", "desktop.docker.io/*", "io.podman.*", "io.buildah.*", "PODMAN_SYSTEMD_UNIT", "traefik.*", "maintainer"]   # the defaults, also without a [docker] table

[[unit]]                             # a systemd unit is a workload
name = "postgresql@*.service"
labels = { app = "db" }

[[launch]]                           # users other than root that can start workloads with trirun, and their labels
user = "deploy"                      # or group =
labels = ["app=web*", "env=dev"]

[metrics]
listen = "127.0.0.1:9464"            # Prometheus; absent: off
)toml";

TEST(ParseIdentity, ReadsEverySection) {
  const Configuration configuration = parse_identity(kExample);
  EXPECT_TRUE(configuration.valid());
  EXPECT_THAT(texts(configuration), IsEmpty());
  const config::Host& identity = configuration.host;
  EXPECT_EQ(identity.name, "web-1");
  EXPECT_EQ(identity.labels.text(), "zone=eu-1");
  EXPECT_EQ(identity.peers.at(0).text(), "10.0.0.0/8");
  ASSERT_EQ(identity.nat.size(), 1U);
  EXPECT_EQ(identity.nat.at(0).text(), "203.0.113.0/24");
  EXPECT_EQ(identity.trust.certificate, "host.pem");
  EXPECT_EQ(identity.trust.key, "host.key");
  EXPECT_THAT(identity.trust.ca, ElementsAre("ca.pem", "ca-next.pem"));
  EXPECT_THAT(identity.trust.revoked, ElementsAre("old-host.pem"));
  EXPECT_EQ(identity.docker.sockets, std::vector<std::string>{"/run/docker.sock"});
  EXPECT_EQ(identity.docker.containers, DockerSettings::Containers::all);
  EXPECT_THAT(identity.docker.image_labels, IsEmpty());
  EXPECT_THAT(identity.docker.ignore_labels,
              ElementsAre("org.opencontainers.*", "org.label-schema.*", "com.docker.*",
                          "desktop.docker.io/*", "io.podman.*", "io.buildah.*",
                          "PODMAN_SYSTEMD_UNIT", "traefik.*", "maintainer"));
  ASSERT_EQ(identity.units.size(), 1U);
  EXPECT_EQ(identity.units[0].name, "postgresql@*.service");
  EXPECT_EQ(identity.units[0].labels.text(), "app=db");
  EXPECT_EQ(identity.units[0].where.text(), "identity.toml:21:1");
  ASSERT_EQ(identity.launches.size(), 1U);
  EXPECT_EQ(identity.launches[0].user, "deploy");
  EXPECT_THAT(identity.launches[0].labels,
              ElementsAre(policy::Label{"app", "web*"}, policy::Label{"env", "dev"}));
  ASSERT_TRUE(identity.metrics_listen);
  EXPECT_EQ(identity.metrics_listen->text(), "127.0.0.1:9464");
}

TEST(ParseIdentity, TheDefaultsHoldWithoutADockerTable) {
  const auto identity = parse_identity("").host;
  EXPECT_EQ(identity.docker.sockets, std::vector<std::string>{"/run/docker.sock"});
  EXPECT_THAT(identity.docker.ignore_labels,
              ElementsAre("org.opencontainers.*", "org.label-schema.*", "com.docker.*",
                          "desktop.docker.io/*", "io.podman.*", "io.buildah.*",
                          "PODMAN_SYSTEMD_UNIT", "traefik.*", "maintainer"));
  EXPECT_THAT(parse_identity("[docker]\n").host.docker.ignore_labels, testing::SizeIs(9));
  EXPECT_THAT(parse_identity("[docker]\nignore_labels=[]\n").host.docker.ignore_labels, IsEmpty());
}

TEST(ParseIdentity, LabelsOfContainersThatAloneAreIdentity) {
  const auto docker = parse_identity(
                          "[docker]\nlabels=['app', 'team-*']\n"
                          "label_from={ app = 'com.docker.compose.project' }\n"
                          "containers='labeled'\n")
                          .host.docker;
  EXPECT_THAT(docker.labels, ElementsAre("app", "team-*"));
  EXPECT_THAT(docker.label_from, ElementsAre(testing::Pair("app", "com.docker.compose.project")));
  EXPECT_EQ(docker.containers, DockerSettings::Containers::labeled);
  EXPECT_THAT(texts(parse_identity("[docker]\nlabels=[]\n")),
              ElementsAre(testing::HasSubstr("'labels' in [docker] is an empty list")));
  EXPECT_THAT(texts(parse_identity("[docker]\nlabels=['a']\nignore_labels=['b']\n")),
              ElementsAre(testing::HasSubstr("both labels and ignore_labels")));
  EXPECT_THAT(texts(parse_identity("[docker]\nlabel_from={ 'a b' = 'c' }\n")), testing::SizeIs(1));
  EXPECT_THAT(texts(parse_identity("[docker]\nlabel_from=['app']\n")),
              ElementsAre(testing::HasSubstr("a table of strings")));
}

TEST(ParseIdentity, SocketsOfSeveralEngines) {
  EXPECT_THAT(parse_identity("[docker]\nsocket=['/run/docker.sock', '/run/podman/podman.sock']\n")
                  .host.docker.sockets,
              ElementsAre("/run/docker.sock", "/run/podman/podman.sock"));
  EXPECT_THAT(parse_identity("[docker]\nsocket='/run/podman/podman.sock'\n").host.docker.sockets,
              ElementsAre("/run/podman/podman.sock"));
  EXPECT_THAT(texts(parse_identity("[docker]\nsocket=[]\n")),
              ElementsAre(testing::HasSubstr("'socket' in [docker] is an empty list")));
  EXPECT_THAT(
      texts(parse_identity("[docker]\nsocket=['/a', '', '/a', \"/b\\u0000\"]\n")),
      ElementsAre(testing::HasSubstr("not an absolute path"), testing::HasSubstr("is listed twice"),
                  testing::HasSubstr("control character")));
}

TEST(ParseIdentity, CapabilitiesThatAreKnown) {
  EXPECT_THAT(parse_identity("[host]\nacknowledge=['CAP_NET_RAW', 'CAP_SYS_ADMIN', "
                             "'CAP_NET_RAW']\n")
                  .host.acknowledge,
              ElementsAre("CAP_NET_RAW", "CAP_SYS_ADMIN"));
  EXPECT_THAT(parse_identity("").host.acknowledge, IsEmpty());
  EXPECT_THAT(
      texts(parse_identity("[host]\nacknowledge=['NET_RAW', 'cap_net_raw', 'CAP_KILL', '']\n")),
      ElementsAre(HasSubstr("identity.toml:2:14: error: 'NET_RAW' in 'acknowledge' is not a "
                            "capability that trireme warns of"),
                  HasSubstr("did you mean 'CAP_NET_RAW'?"),
                  HasSubstr("use CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN"), HasSubstr("''")));
  EXPECT_THAT(texts(parse_identity("[host]\nacknowledge='CAP_NET_RAW'\n")),
              ElementsAre(HasSubstr("must be a list of strings")));
}

TEST(ParseIdentity, NoScopeIsAUnit) {
  for (const char* name : {"batch-*.scope", "shop.scope"}) {
    EXPECT_THAT(
        texts(parse_identity("[[unit]]\nname='" + std::string(name) + "'\nlabels={a='b'}\n")),
        ElementsAre(testing::HasSubstr("a scope cannot be a [[unit]]")));
  }
}

TEST(ParseIdentity, SectionsOfSeveralFilesAreReadTogether) {
  const std::vector<Source> files = {
      {"identity.toml",
       "[host]\nlabels={zone='eu'}\n[docker]\nlabels=['app']\ncontainers='none'\n"
       "[trust]\ncertificate='host.pem'\nca='ca.pem'\n"},
      {"identity.d/1.toml",
       "[host]\nname='web-1'\npeers=['10.0.0.1']\n[docker]\nimage_labels=['app']\n"},
      {"identity.d/2.toml",
       "[host]\nnat=['192.0.2.1']\n[trust]\nkey='host.key'\n"
       "[metrics]\nlisten='127.0.0.1:1'\n"}};
  for (const bool reversed : {false, true}) {
    auto sources = files;
    if (reversed) {
      std::ranges::reverse(sources);
    }
    const auto configuration = parse({}, sources);
    EXPECT_THAT(texts(configuration), IsEmpty());
    const config::Host& host = configuration.host;
    EXPECT_EQ(host.name, "web-1");
    EXPECT_EQ(host.labels.text(), "zone=eu");
    EXPECT_EQ(host.peers.size(), 1U);
    EXPECT_EQ(host.nat.size(), 1U);
    EXPECT_THAT(host.docker.labels, ElementsAre("app"));
    EXPECT_THAT(host.docker.image_labels, ElementsAre("app"));
    EXPECT_EQ(host.docker.containers, DockerSettings::Containers::none);
    EXPECT_EQ(host.docker.sockets, std::vector<std::string>{"/run/docker.sock"});
    EXPECT_EQ(host.trust.certificate, "host.pem");
    EXPECT_EQ(host.trust.key, "host.key");
    EXPECT_THAT(host.trust.ca, ElementsAre("ca.pem"));
    EXPECT_TRUE(host.metrics_listen);
  }
}

// What must not be combined is found in whichever files it is.
TEST(ParseIdentity, ConflictsAcrossFilesAreErrors) {
  EXPECT_THAT(texts(parse({}, {{"identity.toml", "[docker]\nlabels=['app']\n"},
                               {"identity.d/1.toml", "[docker]\nignore_labels=['x']\n"}})),
              ElementsAre("identity.toml:2:1: error: [docker] has both labels and ignore_labels "
                          "(at identity.d/1.toml:2:1); keep one: labels already excludes all other "
                          "keys"));
  EXPECT_THAT(texts(parse({}, {{"identity.toml", "[trust]\npsk_file='psk'\n"},
                               {"identity.d/1.toml", "[trust]\nca='ca.pem'\n"}})),
              ElementsAre(HasSubstr("[trust] has both psk_file and certificates")));
  EXPECT_THAT(texts(parse({}, {{"identity.toml", "[trust]\ncertificate='c'\n"},
                               {"identity.d/1.toml", "[trust]\nca='ca.pem'\n"}})),
              ElementsAre(HasSubstr("identity.toml:1:1: error: [trust] has no 'key'")));
  EXPECT_THAT(texts(parse({}, {{"identity.toml", "[host]\nname='a'\n"},
                               {"identity.d/1.toml", "[host]\npeers=['10.0.0.1']\n"}})),
              ElementsAre(HasSubstr("identity.d/1.toml:2:7: warning: [host] has peers, but there "
                                    "is no [trust]")));
}

TEST(ParseIdentity, ReadsDropInsTogether) {
  const auto configuration = parse(
      {}, {{"identity.toml", "[[unit]]\nname='a.service'\nlabels={app='a'}\n"},
           {"identity.d/1.toml",
            "[[unit]]\nname='b.service'\nlabels={app='b'}\n[docker]\ncontainers='labelled'\n"}});
  EXPECT_THAT(texts(configuration), IsEmpty());
  EXPECT_EQ(configuration.host.units.size(), 2U);
  EXPECT_EQ(configuration.host.docker.containers, DockerSettings::Containers::labeled);
}

TEST(ParseIdentity, Labels) {
  EXPECT_THAT(
      texts(parse_identity(
          "[host]\nlabels = { a = 1, \"-x\" = 'y', b.c = 'd', e = 'f g', h = 'i*' }\n")),
      ElementsAre(
          "identity.toml:2:16: error: label 'a' must be a string, not an integer; put it in quotes",
          "identity.toml:2:19: error: label key '-x' must start and end with a letter or digit",
          "identity.toml:2:31: error: label 'b' must be a string, not a table; quote a key that "
          "contains dots: "
          "\"app.kubernetes.io/name\" = \"web\"",
          HasSubstr("identity.toml:2:46: error: invalid character ' ' in label value 'f g'"),
          HasSubstr("identity.toml:2:57: error: invalid character '*' in label value 'i*'")));
  EXPECT_THAT(texts(parse_identity("[host]\nlabels = 'a=b'\n")),
              ElementsAre("identity.toml:2:10: error: 'labels' in [host] must be a table of "
                          "labels, not a string; write { app = \"web\", "
                          "env = \"prod\" }"));
}

TEST(ParseIdentity, OversizeLabelSets) {
  const std::string large(8000, 'v');
  EXPECT_THAT(texts(parse_identity("[host]\nlabels = { a = '" + large + large + "' }\n")),
              ElementsAre(HasSubstr("identity.toml:2:12: error: labels take 16003 bytes")));
  const std::string half(5000, 'v');
  EXPECT_THAT(texts(parse_identity("[[unit]]\nname='a.service'\nlabels = { a = '" + half +
                                   "' }\n[host]\nlabels = { b = '" + half + "' }\n")),
              ElementsAre(HasSubstr(
                  "identity.toml:1:1: error: with the labels of [host]: labels take 10007 bytes")));
  std::string many = "[host]\nlabels = {";
  for (int i = 0; i < 129; ++i) {
    many += (i == 0 ? " k" : ", k") + std::to_string(i) + " = 'v'";
  }
  EXPECT_THAT(texts(parse_identity(many + " }\n")),
              ElementsAre(HasSubstr("error: more than 128 labels")));
}

TEST(ParseIdentity, HostAndPeers) {
  EXPECT_THAT(
      texts(parse_identity("[host]\nname = ''\npeers = ['10.1.0.0/8', 'x']\n")),
      ElementsAre(
          "identity.toml:2:8: error: 'name' in [host] is empty; add a value or remove the key",
          HasSubstr("identity.toml:3:11: error: '10.1.0.0/8' has bits set beyond its prefix "
                    "length; did you mean 10.0.0.0/8"),
          HasSubstr("identity.toml:3:25: error: invalid IP address 'x'")));
  EXPECT_THAT(texts(parse_identity("[host]\npeers = '10.0.0.0/8'\n")),
              ElementsAre("identity.toml:2:9: error: 'peers' in [host] must be a list of strings, "
                          "not a string; put it in brackets: [\"…\"]"));
}

TEST(ParseIdentity, PeersWithoutTrustStayUnlabeled) {
  const std::string host = "[host]\npeers = ['10.0.0.0/8']\n";
  EXPECT_THAT(texts(parse_identity(host)),
              ElementsAre(HasSubstr("identity.toml:2:9: warning: [host] has peers, but there is no "
                                    "[trust]: remote hosts stay unlabeled")));
  EXPECT_THAT(texts(parse_identity(host + "[trust]\npsk_file = 'psk'\n")), IsEmpty());
  EXPECT_THAT(texts(parse({}, {{"identity.toml", host},
                               {"identity.d/1.toml", "[trust]\npsk_file = 'psk'\n"}})),
              IsEmpty());
}

TEST(ParseIdentity, Trust) {
  EXPECT_THAT(texts(parse_identity("[trust]\npsk_file='psk'\n")), IsEmpty());
  EXPECT_THAT(texts(parse_identity("[trust]\npsk_file='psk'\ncertificate='c'\nkey='k'\nca='ca'\n")),
              ElementsAre("identity.toml:1:1: error: [trust] has both psk_file and certificates; "
                          "keep one: a shared secret or a CA"));
  EXPECT_THAT(texts(parse_identity("[trust]\ncertificate='c'\n")),
              ElementsAre("identity.toml:1:1: error: [trust] has no 'key'; certificate, key and ca "
                          "are required together; trirectl pki issue writes all three",
                          HasSubstr("[trust] has no 'ca'")));
  EXPECT_THAT(texts(parse_identity("[trust]\n")), IsEmpty());
  EXPECT_THAT(
      texts(parse_identity("[trust]\npsk='x'\n")),
      ElementsAre(
          "identity.toml:2:1: error: unknown key 'psk' in [trust]; did you mean 'psk_file'?"));
}

TEST(ParseIdentity, Docker) {
  EXPECT_THAT(
      texts(parse_identity(
          "[docker]\nsocket='unix:///run/"
          "docker.sock'\ncontainers='host'\nimage_labels=['a*b']\nignore_labels=['-a', '*', "
          "'com.example.*']\n")),
      ElementsAre(
          "identity.toml:2:8: error: 'unix:///run/docker.sock' is not an absolute path; write "
          "/run/docker.sock",
          "identity.toml:3:12: error: unknown value 'host' for 'containers' in [docker]; did you "
          "mean 'host-network'?",
          "identity.toml:4:15: error: '*' is only allowed at the end of 'a*b'; com.example.* "
          "matches every key that "
          "starts with com.example.",
          "identity.toml:5:16: error: label key '-a' must start and end with a letter or digit"));
}

TEST(ParseIdentity, Units) {
  EXPECT_THAT(
      texts(parse_identity("[[unit]]\nname='postgresql'\nlabels={app='db'}\n")),
      ElementsAre("identity.toml:2:6: error: 'postgresql' is not the name of a service; did "
                  "you mean 'postgresql.service'?"));
  EXPECT_THAT(texts(parse_identity("[[unit]]\nname='nginx.socket'\nlabels={app='db'}\n")),
              ElementsAre("identity.toml:2:6: error: 'nginx.socket' is not the name of a service; "
                          "write 'nginx.service', which includes its .socket unit"));
  EXPECT_THAT(
      texts(parse_identity(
          "[[unit]]\n[[unit]]\nname='a.service'\n[[unit]]\nname='a.service'\nlabels={app='x'}\n")),
      ElementsAre(
          "identity.toml:1:1: error: this unit has no 'name'; add name = \"postgresql@*.service\"",
          "identity.toml:1:1: error: this unit has no labels; add labels = { app = \"db\" }",
          "identity.toml:2:1: error: this unit has no labels; add labels = { app = \"db\" }",
          "identity.toml:5:6: error: unit 'a.service' is already defined at identity.toml:3:6; a "
          "unit has one label set; merge the entries"));
  for (const char* pattern :
       {"trireme.service", "tri*.service", "*.service", "[t]rireme.service"}) {
    EXPECT_THAT(
        texts(parse_identity("[[unit]]\nname='" + std::string(pattern) + "'\nlabels={app='x'}\n")),
        ElementsAre(HasSubstr("matches trireme.service itself")));
  }
}

TEST(ParseIdentity, Launches) {
  EXPECT_THAT(
      texts(parse_identity("[[launch]]\nuser='a'\ngroup='b'\nlabels=['app=web*']\n[[launch]"
                           "]\nlabels=['app=web']\n[[launch]]\nuser='a'\n")),
      ElementsAre("identity.toml:1:1: error: this [[launch]] entry has both 'user' and 'group'; "
                  "write two entries",
                  "identity.toml:5:1: error: this [[launch]] entry has neither 'user' nor 'group'; "
                  "add user = \"deploy\"; root needs no entry",
                  "identity.toml:7:1: error: this [[launch]] entry has no labels; add labels = "
                  "[\"app=web*\", \"env=dev\"]"));
  EXPECT_THAT(
      texts(parse_identity("[[launch]]\nuser='a'\nlabels=['app', '*', 'app=w*b', 'app=a=b']\n")),
      ElementsAre(
          "identity.toml:3:9: error: label 'app' has no value; write key=value",
          HasSubstr("identity.toml:3:16: error: label '' has no value"),
          HasSubstr("identity.toml:3:21: error: invalid character '*' in label value 'w*b'"),
          HasSubstr("identity.toml:3:32: error: invalid character '=' in label value 'a=b'")));
  EXPECT_TRUE(parse_identity("[[launch]]\ngroup='a'\nlabels=['app=*']\n").valid());
}

TEST(ParseIdentity, Metrics) {
  for (const char* here : {"127.0.0.1:9464", "[::1]:9464", "127.9.9.9:65535"}) {
    const Configuration configuration =
        parse_identity("[metrics]\nlisten='" + std::string(here) + "'\n");
    EXPECT_THAT(texts(configuration), IsEmpty());
    ASSERT_TRUE(configuration.host.metrics_listen);
    EXPECT_EQ(configuration.host.metrics_listen->text(), here);
  }
  for (const char* everywhere : {"0.0.0.0:1", "[::]:9464", "192.0.2.1:9464"}) {
    const Configuration configuration =
        parse_identity("[metrics]\nlisten='" + std::string(everywhere) + "'\n");
    EXPECT_TRUE(configuration.valid());
    EXPECT_THAT(texts(configuration),
                ElementsAre(HasSubstr(
                    "identity.toml:2:8: warning: metrics are readable from other hosts")));
  }
  for (const char* bad :
       {"9464", ":9464", "localhost:9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0",
        "127.0.0.1:65536", "127.0.0.1:99999999999999999999", "127.0.0.1:x", "127.0.0.1:+1",
        "::1:9464", "[127.0.0.1]:9464", "[::1", "[]:1"}) {
    EXPECT_THAT(
        texts(parse_identity("[metrics]\nlisten='" + std::string(bad) + "'\n")),
        ElementsAre(HasSubstr("invalid address and port '" + std::string(bad) + "'; write")))
        << bad;
  }
}

TEST(Identity, ATemplateStandsForAllOfItsInstances) {
  const auto configuration = parse_identity("[[unit]]\nname='db@.service'\nlabels={app='db'}\n");
  EXPECT_TRUE(configuration.valid());
  EXPECT_EQ(configuration.host.units.at(0).name, "db@*.service");
  EXPECT_THAT(texts(configuration), ElementsAre(HasSubstr("warning: 'db@.service' is a template")));
  EXPECT_FALSE(parse_identity("[[unit]]\nname='db@.service'\nlabels={app='db'}\n"
                              "[[unit]]\nname='db@*.service'\nlabels={app='x'}\n")
                   .valid())
      << "the same unit twice";
}

policy::LabelSet label_set(const std::vector<std::pair<std::string, std::string>>& labels) {
  policy::LabelSet set;
  for (const auto& [key, value] : labels) {
    EXPECT_TRUE(set.set(key, value));
  }
  return set;
}

TEST(LaunchGrant, PermitsOnlyWhatSomeEntryCovers) {
  LaunchGrant grant;
  grant.labels = {{"app", "web*"}, {"env", "dev"}};
  EXPECT_TRUE(grant.permits(label_set({{"app", "web"}})));
  EXPECT_TRUE(grant.permits(label_set({{"app", "web-2"}, {"env", "dev"}})));
  EXPECT_TRUE(grant.permits({}));
  EXPECT_FALSE(grant.permits(label_set({{"app", "we"}})));
  EXPECT_FALSE(grant.permits(label_set({{"app", "web"}, {"env", "prod"}})));
  EXPECT_FALSE(grant.permits(label_set({{"app", "web"}, {"role", "db"}})));
  EXPECT_FALSE(grant.permits(label_set({{"ap", "web"}}))) << "keys are never prefixes";
}

}  // namespace
}  // namespace trireme::config
