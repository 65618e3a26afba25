// SPDX-License-Identifier: Apache-2.0
#include "../../src/docker/json.hpp"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>

#include "../../src/docker/cgroup.hpp"
#include "trireme/config/container_labels.hpp"

namespace trireme::docker {

using namespace workload;

namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const std::string kId(64, 'a');

std::string inspection(const std::string& members) {
  return R"({"Id":")" + kId + R"(","HostConfig":{"NetworkMode":"host"})" + members + "}";
}

TEST(DockerJson, Events) {
  const auto event = parse_event(R"({"Type":"container","Action":"start","Actor":{"ID":")" + kId +
                                 R"(","Attributes":{}},"time":1})");
  ASSERT_TRUE(event && event->has_value());
  EXPECT_EQ((*event)->action, "start");
  EXPECT_EQ((*event)->id, kId);
  for (const char* other : {R"({"Type":"volume"})", R"({"Type":"container","Actor":{"ID":"../x"}})",
                            R"({"Type":7})", "[]", "{}"}) {
    const auto none = parse_event(other);
    ASSERT_TRUE(none) << other;
    EXPECT_FALSE(none->has_value()) << other;
  }
  for (const char* bad : {"", "{", "7", "null", "\"x\""}) {
    EXPECT_FALSE(parse_event(bad)) << bad;
  }
}

TEST(DockerJson, EventsOfNetworksHaveNoContainer) {
  const auto event = parse_event(R"({"Type":"network","Action":"create","Actor":{"ID":"x"}})");
  ASSERT_TRUE(event && *event);
  EXPECT_EQ((*event)->action, "create");
  EXPECT_EQ((*event)->id, "");
}

TEST(DockerJson, ListsLeaveOutWhatCannotBeUnderstood) {
  std::size_t malformed = 0;
  const auto listing = parse_listing(
      R"([{"Id":")" + kId +
          R"(","Names":["/alias/web","/web"],"ImageID":"sha256:1","Labels":{"app":"web"},"State":"paused",)" +
          R"("HostConfig":{"NetworkMode":"host"}},null,7,{"Id":"short"},{"Id":")" +
          std::string(64, 'b') + R"(","Labels":["x"]},{"Id":")" + std::string(64, 'c') + R"("}])",
      malformed);
  ASSERT_TRUE(listing);
  EXPECT_EQ(malformed, 4U);
  ASSERT_EQ(listing->size(), 2U);
  const ContainerFacts& web = listing->front();
  EXPECT_EQ(web.name, "web");
  EXPECT_EQ(web.network_mode, "host");
  EXPECT_TRUE(web.is_running);
  EXPECT_FALSE(web.is_inspected);
  EXPECT_EQ(listing->back().network_mode, "");
  EXPECT_FALSE(parse_listing("{}", malformed));
  EXPECT_FALSE(parse_listing("[", malformed));
}

TEST(DockerJson, Inspections) {
  const auto facts = parse_inspection(
      R"({"Id":")" + kId + R"(","Name":"/web","Image":"sha256:1","State":{"Pid":17},)" +
      R"("Config":{"Labels":{"app":"web"}},"Mounts":[{"Source":"/var/run/docker.sock"}],)" +
      R"("HostConfig":{"NetworkMode":"host","Privileged":true,"CapAdd":["NET_ADMIN"],"CapDrop":null,)" +
      R"("PidMode":"host","CgroupParent":"/x","PortBindings":{"80/tcp":[]}}})");
  ASSERT_TRUE(facts) << facts.error().text();
  EXPECT_EQ(facts->name, "web");
  EXPECT_EQ(facts->pid, 17U);
  EXPECT_TRUE(facts->is_running && facts->is_inspected && facts->publishes_ports);
  EXPECT_THAT(facts->published, IsEmpty()) << "wanted, but not bound";
  EXPECT_EQ(facts->cgroup_parent, "/x");
  EXPECT_TRUE(facts->capabilities.privileged && facts->capabilities.has_host_pids &&
              facts->capabilities.has_docker_socket);
  EXPECT_EQ(facts->capabilities.add, std::vector<std::string>{"NET_ADMIN"});
  const auto least = parse_inspection(inspection(""));
  ASSERT_TRUE(least);
  EXPECT_FALSE(least->is_running || least->publishes_ports);
  EXPECT_EQ(parse_inspection(inspection(R"(,"State":{"Pid":-1})"))->pid, 0U);
  EXPECT_EQ(parse_inspection(inspection(R"(,"State":{"Pid":4294967296})"))->pid, 0U);
  for (const std::string& bad :
       {inspection(R"(,"Config":{"Labels":{"app":7}})"), inspection(R"(,"Config":{"Labels":"x"})"),
        R"({"Id":")" + kId + R"("})", std::string("{}"), std::string("[]"), std::string("")}) {
    EXPECT_FALSE(parse_inspection(bad)) << bad;
  }
}

TEST(DockerJson, PublishedPortsAreThoseThatTheEngineHasBound) {
  const auto facts = parse_inspection(inspection(
      R"(,"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},)"
      R"({"HostIp":"::","HostPort":"8080"}],"53/udp":[{"HostIp":"","HostPort":"5353"}],)"
      R"("443/tcp":null,"81/sctp":[{"HostPort":"81"}],"x/tcp":[{"HostPort":"1"}],"82":[],)"
      R"("83/tcp":[{"HostPort":"70000"},{"HostPort":7},{},9]}})"));
  ASSERT_TRUE(facts) << facts.error().text();
  EXPECT_THAT(facts->published,
              ElementsAre(policy::PublishedPort{6, 80, 8080}, policy::PublishedPort{17, 53, 5353}));
  std::string many;
  for (int port = 1; port <= 1000; ++port) {
    many += (port == 1 ? "" : ",") + std::string("\"") + std::to_string(port) +
            R"(/tcp":[{"HostPort":")" + std::to_string(port) + "\"}]";
  }
  const auto range =
      parse_inspection(inspection(",\"NetworkSettings\":{\"Ports\":{" + many + "}}"));
  ASSERT_TRUE(range);
  EXPECT_THAT(range->published, SizeIs(256));
  EXPECT_THAT(parse_inspection(inspection(R"(,"NetworkSettings":{"Ports":7})"))->published,
              IsEmpty());
}

TEST(DockerJson, Networks) {
  const auto networks = parse_networks(
      R"([{"Name":"bridge","Driver":"bridge","IPAM":{"Config":[{"Subnet":"172.17.0.0/16"},)"
      R"({"Subnet":"fd00::/64"},{"Subnet":"nonsense"},7]}},)"
      R"({"Name":"lan","Driver":"macvlan","IPAM":{"Config":[{"Subnet":"192.168.1.0/24"}]}},)"
      R"({"Name":"host","Driver":"host","IPAM":{"Config":null}},7])");
  ASSERT_TRUE(networks);
  ASSERT_EQ(networks->size(), 4U);
  EXPECT_EQ(networks->at(0).name, "bridge");
  EXPECT_THAT(networks->at(0).prefixes,
              testing::ElementsAre(*policy::Prefix::parse("172.17.0.0/16"),
                                   *policy::Prefix::parse("fd00::/64")));
  EXPECT_THAT(networks->at(1).prefixes, testing::IsEmpty())
      << "the LAN is not a network of this host";
  EXPECT_FALSE(parse_networks("{}"));
  const auto facts = parse_inspection(inspection(
      R"(,"NetworkSettings":{"Networks":{"lan":{"IPAddress":"192.168.1.7","GlobalIPv6Address":""},"x":7}})"));
  ASSERT_TRUE(facts);
  EXPECT_THAT(facts->networks, testing::ElementsAre("lan", "x"));
  EXPECT_THAT(facts->addresses, testing::ElementsAre(*policy::Address::parse("192.168.1.7")));
}

TEST(DockerJson, Images) {
  EXPECT_EQ(parse_image_labels(R"({"Config":{"Labels":{"a":"b"}}})").value(),
            (RawLabels{{"a", "b"}}));
  EXPECT_EQ(parse_image_labels(R"({"Config":{"Labels":null}})").value(), RawLabels());
  EXPECT_FALSE(parse_image_labels("{}"));
}

TEST(DockerCgroup, NamesTellIds) {
  EXPECT_EQ(id_of_scope("docker-" + kId + ".scope"), kId);
  EXPECT_EQ(id_of_scope("libpod-" + kId + ".scope"), kId);
  for (const std::string& other :
       {kId, "docker-" + kId, std::string("docker-x.scope"), "libpod-conmon-" + kId + ".scope",
        std::string("docker-.scope")}) {
    EXPECT_EQ(id_of_scope(other), "") << other;
  }
  EXPECT_EQ(id_of_directory(kId), kId);
  EXPECT_EQ(id_of_directory("libpod-" + kId), kId);
  EXPECT_EQ(id_of_directory("init.scope"), "");
}

TEST(DockerCgroup, NamesTellTheEngine) {
  const std::string id(64, 'a');
  EXPECT_EQ(engine_of_cgroup("docker-" + id + ".scope"), EngineKind::docker);
  EXPECT_EQ(engine_of_cgroup(id), EngineKind::docker);
  EXPECT_EQ(engine_of_cgroup("libpod-" + id + ".scope"), EngineKind::podman);
  EXPECT_EQ(engine_of_cgroup("libpod-" + id), EngineKind::podman);
  EXPECT_EQ(engine_of_socket("/nowhere/docker.sock"), EngineKind::docker);
  EXPECT_EQ(engine_of_socket("/nowhere/podman/podman.sock"), EngineKind::podman);
  EXPECT_EQ(engine_of_socket("/nowhere/engine"), std::nullopt);
  EXPECT_EQ(engine_of_server("Libpod/4.3.1 (linux)"), EngineKind::podman);
  EXPECT_EQ(engine_of_server("Docker/20.10.24 (linux)"), EngineKind::docker);
  EXPECT_EQ(engine_of_server(""), std::nullopt);
  std::string directory = (std::filesystem::temp_directory_path() / "trireme-link-XXXXXX").string();
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  std::filesystem::create_symlink("/run/podman/podman.sock", directory + "/docker.sock");
  EXPECT_EQ(engine_of_socket(directory + "/docker.sock"), EngineKind::podman);
  std::filesystem::remove_all(directory);
}

TEST(DockerCgroup, TakenAtBirthAreThoseBelowSlicesAndKnownParents) {
  const std::string id(64, 'a');
  for (const std::string& path :
       {"/docker-" + id + ".scope", "/system.slice/docker-" + id + ".scope",
        "/a.slice/a-b.slice/libpod-" + id + ".scope", "/docker/" + id,
        "/libpod_parent/libpod-" + id}) {
    EXPECT_TRUE(is_taken_at_birth(path)) << path;
  }
  for (const std::string& path :
       {"/user.slice/user-1.slice/user@1.service/user.slice/libpod-" + id + ".scope",
        "/custom/docker-" + id + ".scope", "/custom/" + id, "/" + id}) {
    EXPECT_FALSE(is_taken_at_birth(path)) << path;
  }
}

TEST(DockerCgroup, TheOwnPartEndsWithTheId) {
  const std::string scope = "/a.slice/docker-" + kId + ".scope";
  EXPECT_EQ(own_part(scope, kId), scope);
  EXPECT_EQ(own_part(scope + "/init.scope", kId), scope);
  EXPECT_EQ(own_part("/docker/" + kId, kId), "/docker/" + kId);
  EXPECT_EQ(own_part("/docker/" + kId, std::string(64, 'b')), "");
  EXPECT_EQ(own_part("/", kId), "");
  EXPECT_EQ(own_part("", kId), "");
}

TEST(DockerCgroup, Parents) {
  EXPECT_EQ(parent_path("/a/b/"), "/a/b");
  EXPECT_EQ(parent_path("/a//x/../b"), "/a/b");
  EXPECT_EQ(parent_path("/../../etc"), "/etc");
  EXPECT_EQ(parent_path("/"), "");
  EXPECT_EQ(parent_path("trireme-docker.slice"), std::nullopt);
  EXPECT_EQ(parent_path(""), std::nullopt);
}

TEST(DockerLabels, WhatAnImageBringsAndWhatIsIgnored) {
  config::DockerSettings settings;
  const RawLabels image = {{"app", "web"}, {"tier", "x"}};
  const RawLabels both = {
      {"app", "web"}, {"tier", "y"}, {"own", "1"}, {"com.docker.compose.project", "p"}};
  const auto keys = [&] {
    std::vector<std::string> found;
    const policy::LabelSet identity = identity_labels(both, image, settings).value();
    for (const auto& [key, value] : identity.items()) {
      found.push_back(key);
    }
    return found;
  };
  EXPECT_THAT(keys(), ::testing::UnorderedElementsAre("own", "tier"));
  settings.image_labels = {"app"};
  settings.ignore_labels = {"own"};
  settings.ignore_labels.emplace_back("com.*");
  EXPECT_THAT(keys(), ::testing::UnorderedElementsAre("app", "tier"));
  settings.image_labels = {"ap"};
  settings.ignore_labels = {"ow", "com", "com.docker.compose"};
  EXPECT_THAT(keys(), ::testing::UnorderedElementsAre("own", "tier", "com.docker.compose.project"))
      << "without '*' the pattern is the whole key";
  EXPECT_FALSE(identity_labels({{"no label", "x"}}, {}, settings));
}

TEST(DockerLabels, ThoseThatTheImageHasTooAreTold) {
  config::DockerSettings settings;
  const RawLabels image = {{"app", "nginx"}, {"maintainer", "x"}, {"tier", "front"}, {"a", "b"}};
  const RawLabels labels = {{"app", "nginx"}, {"maintainer", "x"}, {"tier", "back"}, {"own", "o"}};
  const auto lost = [&] { return labels_lost_to_image(labels, image, settings); };
  EXPECT_THAT(lost(), testing::ElementsAre("app=nginx"));
  settings.labels = {"tier"};
  EXPECT_THAT(lost(), testing::IsEmpty());
  settings.labels.clear();
  settings.image_labels = {"app"};
  EXPECT_THAT(lost(), testing::IsEmpty());
}

TEST(DockerLabels, OnlyListedOnesWhereThereIsAList) {
  config::DockerSettings settings;
  settings.labels = {"app", "team-*"};
  const RawLabels container = {{"app", "web"},
                               {"team-a", "1"},
                               {"other", "x"},
                               {"traefik.enable", "true"},
                               {"com.docker.compose.project", "shop"}};
  EXPECT_EQ(identity_labels(container, {}, settings).value().text(), "app=web,team-a=1");
  EXPECT_EQ(identity_labels(container, {{"app", "web"}}, settings).value().text(), "team-a=1")
      << "the image has it too";
}

TEST(DockerLabels, LabelsMadeFromOthers) {
  config::DockerSettings settings;
  settings.label_from = {{"app", "com.docker.compose.project"}, {"task", "no.such.label"}};
  EXPECT_EQ(identity_labels({{"com.docker.compose.project", "shop"}}, {}, settings).value().text(),
            "app=shop");
  EXPECT_EQ(identity_labels({{"com.docker.compose.project", "shop"}, {"app", "web"}}, {}, settings)
                .value()
                .text(),
            "app=web")
      << "its own label takes precedence";
  EXPECT_FALSE(identity_labels({{"com.docker.compose.project", "two\nlines"}}, {}, settings));

  const RawLabels image = {{"com.docker.compose.project", "shop"}};
  EXPECT_TRUE(identity_labels(image, image, settings).value().empty())
      << "the source label is the image's";
  EXPECT_EQ(labels_lost_to_image(image, image, settings),
            std::vector<std::string>{"com.docker.compose.project=shop"});
  settings.image_labels = {"com.docker.compose.project"};
  EXPECT_EQ(identity_labels(image, image, settings).value().text(), "app=shop");
}

/// Swarm, Compose and proxies give every replica its own labels, so these are not part of the
/// identity.
TEST(DockerLabels, WhatOrchestratorsAddIsNoIdentity) {
  EXPECT_EQ(config::identity_labels({{"app", "web"},
                                     {"com.docker.swarm.task.id", "x1"},
                                     {"com.docker.stack.namespace", "shop"},
                                     {"io.podman.compose.project", "shop"},
                                     {"io.buildah.version", "1.28"},
                                     {"PODMAN_SYSTEMD_UNIT", "web.service"},
                                     {"traefik.http.routers.web.rule", "Host(`a`)"},
                                     {"org.label-schema.name", "web"},
                                     {"maintainer", "someone"}},
                                    {}, {})
                .value()
                .text(),
            "app=web");
}

TEST(ContainerWarnings, FollowDockersOwnRules) {
  const auto warns = [](std::vector<std::string> add, std::vector<std::string> drop,
                        const char* capability) {
    ContainerCapabilities capabilities;
    capabilities.add = std::move(add);
    capabilities.drop = std::move(drop);
    const auto lines = container_warnings(capabilities, {});
    return std::ranges::any_of(
        lines, [&](const std::string& line) { return line.find(capability) != std::string::npos; });
  };
  EXPECT_TRUE(warns({}, {}, "CAP_NET_RAW")) << "it is in the default set";
  EXPECT_FALSE(warns({}, {"net_raw"}, "CAP_NET_RAW"));
  EXPECT_FALSE(warns({}, {"ALL"}, "CAP_NET_RAW"));
  EXPECT_TRUE(warns({"CAP_NET_RAW"}, {"ALL"}, "CAP_NET_RAW"));
  EXPECT_FALSE(warns({"ALL"}, {"NET_RAW"}, "CAP_NET_RAW"));
  EXPECT_TRUE(warns({"all"}, {"NET_RAW"}, "CAP_NET_ADMIN"));
  EXPECT_FALSE(warns({}, {}, "CAP_NET_ADMIN"));
  ContainerCapabilities privileged;
  privileged.privileged = true;
  EXPECT_EQ(container_warnings(privileged, {}).size(), 1U);
}

}  // namespace
}  // namespace trireme::docker
