// SPDX-License-Identifier: Apache-2.0
// Who is a workload under which settings of identity.toml.
#include "trireme/workload/candidates.hpp"

#include <gmock/gmock.h>

namespace trireme::workload {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Containers = config::DockerSettings::Containers;

policy::LabelSet app(std::string_view value) {
  policy::LabelSet labels;
  EXPECT_TRUE(labels.set("app", value));
  return labels;
}

class Residents : public testing::Test {
 protected:
  void container(const std::string& name, config::RawLabels labels, bool has_own_network = false) {
    candidates_.containers.push_back({.id = name + "-id",
                                      .name = name,
                                      .cgroup = "/docker-" + name + ".scope",
                                      .has_own_network = has_own_network,
                                      .labels = std::move(labels),
                                      .image_labels = config::RawLabels()});
  }
  /// "name: labels" of each, "name! labels" in quarantine.
  [[nodiscard]] std::vector<std::string> found() const {
    std::vector<std::string> texts;
    for (const policy::Resident& each : residents(host_, candidates_, match_)) {
      texts.push_back(each.name + (each.blocked.empty() ? ": " : "! ") + each.labels.text());
    }
    return texts;
  }

  config::Host host_;
  Candidates candidates_;
  MatchUnit match_ = [](const std::string&) { return std::nullopt; };
};

TEST_F(Residents, ContainersByTheSetting) {
  container("web", {{"app", "web"}});
  container("bare", {});
  container("bridged", {{"app", "db"}}, true);
  EXPECT_THAT(found(), ElementsAre("web: app=web", "bare: ", "bridged: app=db"));
  host_.docker.containers = Containers::labeled;
  EXPECT_THAT(found(), ElementsAre("web: app=web", "bridged: app=db"));
  host_.docker.containers = Containers::host_network;
  EXPECT_THAT(found(), ElementsAre("web: app=web", "bare: "));
  host_.docker.containers = Containers::none;
  EXPECT_THAT(found(), IsEmpty());
}

TEST_F(Residents, LabelsByTheSettings) {
  container("web", {{"app", "web"}, {"com.docker.compose.project", "shop"}});
  host_.docker.labels = {"tier"};
  EXPECT_THAT(found(), ElementsAre("web: "));
  host_.docker.label_from = {{"tier", "com.docker.compose.project"}};
  EXPECT_THAT(found(), ElementsAre("web: tier=shop"));
}

TEST_F(Residents, HostLabelsAreAddedToEverybody) {
  ASSERT_TRUE(host_.labels.set("zone", "eu"));
  candidates_.processes.push_back({.name = "x.scope", .cgroup = "/x", .own_labels = app("x")});
  container("web", {{"app", "web"}});
  candidates_.units = {"/redis"};
  match_ = [](const std::string&) { return std::optional(std::pair("redis", app("db"))); };
  EXPECT_THAT(found(), ElementsAre("x.scope: app=x,zone=eu", "web: app=web,zone=eu",
                                   "redis: app=db,zone=eu"));
  const auto first = residents(host_, candidates_, match_).front();
  EXPECT_THAT(first.labels.host_keys(), ElementsAre("zone"));
}

TEST_F(Residents, WhatCannotBeLabeledIsInQuarantine) {
  container("odd", {{"no label", "x"}});
  candidates_.containers.push_back({.id = "new-id",
                                    .name = "new",
                                    .cgroup = "/docker-new.scope",
                                    .has_own_network = true,
                                    .labels = std::nullopt,
                                    .image_labels = std::nullopt});
  EXPECT_THAT(found(), ElementsAre("odd! ", "new! "));
  host_.docker.containers = Containers::labeled;
  EXPECT_THAT(found(), SizeIs(2)) << "unknown labels are not no labels";
  candidates_.containers.erase(candidates_.containers.begin() + 1);
  host_.docker.containers = Containers::all;
  EXPECT_THAT(residents(host_, candidates_, match_).front().blocked, HasSubstr("no label"));
}

TEST_F(Residents, LabelsAreUnknownUntilThoseOfTheImageAreKnown) {
  container("web", {{"app", "web"}});
  candidates_.containers.front().image_labels.reset();
  EXPECT_THAT(found(), ElementsAre("web! "));
  candidates_.containers.front().labels = config::RawLabels();
  EXPECT_THAT(found(), ElementsAre("web: ")) << "no labels, whatever the image has";
}

TEST_F(Residents, AContainerIsNoUnit) {
  container("web", {{"app", "web"}});
  candidates_.units = {"/docker-web.scope"};
  match_ = [](const std::string& cgroup) { return std::optional(std::pair(cgroup, app("unit"))); };
  EXPECT_THAT(found(), ElementsAre("web: app=web"));
  host_.docker.containers = Containers::none;
  EXPECT_THAT(found(), ElementsAre("/docker-web.scope: app=unit"));
}

TEST_F(Residents, TheKeyIsTheCgroupOrTheContainer) {
  container("web", {});
  EXPECT_EQ(residents(host_, candidates_, match_).front().key, "/docker-web.scope");
  candidates_.containers.front().cgroup.clear();
  EXPECT_EQ(residents(host_, candidates_, match_).front().key, "web-id");
}

}  // namespace
}  // namespace trireme::workload
