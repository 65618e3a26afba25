// SPDX-License-Identifier: Apache-2.0
#include "trireme/docker/source.hpp"

#include <gmock/gmock.h>

#include "docker_support.hpp"

namespace trireme::docker {

using namespace workload;

namespace {

using test::DockerTest;
using test::hex;
using test::json;
using test::labels;
using test::Process;
using Containers = config::DockerSettings::Containers;

TEST_F(DockerTest, LabelsKnownBeforeTheStartAreEnforcedAtBirth) {
  connect();
  create(hex('a'), "web");
  docker_->emit("create", hex('a'));
  ASSERT_TRUE(await([&] { return docker_->inspections == 1; }));
  settle();
  const std::string path = create_cgroup(hex('a'));
  ASSERT_TRUE(becomes(hex('a'), "enforced"));
  EXPECT_EQ(news_, std::vector<std::string>{"web enforced"}) << "never quarantined";
  EXPECT_EQ(kernel_.cgroups.at(id(path)).labels, labels({{"app", "web"}}));
}

TEST_F(DockerTest, UnknownOnesAreQuarantinedAtBirthUntilInspected) {
  EXPECT_EQ(source_->status(), "not running: " + docker_->socket() + " does not exist");
  create(hex('a'), "web");
  const std::string path = create_cgroup(hex('a'));
  ASSERT_TRUE(becomes(hex('a'), "quarantined"));
  EXPECT_EQ(kernel_.cgroups.at(id(path)).number, 0U);
  run(hex('a'), path);
  docker_->start();
  EXPECT_TRUE(becomes(hex('a'), "enforced"));
  EXPECT_EQ(source_->status(), "Docker 20.10.24, cgroup driver systemd, 1 container");
}

TEST_F(DockerTest, AnUnknownNetworkWaitsInQuarantine) {
  connect();
  create(hex('a'), "web", {{"app", "web"}}, "");
  const std::string path = create_cgroup(hex('a'));
  ASSERT_TRUE(await([&] { return docker_->inspections > 0; }));
  settle();
  EXPECT_EQ(state(hex('a')), "quarantined");
  run(hex('a'), path);
  docker_->emit("start", hex('a'));
  EXPECT_TRUE(becomes(hex('a'), "enforced"));
}

TEST_F(DockerTest, LabelsOfTheImageAreNoIdentity) {
  docker_->images["sha256:base"] = {{"app", "web"}, {"owner", "x"}, {"role", "front"}};
  settings_.docker.image_labels = {"ro*"};
  configure();
  connect();
  create(hex('a'), "web",
         {{"app", "web"},
          {"owner", "me"},
          {"role", "front"},
          {"org.opencontainers.image.title", "t"}});
  launch(hex('a'));
  ASSERT_TRUE(becomes(hex('a'), "enforced"));
  EXPECT_EQ(registry_->find_container(hex('a'))->labels,
            labels({{"owner", "me"}, {"role", "front"}}));
  EXPECT_THAT(registry_->find_container(hex('a'))->warnings,
              ::testing::Contains(::testing::HasSubstr("not part of the identity: app=web: ")));
  settings_.docker.image_labels = {"*"};
  configure();
  EXPECT_THAT(registry_->find_container(hex('a'))->warnings,
              ::testing::Not(::testing::Contains(::testing::HasSubstr("image_labels"))));
  EXPECT_EQ(registry_->find_container(hex('a'))->labels,
            labels({{"app", "web"}, {"owner", "me"}, {"role", "front"}}));
}

TEST_F(DockerTest, AnImageThatIsGoneKeepsItsContainersShut) {
  docker_->images.clear();
  connect();
  create(hex('a'), "web");
  create(hex('b'), "bridge", {{"app", "web"}}, "default");
  launch(hex('a'));
  launch(hex('b'), true);
  for (const char digit : {'a', 'b'}) {
    ASSERT_TRUE(await([&] {
      const Workload* workload = registry_->find_container(hex(digit));
      return workload != nullptr && workload->reason.starts_with("its image is gone");
    }));
    EXPECT_EQ(state(hex(digit)), "quarantined");
  }
}

TEST_F(DockerTest, TheSettingSaysWhichContainersAreWorkloads) {
  connect();
  create(hex('a'), "labelled");
  create(hex('b'), "bare", nullptr);
  create(hex('c'), "bridge", {{"app", "web"}}, "default");
  launch(hex('a'));
  launch(hex('b'));
  launch(hex('c'), true);
  using States = std::vector<std::string>;
  const auto states = [&] { return States{state(hex('a')), state(hex('b')), state(hex('c'))}; };
  EXPECT_TRUE(await([&] { return states() == States{"enforced", "enforced", "enforced"}; }));
  const std::pair<Containers, States> cases[] = {
      {Containers::labeled, {"enforced", "", "enforced"}},
      {Containers::host_network, {"enforced", "enforced", ""}},
      {Containers::none, {"", "", ""}},
      {Containers::all, {"enforced", "enforced", "enforced"}}};
  for (const auto& [containers, expected] : cases) {
    settings_.docker.containers = containers;
    configure();
    EXPECT_TRUE(await([&] { return states() == expected; })) << static_cast<int>(containers);
  }
}

/// The kernel has quarantined it before the daemon saw it; the registry does not know it.
TEST_F(DockerTest, AContainerThatIsLeftAloneAtItsBirthIsReleased) {
  settings_.docker.containers = Containers::labeled;
  configure();
  connect();
  create(hex('a'), "bare", nullptr);
  docker_->emit("create", hex('a'));
  ASSERT_TRUE(await([&] { return docker_->inspections > 0; }));
  settle();
  const std::string path = create_cgroup(hex('a'));
  EXPECT_TRUE(await(
      [&] { return std::ranges::find(kernel_.calls, "release " + path) != kernel_.calls.end(); }));
  EXPECT_EQ(state(hex('a')), "");
}

TEST_F(DockerTest, AHeldContainerThatIsCreatedAgainWithoutLabelsIsStillHeld) {
  settings_.docker.containers = Containers::labeled;
  configure();
  connect();
  create(hex('a'), "web");
  const std::string path = create_cgroup(hex('a'));
  ASSERT_TRUE(becomes(hex('a'), "enforced"));
  ASSERT_TRUE(registry_->hold("web", "alice", ""));
  ASSERT_TRUE(tree_->remove(path));
  docker_->containers.clear();
  docker_->emit("destroy", hex('a'));
  ASSERT_TRUE(becomes(hex('a'), ""));
  create(hex('b'), "web", nullptr);
  launch(hex('b'));
  EXPECT_TRUE(await([&] {
    const Workload* known = registry_->find_container(hex('b'));
    return known != nullptr && known->state == State::quarantined &&
           known->reason.starts_with("ordered by alice");
  }));
  ASSERT_TRUE(registry_->end_hold("web", "alice"));
  configure();
  EXPECT_TRUE(becomes(hex('b'), ""));
}

TEST_F(DockerTest, NoneFollowsContainersWhileAnOrderIsForOne) {
  connect();
  create(hex('a'), "web");
  create(hex('b'), "other");
  const std::string held = create_cgroup(hex('a'));
  const std::string other = create_cgroup(hex('b'));
  ASSERT_TRUE(becomes(hex('a'), "enforced"));
  ASSERT_TRUE(becomes(hex('b'), "enforced"));
  ASSERT_TRUE(registry_->hold("web", "alice", ""));
  settings_.docker.containers = Containers::none;
  configure();
  EXPECT_EQ(state(hex('a')), "quarantined");
  EXPECT_EQ(state(hex('b')), "");
  ASSERT_TRUE(await([&] { return is_connected(); }));
  settle();
  EXPECT_EQ(state(hex('a')), "quarantined");
  EXPECT_EQ(state(hex('b')), "");
  EXPECT_FALSE(is_in_kernel(other));

  // The same container again: its id is enough.
  docker_->silent.insert(hex('a'));
  ASSERT_TRUE(tree_->remove(held));
  ASSERT_TRUE(becomes(hex('a'), ""));
  create_cgroup(hex('a'));
  ASSERT_TRUE(becomes(hex('a'), "quarantined"));
  EXPECT_TRUE(is_in_kernel(held));

  // The same name: until the engine reports it, nothing is decided about the new cgroup.
  create(hex('c'), "web");
  create(hex('d'), "third");
  docker_->silent.insert({hex('c'), hex('d')});
  kernel_.calls.clear();
  const std::string named = create_cgroup(hex('c'));
  const std::string third = create_cgroup(hex('d'));
  settle();
  EXPECT_TRUE(kernel_.calls.empty());
  docker_->silent.clear();
  docker_->end_streams();  // the source connects again, and asks again
  EXPECT_TRUE(becomes(hex('c'), "quarantined"));
  EXPECT_TRUE(await(
      [&] { return std::ranges::find(kernel_.calls, "release " + third) != kernel_.calls.end(); }));
  EXPECT_EQ(state(hex('d')), "");
  EXPECT_TRUE(source_->known().empty()) << "they are no candidates for workloads";

  ASSERT_TRUE(registry_->end_hold("web", "alice"));
  configure();
  EXPECT_EQ(registry_->size(), 0U);
  EXPECT_FALSE(is_in_kernel(named));
  create_cgroup(hex('e'));
  settle();
  EXPECT_EQ(registry_->size(), 0U);
}

TEST_F(DockerTest, NoneReleasesThoseOfAnEarlierDaemon) {
  connect();
  create(hex('a'), "web");
  launch(hex('a'));
  ASSERT_TRUE(becomes(hex('a'), "enforced"));
  create_cgroup(hex('b'));
  ASSERT_TRUE(becomes(hex('b'), "quarantined"));
  settings_.docker.containers = Containers::none;
  start_daemon();
  EXPECT_EQ(registry_->size(), 0U);
  EXPECT_TRUE(kernel_.cgroups.empty());
  create_cgroup(hex('c'));
  settle();
  EXPECT_EQ(registry_->size(), 0U);
}

TEST_F(DockerTest, WhatHappensWhileTheListIsMadeIsNotMissed) {
  docker_->is_list_held = true;
  docker_->start();
  ASSERT_TRUE(await([&] { return docker_->lists == 1; }));
  create(hex('a'), "web");
  docker_->emit("create", hex('a'));
  settle();
  docker_->release_list();
  ASSERT_TRUE(await([&] { return docker_->inspections == 1; }));
  settle();
  create_cgroup(hex('a'));
  EXPECT_TRUE(becomes(hex('a'), "enforced"));
  EXPECT_EQ(news_, std::vector<std::string>{"web enforced"})
      << "its labels were known when the cgroup was created";
}

TEST_F(DockerTest, OneBadContainerStopsNoOther) {
  create(hex('a'), "broken");
  create(hex('b'), "good");
  create(hex('c'), "no-label-of-ours", {{"Bad Key", "x"}});
  docker_->failing.insert(hex('a'));
  docker_->more_listed = {
      nullptr, 7, {{"Id", "../../x"}}, {{"Id", hex('d')}, {"Labels", {{"app", 7}}}}};
  run(hex('a'), create_cgroup(hex('a')));
  run(hex('b'), create_cgroup(hex('b')));
  run(hex('c'), create_cgroup(hex('c')));
  create_cgroup(hex('d'));
  docker_->start();
  ASSERT_TRUE(becomes(hex('b'), "enforced"));
  EXPECT_TRUE(becomes(hex('c'), "quarantined"));
  EXPECT_TRUE(becomes(hex('d'), "quarantined"));
  EXPECT_TRUE(await([&] {
    return registry_->find_container(hex('c'))->reason.find("Bad Key") != std::string::npos;
  }));
  // For the first container, the list is sufficient. The last one is inspected again until the
  // answer is valid.
  EXPECT_TRUE(becomes(hex('a'), "enforced"));
  create(hex('d'), "late");
  docker_->more_listed.clear();
  docker_->failing.clear();
  docker_->emit("start", hex('d'));
  EXPECT_TRUE(becomes(hex('d'), "enforced"));
}

TEST_F(DockerTest, AFailedInspectionIsTriedAgain) {
  connect();
  create(hex('a'), "web");
  docker_->failing.insert(hex('a'));
  create_cgroup(hex('a'));
  ASSERT_TRUE(await([&] {
    const Workload* workload = registry_->find_container(hex('a'));
    return workload != nullptr &&
           workload->reason == "cannot get its labels from Docker: HTTP status 500";
  }));
  docker_->failing.clear();
  EXPECT_TRUE(becomes(hex('a'), "enforced"));
}

TEST_F(DockerTest, AFailedEnrolmentIsTriedAgain) {
  connect();
  create(hex('a'), "web");
  kernel_.refuse_enrolment = true;
  launch(hex('a'));
  ASSERT_TRUE(await([&] { return kernel_.enrolments > 0; }));
  settle();
  EXPECT_EQ(state(hex('a')), "quarantined");
  kernel_.refuse_enrolment = false;
  EXPECT_TRUE(becomes(hex('a'), "enforced"));
}

TEST_F(DockerTest, OneThatDoesNotAnswerStopsNoOther) {
  connect();
  create(hex('a'), "slow");
  create(hex('b'), "good");
  docker_->silent.insert(hex('a'));
  launch(hex('a'));
  launch(hex('b'));
  EXPECT_TRUE(becomes(hex('b'), "enforced"));
  EXPECT_EQ(state(hex('a')), "quarantined");
}

TEST_F(DockerTest, AStreamThatIsCutIsOpenedAgainAndNothingIsUnprotectedMeanwhile) {
  create(hex('a'), "web");
  create(hex('b'), "leaves", {{"app", "db"}});
  run(hex('a'), create_cgroup(hex('a')));
  connect();
  const std::string leaving = create_cgroup(hex('b'));
  ASSERT_TRUE(becomes(hex('a'), "enforced"));
  ASSERT_TRUE(becomes(hex('b'), "enforced"));
  const policy::Number number = registry_->find_container(hex('a'))->number;
  news_.clear();
  docker_->say(R"({"Type":"container","Action":"cre)");
  settle();
  docker_->end_streams();
  ASSERT_TRUE(await([&] { return !is_connected(); }));
  EXPECT_EQ(state(hex('a')), "enforced");
  docker_->containers.erase(hex('b'));
  create(hex('c'), "comes");
  ASSERT_TRUE(await([&] { return is_connected() && docker_->lists == 2; }));
  EXPECT_TRUE(becomes(hex('b'), "quarantined")) << "its cgroup still exists";
  ASSERT_TRUE(tree_->remove(leaving));
  EXPECT_TRUE(becomes(hex('b'), ""));
  create_cgroup(hex('c'));
  EXPECT_TRUE(becomes(hex('c'), "enforced"));
  EXPECT_EQ(registry_->find_container(hex('a'))->number, number);
  EXPECT_THAT(news_, ::testing::Not(::testing::Contains("web quarantined")));
}

TEST_F(DockerTest, ALineThatIsNoJsonMeansLookingAtEverythingAgain) {
  connect();
  docker_->say("{\"Type\":\"conta\n");
  EXPECT_TRUE(await([&] { return docker_->lists == 2 && is_connected(); }));
  docker_->say("\n");
  create(hex('a'), "web");
  launch(hex('a'));
  EXPECT_TRUE(becomes(hex('a'), "enforced"));
}

TEST_F(DockerTest, DockerRestarts) {
  create(hex('a'), "web");
  connect();
  const std::string path = create_cgroup(hex('a'));
  run(hex('a'), path);
  ASSERT_TRUE(becomes(hex('a'), "enforced"));
  docker_->stop();
  ASSERT_TRUE(await([&] { return !is_connected(); }));
  create(hex('b'), "new");
  const std::string fresh = create_cgroup(hex('b'));
  ASSERT_TRUE(becomes(hex('b'), "quarantined"));
  EXPECT_EQ(kernel_.cgroups.at(id(path)).labels, labels({{"app", "web"}}));
  EXPECT_TRUE(await([&] { return source_->status().starts_with("not "); })) << source_->status();
  docker_->start();
  EXPECT_TRUE(becomes(hex('b'), "enforced"));
  EXPECT_EQ(state(hex('a')), "enforced");
}

TEST_F(DockerTest, ARestartedDaemonKeepsWhatDockerCannotTellNow) {
  create(hex('a'), "web");
  connect();
  run(hex('a'), create_cgroup(hex('a')));
  ASSERT_TRUE(becomes(hex('a'), "enforced"));
  const policy::Number number = registry_->find_container(hex('a'))->number;
  docker_->stop();
  kernel_.cgroups.clear();
  start_daemon();
  settle();
  EXPECT_EQ(state(hex('a')), "enforced") << registry_->find_container(hex('a'))->reason;
  EXPECT_EQ(registry_->find_container(hex('a'))->number, number);
}

TEST_F(DockerTest, EachStartIsEnforcedAgain) {
  connect();
  create(hex('a'), "loop");
  const std::string path = "/system.slice/docker-" + hex('a') + ".scope";
  std::uint64_t last = 0;
  for (unsigned i = 0; i < 5; ++i) {
    run(hex('a'), create_cgroup(hex('a')));
    docker_->emit("start", hex('a'));
    ASSERT_TRUE(becomes(hex('a'), "enforced"));
    ASSERT_NE(id(path), last) << "a new cgroup each time";
    last = id(path);
    EXPECT_NE(kernel_.cgroups.at(last).number, 0U);
    processes_.clear();
    docker_->containers[hex('a')]["State"]["Pid"] = 0;
    ASSERT_TRUE(await([&] { return !tree_->populated(path); }));
    ASSERT_TRUE(tree_->remove(path));
    docker_->emit("die", hex('a'));
    ASSERT_TRUE(becomes(hex('a'), ""));
    ASSERT_TRUE(kernel_.cgroups.empty());
  }
}

TEST_F(DockerTest, ARemovedContainerIsNoWorkload) {
  connect();
  create(hex('a'), "web");
  const std::string path = create_cgroup(hex('a'));
  ASSERT_TRUE(becomes(hex('a'), "enforced"));
  ASSERT_TRUE(tree_->remove(path));
  docker_->containers.clear();
  docker_->emit("destroy", hex('a'));
  EXPECT_TRUE(becomes(hex('a'), ""));
  EXPECT_TRUE(kernel_.cgroups.empty());
}

TEST_F(DockerTest, FindsContainersUnderEitherDriverAndAnyParent) {
  connect();
  create(hex('a'), "slice");
  create(hex('b'), "cgroupfs");
  create(hex('c'), "parent");
  create(hex('d'), "daemons-parent");
  create(hex('e'), "sibling");
  docker_->containers[hex('c')]["HostConfig"]["CgroupParent"] = "/custom/deep/";
  docker_->emit("create", hex('c'));
  ASSERT_TRUE(await([&] { return docker_->inspections == 1; }));
  settle();
  create_cgroup_at("/trireme.slice/trireme-docker.slice/docker-" + hex('a') + ".scope");
  create_cgroup_at("/docker/" + hex('b'));
  create_cgroup_at("/custom/deep/" + hex('c'));
  for (const char digit : {'a', 'b', 'c'}) {
    EXPECT_TRUE(becomes(hex(digit), "enforced")) << digit;
  }
  // An inspection does not contain dockerd's own --cgroup-parent=. The first container below it is
  // found through its process, which here is in a cgroup below the container's.
  const std::string deep = create_cgroup_at("/elsewhere/" + hex('d') + "/init.scope");
  run(hex('d'), deep);
  docker_->emit("start", hex('d'));
  ASSERT_TRUE(becomes(hex('d'), "enforced"));
  EXPECT_EQ(registry_->find_container(hex('d'))->cgroup_path, "/elsewhere/" + hex('d'));
  create_cgroup_at("/elsewhere/" + hex('e'));
  EXPECT_TRUE(becomes(hex('e'), "enforced")) << "from then on when its cgroup is created";
}

TEST_F(DockerTest, AnExcludedContainerStaysDeniedInTheStrictSlice) {
  settings_.docker.containers = Containers::labeled;
  configure();
  connect();
  create(hex('a'), "bare", nullptr);
  const std::string path = create_cgroup_at("/trireme.slice/docker-" + hex('a') + ".scope");
  ASSERT_TRUE(await([&] { return docker_->inspections > 0; }));
  settle();
  EXPECT_FALSE(is_in_kernel(path));
  ASSERT_TRUE(is_in_kernel("/trireme.slice"));
  EXPECT_EQ(kernel_.cgroups.at(id("/trireme.slice")).number, 0U);
}

TEST_F(DockerTest, AContainerWithoutACgroupOfItsOwnIsListedAsUnprotected) {
  connect();
  create(hex('a'), "web");
  run(hex('a'), create_cgroup_at("/containerd"));
  docker_->emit("start", hex('a'));
  ASSERT_TRUE(becomes(hex('a'), "unenforced"));
  EXPECT_THAT(registry_->find_container(hex('a'))->reason,
              ::testing::StartsWith("NOT PROTECTED: its processes are in cgroup /containerd"));
}

TEST_F(DockerTest, AContainerThatHasEndedIsNotListedAsUnprotected) {
  connect();
  create(hex('a'), "web");
  const std::string path = create_cgroup_at("/containerd");
  const pid_t pid = static_cast<pid_t>(run(hex('a'), path));
  // Ended and not reaped, as while the runtime has not looked yet.
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  ASSERT_TRUE(tree_->remove(path));
  const auto seen = kernel::CgroupTree::of(static_cast<std::uint32_t>(pid));
  ASSERT_TRUE(seen && seen->ends_with(path + " (deleted)")) << (seen ? *seen : "");
  docker_->emit("start", hex('a'));
  ASSERT_TRUE(await([&] { return docker_->inspections == 1; }));
  settle();
  EXPECT_EQ(registry_->find_container(hex('a')), nullptr);
}

TEST_F(DockerTest, ContainersOfAnEngineThatIsNotConfiguredAreLeftAlone) {
  test::FakeDocker podman(loop_, "podman");
  podman.images["sha256:base"] = nullptr;
  settings_.docker.sockets = {docker_->socket(), podman.socket()};
  configure();
  connect();
  create(hex('a'), "web");
  launch(hex('a'));
  ASSERT_TRUE(becomes(hex('a'), "enforced"));
  create(hex('b'), "pod", {{"app", "db"}}, "host");
  podman.containers.insert(docker_->containers.extract(hex('b')));
  const std::string path = create_cgroup_at("/system.slice/libpod-" + hex('b') + ".scope");
  podman.containers[hex('b')]["State"]["Pid"] = place(path).pid();
  ASSERT_TRUE(becomes(hex('b'), "quarantined")) << "its engine is configured, and does not answer";

  settings_.docker.sockets = {docker_->socket()};
  configure();
  EXPECT_EQ(state(hex('b')), "unenforced");
  EXPECT_FALSE(is_in_kernel(path));
  EXPECT_FALSE(tree_->attribute(path, kernel::kRecordXattr)->has_value());
  EXPECT_THAT(registry_->find_container(hex('b'))->reason,
              ::testing::HasSubstr("a container of Podman"));
  EXPECT_THAT(source_->status(), ::testing::HasSubstr("1 container left alone"));
  EXPECT_EQ(state(hex('a')), "enforced");

  settings_.docker.sockets = {docker_->socket(), podman.socket()};
  configure();
  podman.start();
  ASSERT_TRUE(becomes(hex('b'), "enforced"));
  EXPECT_EQ(kernel_.cgroups.at(id(path)).labels, labels({{"app", "db"}}));
  EXPECT_EQ(kernel_.enrolments, 2U) << "the other engine's container was not changed";

  settings_.docker.sockets = {docker_->socket()};
  start_daemon();
  ASSERT_TRUE(await([&] { return is_connected(); }));
  EXPECT_EQ(state(hex('b')), "unenforced") << "regardless of its state in an earlier daemon";
  EXPECT_FALSE(is_in_kernel(path));
  processes_.pop_back();
  ASSERT_TRUE(await([&] { return !tree_->populated(path); }));
  ASSERT_TRUE(tree_->remove(path));
  EXPECT_TRUE(becomes(hex('b'), ""));
}

TEST_F(DockerTest, OfTwoEnginesOfOneKindTheOneThatKnowsItCounts) {
  test::FakeDocker second(loop_);
  second.images["sha256:base"] = nullptr;
  settings_.docker.sockets = {docker_->socket(), second.socket()};
  configure();
  connect();
  create(hex('b'), "elsewhere");
  second.containers.insert(docker_->containers.extract(hex('b')));
  const std::string path = create_cgroup(hex('b'));
  second.containers[hex('b')]["State"]["Pid"] = place(path).pid();
  ASSERT_TRUE(await([&] { return docker_->inspections > 0; }));
  settle();
  EXPECT_EQ(state(hex('b')), "quarantined");
  EXPECT_THAT(registry_->find_container(hex('b'))->reason,
              ::testing::HasSubstr("waiting for its engine"))
      << "the other engine may know it";
  second.start();
  ASSERT_TRUE(becomes(hex('b'), "enforced"));
  docker_->emit("start", hex('b'));
  settle();
  EXPECT_EQ(state(hex('b')), "enforced") << "an engine that does not know it is ignored";
  second.containers.clear();
  second.emit("die", hex('b'));
  EXPECT_TRUE(becomes(hex('b'), "quarantined")) << "a process remains";
}

TEST_F(DockerTest, AnEngineSaysItselfWhichItIs) {
  test::FakeDocker engine(loop_, "engine");
  engine.images["sha256:base"] = nullptr;
  engine.server = "Libpod/4.3.1 (linux)";
  settings_.docker.sockets = {engine.socket()};
  configure();
  const std::string dockers = create_cgroup(hex('a'));
  const std::string podmans = create_cgroup_at("/system.slice/libpod-" + hex('b') + ".scope");
  ASSERT_TRUE(becomes(hex('a'), "quarantined")) << "the kind of the engine is not known yet";
  ASSERT_TRUE(becomes(hex('b'), "quarantined"));
  engine.start();
  EXPECT_TRUE(becomes(hex('a'), "unenforced"));
  EXPECT_FALSE(is_in_kernel(dockers));
  EXPECT_THAT(source_->status(), ::testing::HasSubstr("Podman 20.10.24"));
  ASSERT_TRUE(await([&] {
    return registry_->find_container(hex('b'))->reason == "Podman does not know this container";
  }));
  EXPECT_TRUE(is_in_kernel(podmans));
}

TEST_F(DockerTest, WarnsOfWhatUndoesPolicy) {
  connect();
  create(hex('a'), "web");
  docker_->containers[hex('a')]["HostConfig"].update({{"CapDrop", nullptr}, {"PidMode", "host"}});
  docker_->containers[hex('a')]["Mounts"] = {{{"Source", "/run/docker.sock"}}};
  create_cgroup(hex('a'));
  ASSERT_TRUE(becomes(hex('a'), "enforced"));
  EXPECT_THAT(registry_->find_container(hex('a'))->warnings,
              ::testing::ElementsAre(::testing::StartsWith("may gain CAP_NET_RAW"),
                                     ::testing::StartsWith("host PID namespace"),
                                     ::testing::StartsWith("has Docker's socket")));
}

}  // namespace
}  // namespace trireme::docker
