// SPDX-License-Identifier: Apache-2.0
// Containers in other network namespaces than the daemon's: the start, the ownership of the
// namespace, and the end.
#include <gmock/gmock.h>

#include "docker_support.hpp"

namespace trireme::docker {

using namespace workload;

namespace {

using test::hex;
using test::json;
using test::labels;
using test::Process;
using Calls = std::vector<std::string>;
using Containers = config::DockerSettings::Containers;

class DockerNetworkTest : public test::DockerTest {
 protected:
  /// Lets Docker report a container that is not started.
  void announce(const std::string& id, const std::string& name, const json& set,
                const std::string& network) {
    create(id, name, set, network);
    docker_->emit("create", id);
    const unsigned before = docker_->inspections;
    ASSERT_TRUE(await([&] { return docker_->inspections > before; }));
    settle();
  }
  [[nodiscard]] const test::FakeEnforcement::Entry& entry(const std::string& path) {
    return kernel_.cgroups.at(id(path));
  }
};

TEST_F(DockerNetworkTest, IsShutFromBirthUntilItsNetworkIsFound) {
  connect();
  create(hex('b'), "bridge", {{"app", "web"}}, "default");
  docker_->containers[hex('b')]["HostConfig"]["PortBindings"] = {
      {"80/tcp", {{{"HostPort", "80"}}}}};
  docker_->emit("create", hex('b'));
  settle();
  const std::string path = create_cgroup(hex('b'));
  ASSERT_TRUE(becomes(hex('b'), "quarantined"));
  EXPECT_EQ(network_text(*registry_->find_container(hex('b'))), nullptr);
  Process& process = place(path);
  settle();
  EXPECT_EQ(state(hex('b')), "quarantined") << "still in the daemon's network namespace";
  process.leave_network();
  ASSERT_TRUE(becomes(hex('b'), "enforced"));
  EXPECT_EQ(kernel_.calls, (Calls{"quarantine " + path, "enrol " + path + " own"}));
  EXPECT_EQ(entry(path).network, process.network());
  EXPECT_EQ(entry(path).labels, labels({{"app", "web"}}));

  docker_->containers[hex('b')]["State"]["Pid"] = process.pid();
  docker_->emit("start", hex('b'));
  ASSERT_TRUE(await([&] { return registry_->find_container(hex('b'))->pid == process.pid(); }));
  EXPECT_EQ(kernel_.calls.size(), 2U) << "the start event changes nothing";
  EXPECT_STREQ(network_text(*registry_->find_container(hex('b'))), "own");
  settle();
  EXPECT_EQ(sd_event_run(loop_, 50'000), 0) << "the search has ended";
  EXPECT_THAT(registry_->find_container(hex('b'))->warnings,
              ::testing::Contains(::testing::AllOf(
                  ::testing::StartsWith("published ports: docker-proxy"),
                  ::testing::HasSubstr("from @world at the address of its bridge"))));

  stop(hex('b'), path);
  EXPECT_TRUE(becomes(hex('b'), ""));
  EXPECT_EQ(kernel_.calls.back(), "end " + path + " own");
  EXPECT_TRUE(kernel_.cgroups.empty());
}

TEST_F(DockerNetworkTest, IsFoundBeforeItsLabelsAreKnown) {
  create(hex('b'), "bridge", {{"app", "web"}}, "default");
  const std::string path = create_cgroup(hex('b'));
  place(path, true);
  ASSERT_TRUE(becomes(hex('b'), "quarantined"));
  docker_->start();
  ASSERT_TRUE(becomes(hex('b'), "enforced")) << "before the start event";
  EXPECT_EQ(kernel_.calls.back(), "enrol " + path + " own");
}

TEST_F(DockerNetworkTest, IsEnrolledAtBirthWhereItIsThereAlready) {
  connect();
  announce(hex('b'), "bridge", {{"app", "web"}}, "none");
  const std::string path = create_cgroup(hex('b'));
  const Process& process = place(path, true);
  ASSERT_TRUE(becomes(hex('b'), "enforced"));
  EXPECT_EQ(kernel_.calls, Calls{"enrol " + path + " own"});
  EXPECT_EQ(entry(path).network, process.network());
}

TEST_F(DockerNetworkTest, TheProcessSaysWhoseNetworkItIs) {
  connect();
  create(hex('a'), "impostor", {{"app", "web"}},
         "default");  // mode bridge, but in the daemon's namespace
  create(hex('b'), "stranger", {{"app", "web"}}, "default");
  create(hex('c'), "elsewhere");  // mode host, but in another namespace
  launch(hex('a'));
  ASSERT_TRUE(becomes(hex('a'), "enforced"));
  EXPECT_EQ(entry(registry_->find_container(hex('a'))->cgroup_path).network, 0U);
  EXPECT_STREQ(network_text(*registry_->find_container(hex('a'))), "host");
  // A pid that is not in the container's cgroup was reused by another process.
  create_cgroup(hex('b'));
  const Process stranger(true);
  docker_->containers[hex('b')]["State"]["Pid"] = stranger.pid();
  docker_->emit("start", hex('b'));
  EXPECT_TRUE(becomes(hex('b'), "quarantined"));
  const std::string path = create_cgroup(hex('c'));
  ASSERT_TRUE(becomes(hex('c'), "enforced"));
  settle();
  kernel_.calls.clear();
  run(hex('c'), path, true);
  docker_->emit("start", hex('c'));
  ASSERT_TRUE(await([&] { return !kernel_.calls.empty(); }));
  settle();
  EXPECT_EQ(kernel_.calls, Calls{"extend " + path + " shared"})
      << "also enforced there; the namespace is not its own";
}

TEST_F(DockerNetworkTest, WhatItsFirstProcessDoesLaterChangesNothing) {
  connect();
  create(hex('a'), "host");
  create(hex('b'), "bridge", {{"app", "web"}}, "default");
  const std::string host = create_cgroup(hex('a'));
  const std::string bridge = create_cgroup(hex('b'));
  run(hex('a'), host);
  run(hex('b'), bridge, true);
  Process& in_host = *processes_[0];
  Process& in_bridge = *processes_[1];
  place(bridge).join_network(in_bridge);
  const std::uint64_t network = in_bridge.network();
  for (const char digit : {'a', 'b'}) {
    docker_->emit("start", hex(digit));
    ASSERT_TRUE(becomes(hex(digit), "enforced"));
    ASSERT_TRUE(await([&] { return registry_->find_container(hex(digit))->pid != 0; }));
  }
  settle();
  kernel_.calls.clear();
  for (Process* process : {&in_host, &in_bridge}) {
    process->leave_user_namespace();
    process->leave_network();
  }
  configure();
  docker_->emit("rename", hex('a'));
  docker_->end_streams();
  ASSERT_TRUE(await([&] { return docker_->lists == 2 && is_connected(); }));
  settle();
  EXPECT_TRUE(kernel_.calls.empty()) << kernel_.calls.front();
  EXPECT_EQ(entry(host).network, 0U);
  EXPECT_EQ(entry(bridge).network, network);
  for (const char digit : {'a', 'b'}) {
    EXPECT_THAT(registry_->find_container(hex(digit))->warnings,
                ::testing::Contains(::testing::StartsWith("its first process has left")));
  }
  kernel_.cgroups.clear();
  start_daemon();
  ASSERT_TRUE(await([&] { return is_connected(); }));
  settle();
  EXPECT_EQ(state(hex('a')), "enforced");
  EXPECT_EQ(state(hex('b')), "enforced");
  EXPECT_EQ(entry(host).network, 0U);
  EXPECT_EQ(entry(bridge).network, network) << "restored from the record";
  EXPECT_TRUE(entry(bridge).further.empty());
}

TEST_F(DockerNetworkTest, WhatTheRuntimeDeclaresGoesFirst) {
  create(hex('b'), "bridge", {{"app", "web"}}, "default");
  create(hex('c'), "joined", {{"app", "db"}}, "container:" + hex('b'));
  const Process keeper(true);  // keeps the runtime's namespace open
  const std::string bridge = create_cgroup(hex('b'));
  run(hex('b'), bridge, true);  // its first process moves before it is examined
  docker_->containers[hex('b')]["NetworkSettings"]["SandboxKey"] =
      "/proc/" + std::to_string(keeper.pid()) + "/ns/net";
  const std::string joined = create_cgroup(hex('c'));
  run(hex('c'), joined, true);
  connect();
  std::set<std::uint64_t> seen;
  for (const std::string& path :
       {bridge, joined}) {  // the joined one may be in all places of its owner
    seen.insert(processes_[path == bridge ? 0 : 1]->network());
    ASSERT_TRUE(await([&] { return is_in_kernel(path) && entry(path).further == seen; })) << path;
    EXPECT_EQ(entry(path).network, keeper.network());
    EXPECT_EQ(entry(path).whole_network, path == bridge);
  }
  // The record is sufficient while Docker is not running.
  ASSERT_TRUE(tree_->place(bridge, keeper.pid()));
  docker_->stop();
  kernel_.cgroups.clear();
  start_daemon();
  settle();
  EXPECT_EQ(entry(bridge).network, keeper.network());
  EXPECT_EQ(entry(bridge).further, std::set<std::uint64_t>{processes_[0]->network()});
  // A file that is not a network namespace is ignored.
  docker_->containers[hex('b')]["NetworkSettings"]["SandboxKey"] = "/proc/self/status";
  docker_->start();
  ASSERT_TRUE(await([&] { return is_connected(); }));
  settle();
  EXPECT_EQ(entry(bridge).network, keeper.network());
}

TEST_F(DockerNetworkTest, AJoinedOneIsToldApartByItsCgroup) {
  create(hex('a'), "host");
  create(hex('b'), hex('a').substr(0, 12), {{"app", "x"}},
         "default");  // a name that looks like a prefix of an id
  create(hex('c'), "with-host", {{"app", "db"}}, "container:" + hex('a'));
  create(hex('d'), "with-bridge", {{"app", "db"}}, "container:" + hex('a').substr(0, 12));
  create(hex('e'), "by-path", {{"app", "cache"}}, "ns:/run/netns/x");
  connect();
  const std::string with_host = create_cgroup(hex('c'));
  ASSERT_TRUE(becomes(hex('c'), "enforced"));
  EXPECT_EQ(entry(with_host).labels, labels({{"app", "db"}})) << "it has its own labels";
  EXPECT_EQ(entry(with_host).network, 0U);
  const Process& owner = place(create_cgroup(hex('b')), true);
  ASSERT_TRUE(becomes(hex('b'), "enforced"));
  for (const char digit : {'d', 'e'}) {
    const std::string path = create_cgroup(hex(digit));
    ASSERT_TRUE(becomes(hex(digit), "quarantined"));
    place(path).join_network(owner);
    ASSERT_TRUE(becomes(hex(digit), "enforced"));
    EXPECT_EQ(kernel_.calls.back(), "enrol " + path + " shared");
    EXPECT_EQ(entry(path).network, owner.network());
    EXPECT_STREQ(network_text(*registry_->find_container(hex(digit))), "shared");
  }
  EXPECT_TRUE(entry(registry_->find_container(hex('b'))->cgroup_path).whole_network);
}

TEST_F(DockerNetworkTest, AnOwnerThatIsLeftAloneOwnsNothing) {
  settings_.docker.containers = Containers::labeled;
  configure();
  connect();
  announce(hex('a'), "bare", nullptr, "default");
  announce(hex('b'), "joined", {{"app", "web"}}, "container:" + hex('a'));
  const std::string bare = create_cgroup(hex('a'));
  const Process& owner = place(bare, true);
  const std::string joined = create_cgroup(hex('b'));
  place(joined).join_network(owner);
  ASSERT_TRUE(becomes(hex('b'), "enforced"));
  EXPECT_EQ(kernel_.calls.back(), "enrol " + joined + " shared");
  EXPECT_FALSE(is_in_kernel(bare));
}

TEST_F(DockerNetworkTest, TheNetworkOfDockerItselfIsNoContainers) {
  connect();
  announce(hex('b'), "bridge", {{"app", "web"}}, "default");
  const std::string path = create_cgroup(hex('b'));
  ASSERT_TRUE(becomes(hex('b'), "quarantined"));
  Process runtime(true);  // all of Docker is in another network namespace
  runtime.become_child();
  ASSERT_TRUE(tree_->place(path, runtime.pid()));
  settle();
  EXPECT_EQ(state(hex('b')), "quarantined");
  runtime.leave_network();
  ASSERT_TRUE(becomes(hex('b'), "enforced"));
  EXPECT_EQ(entry(path).network, runtime.network());
}

TEST_F(DockerNetworkTest, PodmansListTellsNoNetwork) {
  docker_->lists_host_networks = true;
  create(hex('b'), "bridge", {{"app", "web"}}, "bridge");
  const std::string path = create_cgroup(hex('b'));
  run(hex('b'), path, true);
  docker_->silent.insert(hex('b'));
  connect();
  ASSERT_TRUE(await([&] { return docker_->inspections > 0; }));
  settle();
  EXPECT_EQ(state(hex('b')), "quarantined");
  EXPECT_EQ(kernel_.enrolments, 0U);
  docker_->silent.clear();
  docker_->end_streams();
  ASSERT_TRUE(becomes(hex('b'), "enforced"));
  EXPECT_EQ(kernel_.calls.back(), "enrol " + path + " own");
  docker_->end_streams();
  ASSERT_TRUE(await([&] { return docker_->lists == 3 && is_connected(); }));
  settle();
  EXPECT_EQ(kernel_.enrolments, 1U) << "the list does not override the inspection";
}

TEST_F(DockerNetworkTest, OfOneThatRunsTheInspectionTells) {
  create(hex('b'), "docker-in-docker", {{"app", "web"}}, "default");
  const std::string path = create_cgroup(hex('b'));
  place(path, true);  // the process of a container inside the container
  run(hex('b'), path, true);
  docker_->silent.insert(hex('b'));
  connect();
  ASSERT_TRUE(await([&] { return docker_->inspections > 0; }));
  settle();
  EXPECT_EQ(state(hex('b')), "quarantined");
  docker_->silent.clear();
  docker_->end_streams();
  ASSERT_TRUE(becomes(hex('b'), "enforced"));
  EXPECT_EQ(kernel_.enrolments, 1U);
  EXPECT_EQ(entry(path).network, processes_[1]->network());
}

TEST_F(DockerNetworkTest, EachStartHasAnotherNetwork) {
  connect();
  announce(hex('b'), "loop", {{"app", "web"}}, "default");
  std::vector<std::unique_ptr<Process>> kept;  // so that no inode number is reused
  for (unsigned i = 0; i < 3; ++i) {
    kernel_.calls.clear();
    const std::string path = create_cgroup(hex('b'));
    ASSERT_TRUE(becomes(hex('b'), "quarantined"));
    kept.push_back(std::make_unique<Process>(true));
    Process& process = place(path);
    process.join_network(*kept.back());
    docker_->containers[hex('b')]["State"]["Pid"] = process.pid();
    ASSERT_TRUE(becomes(hex('b'), "enforced"));
    docker_->emit("start", hex('b'));
    settle();
    EXPECT_EQ(entry(path).network, kept.back()->network());
    stop(hex('b'), path);
    ASSERT_TRUE(becomes(hex('b'), ""));
    EXPECT_EQ(kernel_.calls,
              (Calls{"quarantine " + path, "enrol " + path + " own", "end " + path + " own"}));
  }
}

TEST_F(DockerNetworkTest, ARestartedDaemonFindsItAgain) {
  connect();
  announce(hex('b'), "bridge", {{"app", "web"}}, "default");
  const std::string path = create_cgroup(hex('b'));
  const std::uint32_t pid = run(hex('b'), path, true);
  docker_->emit("start", hex('b'));
  ASSERT_TRUE(becomes(hex('b'), "enforced"));
  const policy::Number number = registry_->find_container(hex('b'))->number;
  docker_->stop();
  kernel_.cgroups.clear();
  kernel_.calls.clear();
  start_daemon();
  settle();
  EXPECT_EQ(state(hex('b')), "enforced");
  docker_->start();
  ASSERT_TRUE(
      await([&] { return is_connected() && registry_->find_container(hex('b'))->pid == pid; }));
  settle();
  EXPECT_EQ(kernel_.calls, Calls{"enrol " + path + " own"})
      << "once, in its network, and never quarantined";
  EXPECT_EQ(registry_->find_container(hex('b'))->number, number);
  // It ends while the daemon is not connected.
  docker_->stop();
  start_daemon();
  stop(hex('b'), path);
  docker_->start();
  EXPECT_TRUE(becomes(hex('b'), ""));
  EXPECT_TRUE(kernel_.cgroups.empty());
}

TEST_F(DockerNetworkTest, WithoutACgroupOfItsOwnTheNetworkTellsItApart) {
  connect();
  announce(hex('b'), "bridge", {{"app", "web"}}, "default");
  announce(hex('c'), "joined", {{"app", "db"}}, "container:" + hex('b'));
  const std::string common = create_cgroup_at("/containerd");
  run(hex('b'), common, true);
  docker_->emit("start", hex('b'));
  ASSERT_TRUE(becomes(hex('b'), "enforced"));
  EXPECT_EQ(kernel_.calls, Calls{"enrol  own"});
  EXPECT_EQ(kernel_.networks.at(processes_[0]->network()).labels, labels({{"app", "web"}}));
  run(hex('c'), common);
  processes_[1]->join_network(*processes_[0]);
  docker_->emit("start", hex('c'));
  ASSERT_TRUE(becomes(hex('c'), "unenforced"));
  EXPECT_THAT(registry_->find_container(hex('c'))->reason, ::testing::StartsWith("NOT PROTECTED"));
  // Restarted between two inspections: the same container in another namespace.
  run(hex('b'), common, true);
  docker_->emit("start", hex('b'));
  ASSERT_TRUE(await([&] { return kernel_.networks.contains(processes_[2]->network()); }));
  EXPECT_EQ(kernel_.networks.size(), 1U);
  docker_->containers[hex('b')]["State"]["Pid"] = 0;
  docker_->emit("die", hex('b'));
  ASSERT_TRUE(becomes(hex('b'), ""));
  EXPECT_TRUE(kernel_.networks.empty());
}

TEST_F(DockerNetworkTest, ARefusedEnrolmentIsTriedAgain) {
  connect();
  announce(hex('b'), "bridge", {{"app", "web"}}, "default");
  kernel_.refuse_enrolment = true;
  const std::string path = create_cgroup(hex('b'));
  place(path, true);
  ASSERT_TRUE(await([&] { return kernel_.enrolments > 0; }));
  settle();
  EXPECT_EQ(state(hex('b')), "quarantined");
  kernel_.refuse_enrolment = false;
  EXPECT_TRUE(becomes(hex('b'), "enforced"));
}

TEST_F(DockerNetworkTest, TokensAreExpectedWhereTheEngineDeclaresNetworks) {
  const auto network = [](const char* name, const char* driver, const char* subnet) {
    return json{{"Name", name},
                {"Driver", driver},
                {"IPAM", {{"Config", json::array({{{"Subnet", subnet}}})}}}};
  };
  DeclaredNetworks declared;
  const auto follow = [&] {
    source_->on_declared = [&](const DeclaredNetworks& networks) { declared = networks; };
  };
  const auto are = [&](const std::vector<const char*>& texts) {
    std::vector<policy::Prefix> wanted;
    for (const char* each : texts) {
      wanted.push_back(*policy::Prefix::parse(each));
    }
    return await([&] { return declared[docker_->socket()] == wanted; });
  };
  const auto attach = [&](char digit, const char* name, const char* address) {
    docker_->containers[hex(digit)]["NetworkSettings"]["Networks"][name]["IPAddress"] = address;
  };
  follow();
  docker_->networks = {network("bridge", "bridge", "172.17.0.0/16"),
                       network("shop", "bridge", "172.18.0.0/16"),
                       network("lan", "macvlan", "192.168.1.0/24")};
  connect();
  settle();
  EXPECT_TRUE(declared.empty()) << "no container under policy is in one of them";
  create(hex('b'), "bridge", {{"app", "web"}}, "default");
  attach('b', "bridge", "172.17.0.2");
  launch(hex('b'), true);
  ASSERT_TRUE(are({"172.17.0.0/16", "172.17.0.2/32"}));
  EXPECT_THAT(source_->addresses_of(hex('b')),
              ::testing::ElementsAre(*policy::Address::parse("172.17.0.2")));
  EXPECT_THAT(source_->addresses_of(""), ::testing::IsEmpty());
  create(hex('c'), "lan", {{"app", "web"}}, "lan");
  attach('c', "lan", "192.168.1.7");
  launch(hex('c'), true);
  ASSERT_TRUE(are({"172.17.0.0/16", "172.17.0.2/32", "192.168.1.7/32"}))
      << "the LAN is not a network of this host";

  // A network that is created and joined later.
  docker_->networks.push_back(network("late", "bridge", "10.9.0.0/24"));
  attach('b', "late", "10.9.0.2");
  docker_->say(json{{"Type", "network"}, {"Action", "create"}, {"Actor", {{"ID", "x"}}}}.dump() +
               "\n");
  docker_->emit("update", hex('b'));
  ASSERT_TRUE(
      are({"10.9.0.0/24", "10.9.0.2/32", "172.17.0.0/16", "172.17.0.2/32", "192.168.1.7/32"}));

  // A daemon restarted while the engine is down uses the stored networks until the engine reports.
  docker_->stop();
  DeclaredNetworks kept = declared;
  start_daemon();
  source_->set_declared(std::move(kept));
  declared.clear();
  follow();
  settle();
  EXPECT_TRUE(declared.empty()) << "nothing new";
  docker_->networks.erase(1);
  docker_->containers[hex('c')]["NetworkSettings"] = nullptr;
  docker_->start();
  EXPECT_TRUE(are({"10.9.0.0/24", "10.9.0.2/32", "172.17.0.0/16", "172.17.0.2/32"}));
}

TEST_F(DockerNetworkTest, OnlyHostNetworksLeavesItAlone) {
  settings_.docker.containers = Containers::host_network;
  configure();
  connect();
  announce(hex('b'), "bridge", {{"app", "web"}}, "default");
  const std::string path = create_cgroup(hex('b'));
  place(path, true);
  settle();
  EXPECT_FALSE(is_in_kernel(path));
  EXPECT_EQ(state(hex('b')), "");
}

}  // namespace
}  // namespace trireme::docker
