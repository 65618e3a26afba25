// SPDX-License-Identifier: Apache-2.0
// Settings of identity.toml that differ; and which containers become workloads.
#include "trireme/config/host_diff.hpp"

#include <gmock/gmock.h>

#include "trireme/config/container_labels.hpp"
#include "trireme/config/loader.hpp"

namespace trireme::config {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Host host_of(const std::string& identity) {
  Configuration read = parse({}, {{"identity.toml", identity}});
  EXPECT_TRUE(read.valid()) << read.diagnostics.front().text();
  return std::move(read.host);
}

std::vector<std::string> differing(const std::string& before, const std::string& after) {
  return differing_settings(host_of(before), host_of(after));
}

constexpr const char* kAll = R"(
[host]
name = "a"
labels = { zone = "eu" }
peers = ["10.0.0.0/8"]
nat = ["203.0.113.0/24"]
[docker]
socket = "/run/docker.sock"
containers = "labeled"
label_from = { app = "com.docker.compose.project" }
image_labels = ["tier"]
[[unit]]
name = "a.service"
labels = { app = "a" }
[[unit]]
name = "b.service"
labels = { app = "b" }
[[launch]]
user = "deploy"
labels = ["app=web*"]
[metrics]
listen = "127.0.0.1:9464"
)";

TEST(HostDiff, EqualSettingsDifferInNothing) {
  EXPECT_THAT(differing(kAll, kAll), IsEmpty());
  EXPECT_THAT(differing("", "[docker]\ncontainers = \"all\"\n"), IsEmpty()) << "the default";
  EXPECT_THAT(
      differing("[docker]\ncontainers = \"labelled\"\n", "[docker]\ncontainers = \"labeled\"\n"),
      IsEmpty());
}

TEST(HostDiff, EverySettingIsCompared) {
  EXPECT_THAT(
      differing(kAll, ""),
      ElementsAre("[host] name: a -> none", "[host] labels: zone=eu -> none",
                  "[host] peers: 10.0.0.0/8 -> none", "[host] nat: 203.0.113.0/24 -> none",
                  "[docker] containers: labeled -> all",
                  "[docker] label_from: app from com.docker.compose.project -> none",
                  "[docker] image_labels: tier -> none", "[metrics] listen: 127.0.0.1:9464 -> none",
                  "[[unit]] a.service (app=a): removed", "[[unit]] b.service (app=b): removed",
                  "[[launch]] user deploy (app=web*): removed"));
}

TEST(HostDiff, EntriesAreComparedInAnyOrder) {
  constexpr const char* kUnit = "[[unit]]\nname = \"{}\"\nlabels = {{ app = \"{}\" }}\n";
  const std::string a = fmt::format(fmt::runtime(kUnit), "a.service", "a");
  const std::string b = fmt::format(fmt::runtime(kUnit), "b.service", "b");
  EXPECT_THAT(differing(a + b, b + a), IsEmpty());
  EXPECT_THAT(differing(a, b), ElementsAre("[[unit]] a.service (app=a): removed",
                                           "[[unit]] b.service (app=b): added"));
}

TEST(HostDiff, WhichContainersAreUnderPolicy) {
  policy::LabelSet web;
  ASSERT_TRUE(web.set("app", "web"));
  DockerSettings settings;
  using Containers = DockerSettings::Containers;
  EXPECT_TRUE(is_under_policy(settings, {}, true));
  settings.containers = Containers::labeled;
  EXPECT_TRUE(is_under_policy(settings, web, true));
  EXPECT_FALSE(is_under_policy(settings, {}, false));
  settings.containers = Containers::host_network;
  EXPECT_TRUE(is_under_policy(settings, {}, false));
  EXPECT_FALSE(is_under_policy(settings, web, true));
  settings.containers = Containers::none;
  EXPECT_FALSE(is_under_policy(settings, web, false));
}

}  // namespace
}  // namespace trireme::config
