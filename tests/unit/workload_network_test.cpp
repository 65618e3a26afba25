// SPDX-License-Identifier: Apache-2.0
// Workloads in other network namespaces than the daemon's, in the registry and across a restart.
#include <gmock/gmock.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "trireme/workload/registry.hpp"
#include "workload_support.hpp"

namespace trireme::workload {
namespace {

using test::hex;
using test::labels;
using test::Process;
using Calls = std::vector<std::string>;

class NetworkTest : public test::CgroupTest {
 protected:
  void SetUp() override {
    CgroupTest::SetUp();
    if (!IsSkipped()) {
      registry_ = std::make_unique<Registry>(*tree_, kernel_);
    }
  }
  Description describe(const std::string& path, const Process& process, bool whole) {
    Description description;
    description.name = "web";
    description.kind = Kind::container;
    description.labels = labels({{"app", "web"}});
    description.cgroup_path = path;
    description.container_id = hex('a');
    description.places = {{*kernel::Netns::of_process(process.pid()), whole}};
    return description;
  }
  /// Enforces a container with these processes, then restarts the daemon.
  const Workload* restart(const std::string& path, const Description& description,
                          const std::vector<const Process*>& processes) {
    EXPECT_TRUE(registry_->enrol(description));
    for (const Process* process : processes) {
      EXPECT_TRUE(tree_->place(path, process->pid()));
    }
    kernel_.cgroups.clear();
    kernel_.calls.clear();
    registry_ = std::make_unique<Registry>(*tree_, kernel_);
    EXPECT_EQ(*registry_->recover(), 1U);
    return registry_->find_cgroup(path.substr(0, path.find("/below")));
  }

  test::FakeEnforcement kernel_;
  std::unique_ptr<Registry> registry_;
};

TEST_F(NetworkTest, IsFoundAgainByItsProcesses) {
  const Process process(true);
  const Process inner(true);  // a container inside the container
  const Process executed(false);
  const std::string path = make("docker-1.scope");
  for (const bool whole : {true, false}) {
    const Workload* workload =
        restart(path, describe(path, process, whole), {&inner, &executed, &process});
    ASSERT_NE(workload, nullptr);
    EXPECT_EQ(workload->state, State::enforced);
    EXPECT_EQ(workload->places.front().whole_network, whole);
    EXPECT_EQ(workload->places.front().network->inode(), process.network());
    EXPECT_EQ(workload->number, kernel_.next - 1) << "it keeps its number";
    EXPECT_EQ(kernel_.calls, Calls{"enrol " + path + (whole ? " own" : " shared")});
    registry_->release(path);
  }
}

TEST_F(NetworkTest, IsFoundAgainBelowItsCgroup) {
  const Process process(true);
  const std::string path = make("docker-1.scope");
  const Description description = describe(path, process, true);
  const std::string below = make("docker-1.scope/below/it");
  const Workload* workload = restart(below, description, {&process});
  ASSERT_NE(workload, nullptr);
  EXPECT_EQ(workload->state, State::enforced);
  EXPECT_EQ(workload->places.front().network->inode(), process.network());
}

TEST_F(NetworkTest, ThatNobodyIsInAnyMoreMeansQuarantine) {
  const Process gone(true);
  const Process ours(false);
  const Process other(true);
  unsigned number = 0;
  for (const std::vector<const Process*>& left :
       {std::vector<const Process*>{}, {&ours}, {&other}}) {
    const std::string path = make("docker-" + std::to_string(++number) + ".scope");
    const Workload* workload = restart(path, describe(path, gone, true), left);
    ASSERT_NE(workload, nullptr);
    EXPECT_EQ(workload->state, State::quarantined);
    EXPECT_EQ(workload->reason, "none of its processes is in its former network namespace");
    EXPECT_EQ(kernel_.calls, Calls{"quarantine " + path});
    registry_->release(path);
  }
}

TEST_F(NetworkTest, ThatIsOursNowMeansQuarantine) {
  Process process(true);
  const std::string path = make("docker-1.scope");
  const Description description = describe(path, process, true);
  ASSERT_TRUE(tree_->place(path, process.pid()));
  ASSERT_TRUE(registry_->enrol(description));
  // Its record names a namespace that is now the daemon's own.
  auto record = nlohmann::json::parse(**tree_->attribute(path, kernel::kRecordXattr));
  record["places"][0]["network"] = (*kernel::Netns::own())->inode();
  ASSERT_TRUE(tree_->set_attribute(path, kernel::kRecordXattr, record.dump()));
  const Process ours(false);
  ASSERT_TRUE(tree_->place(path, ours.pid()));
  registry_ = std::make_unique<Registry>(*tree_, kernel_);
  ASSERT_EQ(*registry_->recover(), 1U);
  EXPECT_EQ(registry_->find_cgroup(path)->state, State::quarantined);
  // A record with a member of the wrong type.
  record["places"][0]["network"] = "mine";
  ASSERT_TRUE(tree_->set_attribute(path, kernel::kRecordXattr, record.dump()));
  registry_ = std::make_unique<Registry>(*tree_, kernel_);
  ASSERT_EQ(*registry_->recover(), 1U);
  EXPECT_THAT(registry_->find_cgroup(path)->reason,
              ::testing::StartsWith("its record is unreadable"));
}

TEST_F(NetworkTest, AFurtherOneIsEnforcedTooAndTheFirstStays) {
  const Process first(true);
  const Process second(true);
  const std::string path = make("docker-1.scope");
  ASSERT_TRUE(registry_->enrol(describe(path, first, true)));
  ASSERT_TRUE(registry_->enrol(describe(path, first, true)));
  EXPECT_EQ(kernel_.calls.size(), 1U) << "an unchanged description does nothing";
  ASSERT_TRUE(registry_->enrol(describe(path, second, true)));
  EXPECT_EQ(kernel_.calls, (Calls{"enrol " + path + " own", "extend " + path + " own"}));
  EXPECT_EQ(registry_->find_cgroup(path)->number, 1000U);
  const auto networks = [&] {
    std::vector<std::uint64_t> found;
    for (const Place& place : registry_->find_cgroup(path)->places) {
      found.push_back(place.network->inode());
    }
    return found;
  };
  const std::vector<std::uint64_t> both = {second.network(), first.network()};
  EXPECT_EQ(networks(), both);
  Description unknown = describe(path, second, true);
  unknown.places.clear();
  ASSERT_TRUE(registry_->quarantine(unknown, "Docker does not know this container"));
  EXPECT_EQ(networks(), both) << "known places are kept";
  EXPECT_FALSE(registry_->enrol([&] {
    Description nowhere = describe("", second, true);
    nowhere.places.clear();
    return nowhere;
  }()));
  kernel_.calls.clear();
  ASSERT_TRUE(registry_->enrol(describe(path, second, true)));
  EXPECT_EQ(kernel_.calls, (Calls{"enrol " + path + " own", "extend " + path + " own"}));
  // A change of whole_network causes a new enrollment, with a quarantine in between.
  kernel_.calls.clear();
  ASSERT_TRUE(registry_->enrol(describe(path, second, false)));
  EXPECT_EQ(kernel_.calls, (Calls{"quarantine " + path + " own", "enrol " + path + " shared",
                                  "extend " + path + " own"}));
  // A restarted daemon finds both, while a process is in each.
  ASSERT_TRUE(tree_->place(path, first.pid()));
  ASSERT_TRUE(tree_->place(path, second.pid()));
  for (const bool is_left : {false, true}) {
    if (is_left) {
      ASSERT_TRUE(tree_->place("/", first.pid()));
    }
    kernel_.cgroups.clear();
    registry_ = std::make_unique<Registry>(*tree_, kernel_);
    ASSERT_EQ(*registry_->recover(), 1U);
    EXPECT_EQ(networks(), is_left ? std::vector<std::uint64_t>{second.network()} : both);
    EXPECT_EQ(registry_->find_cgroup(path)->state, State::enforced);
  }
}

TEST_F(NetworkTest, ARefusedPlaceMeansQuarantine) {
  const Process first(true);
  const Process second(true);
  const std::string path = make("docker-1.scope");
  ASSERT_TRUE(registry_->enrol(describe(path, first, true)));
  kernel_.refuse_enrolment = true;
  EXPECT_FALSE(registry_->enrol(describe(path, second, false)));
  EXPECT_EQ(registry_->find_cgroup(path)->state, State::quarantined);
  kernel_.refuse_enrolment = false;
  ASSERT_TRUE(registry_->enrol(describe(path, second, false)));
  EXPECT_EQ(kernel_.cgroups.at(id(path)).further, std::set<std::uint64_t>{first.network()});
}

TEST_F(NetworkTest, NothingTellsApartWhatHasNeitherCgroupNorNetwork) {
  const Process process(true);
  const Description shared = describe("", process, false);
  EXPECT_FALSE(registry_->enrol(shared));
  EXPECT_FALSE(registry_->quarantine(shared, "no"));
  EXPECT_TRUE(kernel_.calls.empty());
  const Description own = describe("", process, true);
  ASSERT_TRUE(registry_->enrol(own));
  EXPECT_EQ(registry_->find_container(hex('a'))->state, State::enforced);
  registry_->set_host_labels(labels({{"zone", "eu"}}));
  policy::LabelSet expected = labels({{"app", "web"}});
  ASSERT_TRUE(expected.set_of_host("zone", "eu"));
  EXPECT_EQ(kernel_.networks.at(process.network()).labels, expected);
  registry_->list_unenforced(own, "NOT PROTECTED");
  EXPECT_TRUE(kernel_.networks.empty()) << "an unenforced container has no rules";
}

TEST_F(NetworkTest, CapabilitiesOfItsOwnUserNamespaceCountInItsOwnNetwork) {
  Process process(false);
  process.leave_user_namespace();
  EXPECT_TRUE(capability_warnings(process.pid(), nullptr).empty());
  process.leave_network();
  EXPECT_TRUE(capability_warnings(process.pid(), nullptr).empty())
      << "a network namespace that is not enforced";
  const auto network = *kernel::Netns::of_process(process.pid());
  EXPECT_THAT(capability_warnings(process.pid(), network.get()),
              ::testing::ElementsAre(::testing::StartsWith("CAP_NET_ADMIN"),
                                     ::testing::StartsWith("CAP_NET_RAW")));
}

// --- network namespaces of the processes of workloads that are not containers ---

class StrayTest : public NetworkTest {
 protected:
  void SetUp() override {
    NetworkTest::SetUp();
    if (!IsSkipped()) {
      here_ = std::make_unique<Process>(false);
      path_ = make("web.scope");
      ASSERT_TRUE(tree_->place(path_, here_->pid()));
      Description description;
      description.name = "web.scope";
      description.labels = labels({{"app", "web"}});
      description.cgroup_path = path_;
      ASSERT_TRUE(registry_->enrol(description));
    }
  }
  void TearDown() override {
    here_.reset();
    NetworkTest::TearDown();
  }
  /// Adds a device through which packets can leave the process's network namespace.
  static void lead_out(const Process& process) {
    ASSERT_TRUE((*kernel::Netns::of_process(process.pid()))->within([] {
      ASSERT_EQ(std::system("ip link add v0 type veth peer name v1 && ip link set v0 up"), 0);
    }));
  }
  bool check() {
    std::size_t limit = 100;
    return registry_->check_networks(path_, limit);
  }
  [[nodiscard]] const Workload& workload() const { return *registry_->find_cgroup(path_); }

  std::unique_ptr<Process> here_;  // in the daemon's network namespace, which SetUp() creates
  std::string path_;
};

TEST_F(StrayTest, AtHomeNothingHappens) {
  EXPECT_FALSE(check());
  EXPECT_EQ(workload().state, State::enforced);
  EXPECT_EQ(kernel_.enrolments, 1U);
}

TEST_F(StrayTest, AllElsewhereIsEnforcedThere) {
  here_->leave_network();
  lead_out(*here_);
  EXPECT_TRUE(check());
  EXPECT_EQ(workload().state, State::enforced);
  ASSERT_EQ(workload().places.size(), 2U);
  EXPECT_EQ(workload().places.back().network->inode(), here_->network());
  EXPECT_EQ(kernel_.cgroups.at(id(path_)).further, std::set<std::uint64_t>{here_->network()});
  EXPECT_THAT(kernel_.calls,
              ::testing::ElementsAre("enrol /web.scope", "extend /web.scope shared"));
  EXPECT_FALSE(check());
}

TEST_F(StrayTest, WhereItIsEnforcedTooIsRemembered) {
  here_->leave_network();
  lead_out(*here_);
  ASSERT_TRUE(check());
  const policy::Number number = workload().number;
  test::FakeEnforcement next;
  Registry later(*tree_, next);
  ASSERT_EQ(later.recover().value_or(0), 1U);
  EXPECT_EQ(next.cgroups.at(id(path_)).number, number);
  EXPECT_EQ(next.cgroups.at(id(path_)).network, 0U);
  EXPECT_EQ(next.cgroups.at(id(path_)).further, std::set<std::uint64_t>{here_->network()});
}

TEST_F(StrayTest, IsRecoveredWhereItsProcessesAreThoughTheFirstNetworkHasGone) {
  const std::string path = make("job.scope");
  Process process(true);
  ASSERT_TRUE(tree_->place(path, process.pid()));
  Description description = describe(path, process, false);
  description.kind = Kind::process;
  description.container_id = "";
  ASSERT_TRUE(registry_->enrol(description));
  process.leave_network();
  lead_out(process);
  std::size_t limit = 100;
  ASSERT_TRUE(registry_->check_networks(path, limit));
  test::FakeEnforcement next;
  Registry later(*tree_, next);
  ASSERT_TRUE(later.recover());
  EXPECT_EQ(later.find_cgroup(path)->state, State::enforced);
  EXPECT_EQ(next.cgroups.at(id(path)).network, process.network());
}

TEST_F(StrayTest, IsEnforcedInSomeNetworksAndNoMore) {
  for (std::size_t i = 1; i < Registry::kMostPlaces; i++) {
    here_->leave_network();
    lead_out(*here_);
    ASSERT_TRUE(check());
    ASSERT_EQ(workload().state, State::enforced) << i;
  }
  here_->leave_network();
  lead_out(*here_);
  EXPECT_TRUE(check());
  EXPECT_EQ(workload().state, State::quarantined);
  EXPECT_THAT(workload().reason, ::testing::StartsWith(kElsewhere));
  EXPECT_EQ(workload().places.size(), Registry::kMostPlaces);
}

TEST_F(StrayTest, WhatCannotBeEnforcedThereIsInQuarantine) {
  here_->leave_network();
  lead_out(*here_);
  kernel_.refuse_enrolment = true;
  EXPECT_TRUE(check());
  EXPECT_EQ(workload().state, State::quarantined);
  EXPECT_THAT(workload().reason, ::testing::StartsWith(kElsewhere));
  EXPECT_FALSE(check()) << "reported once";
}

TEST_F(StrayTest, PartlyElsewhereIsInQuarantineWhileItIs) {
  {
    const Process away(true);
    lead_out(away);
    ASSERT_TRUE(tree_->place(path_, away.pid()));
    EXPECT_TRUE(check());
    EXPECT_EQ(workload().state, State::quarantined);
    EXPECT_THAT(workload().reason, ::testing::HasSubstr(std::to_string(away.pid())));
    EXPECT_FALSE(check());
    Description again;
    again.name = "web.scope";
    again.labels = labels({{"app", "web"}});
    again.cgroup_path = path_;
    EXPECT_FALSE(registry_->enrol(again)) << "the quarantine does not end by enrol()";
    EXPECT_EQ(workload().state, State::quarantined);
  }
  EXPECT_TRUE(check());
  EXPECT_EQ(workload().state, State::enforced);
  EXPECT_EQ(workload().labels, labels({{"app", "web"}}));
}

TEST_F(StrayTest, IsFollowedWhenAllOfItIsElsewhere) {
  const Process away(true);
  lead_out(away);
  ASSERT_TRUE(tree_->place(path_, away.pid()));
  ASSERT_TRUE(check());
  ASSERT_EQ(workload().state, State::quarantined);
  here_.reset();
  EXPECT_TRUE(check());
  EXPECT_EQ(workload().state, State::enforced);
  ASSERT_EQ(workload().places.size(), 2U);
  EXPECT_EQ(workload().places.back().network->inode(), away.network());
  EXPECT_EQ(kernel_.cgroups.at(id(path_)).further, std::set<std::uint64_t>{away.network()});
  EXPECT_FALSE(check());
}

TEST_F(StrayTest, IsFollowedWhenTheKernelNoLongerRefuses) {
  here_->leave_network();
  lead_out(*here_);
  kernel_.refuse_enrolment = true;
  ASSERT_TRUE(check());
  registry_->follow_again = std::chrono::milliseconds(0);
  for (int i = 0; i < 3; i++) {
    EXPECT_FALSE(check());
    EXPECT_EQ(workload().state, State::quarantined);
    EXPECT_THAT(workload().reason, ::testing::StartsWith(kElsewhere)) << i;
    EXPECT_EQ(workload().places.size(), 1U);
    EXPECT_EQ(kernel_.cgroups.at(id(path_)).number, 0U);
  }
  kernel_.refuse_enrolment = false;
  registry_->follow_again = std::chrono::hours(1);
  EXPECT_FALSE(check()) << "not repeated immediately";
  registry_->follow_again = std::chrono::milliseconds(0);
  EXPECT_TRUE(check());
  EXPECT_EQ(workload().state, State::enforced);
  EXPECT_EQ(workload().places.back().network->inode(), here_->network());
}

TEST_F(StrayTest, TwoOtherNetworksAreNotFollowed) {
  const Process one(true);
  const Process two(true);
  lead_out(one);
  lead_out(two);
  ASSERT_TRUE(tree_->place(path_, one.pid()));
  ASSERT_TRUE(tree_->place(path_, two.pid()));
  ASSERT_TRUE(check());
  here_.reset();
  EXPECT_FALSE(check());
  EXPECT_EQ(workload().state, State::quarantined);
}

TEST_F(StrayTest, AThreadThatIsElsewhereIsFound) {
  ASSERT_FALSE(check());
  here_->thread_leaves_network();
  NetworkSurvey survey(path_);
  std::size_t limit = 100;
  survey.go_on(*tree_, limit);
  ASSERT_EQ(survey.found().size(), 2U);
  std::uint64_t elsewhere = 0;
  for (const auto& [inode, thread] : survey.found()) {
    elsewhere = inode == here_->network() ? elsewhere : inode;
  }
  const auto held = find_network(*tree_, path_, elsewhere);
  ASSERT_NE(held, nullptr);
  ASSERT_TRUE(held->within([] {
    ASSERT_EQ(std::system("ip link add v0 type veth peer name v1 && ip link set v0 up"), 0);
  }));
  EXPECT_TRUE(check());
  EXPECT_EQ(workload().state, State::quarantined);
}

TEST_F(StrayTest, ASurveyGoesOnWhereItEnded) {
  // Examined last: it has the highest pid, or is alone in the cgroup that is visited last.
  std::vector<std::unique_ptr<test::Sleeper>> others;
  for (int i = 0; i < 7; i++) {
    others.push_back(std::make_unique<test::Sleeper>());
    ASSERT_TRUE(tree_->place(path_, others.back()->pid()));
  }
  const Process away(true);
  lead_out(away);
  ASSERT_TRUE(tree_->place(make("web.scope/below/deep"), away.pid()));
  NetworkSurvey survey(path_);
  unsigned turns = 0;
  for (bool changed = false; !changed; turns++) {
    ASSERT_LT(turns, 10U);
    EXPECT_EQ(workload().state, State::enforced);
    std::size_t limit = 2;
    changed = registry_->check_networks(survey, limit);
  }
  EXPECT_EQ(turns, 5U) << "8 processes, an empty cgroup, and the process in the other namespace";
  EXPECT_EQ(workload().state, State::quarantined);
  ASSERT_TRUE(tree_->place("/", away.pid()));
  // The quarantine must not end before the last process was examined.
  survey = NetworkSurvey(path_);
  for (turns = 0; workload().state == State::quarantined; turns++) {
    ASSERT_LT(turns, 10U);
    std::size_t limit = 2;
    registry_->check_networks(survey, limit);
  }
  EXPECT_TRUE(survey.is_complete());
  EXPECT_EQ(turns, 5U);
}

TEST_F(StrayTest, ATunLeadsToWhoeverHoldsIt) {
  if (::access("/dev/net/tun", R_OK | W_OK) != 0) {
    GTEST_SKIP() << "no /dev/net/tun";
  }
  const auto add_tun = [](const Process& process) {
    ASSERT_TRUE((*kernel::Netns::of_process(process.pid()))->within([] {
      ASSERT_EQ(std::system("ip tuntap add t0 mode tun && ip link set t0 up"), 0);
    }));
  };
  Process rootless(false);
  rootless.leave_user_namespace();
  rootless.leave_network();
  add_tun(rootless);
  ASSERT_TRUE(tree_->place(path_, rootless.pid()));
  EXPECT_FALSE(check()) << "a process of the same user (slirp4netns) reads the tun device";
  const Process away(true);
  ASSERT_TRUE(tree_->place(path_, away.pid()));
  EXPECT_FALSE(check());
  add_tun(away);
  EXPECT_TRUE(check()) << "a VPN leads out";
  EXPECT_EQ(workload().state, State::quarantined);
}

TEST_F(StrayTest, ANamespaceWithoutAWayOutIsNoStray) {
  const Process boxed(true);
  ASSERT_TRUE(tree_->place(path_, boxed.pid()));
  EXPECT_FALSE(check());
  lead_out(boxed);
  EXPECT_TRUE(check());
  EXPECT_EQ(workload().state, State::quarantined);
}

TEST_F(StrayTest, CountsTheProcessesThatItLooksAt) {
  const Process second(false);
  ASSERT_TRUE(tree_->place(path_, second.pid()));
  std::size_t limit = 5;
  EXPECT_FALSE(registry_->check_networks(path_, limit));
  EXPECT_EQ(limit, 3U);
}

TEST_F(StrayTest, FormerCgroupsStayWithTheirHeir) {
  Description next;
  next.name = "web.service";
  next.kind = Kind::unit;
  next.labels = labels({{"app", "web"}});
  next.cgroup_path = make("web.service");
  next.former = {7, 9};
  ASSERT_TRUE(registry_->enrol(next));
  next.former = {};
  ASSERT_TRUE(registry_->enrol(next));
  EXPECT_THAT(registry_->find_cgroup(next.cgroup_path)->former, ::testing::ElementsAre(7, 9));
  registry_ = std::make_unique<Registry>(*tree_, kernel_);
  ASSERT_TRUE(registry_->recover());
  EXPECT_THAT(registry_->find_cgroup(next.cgroup_path)->former, ::testing::ElementsAre(7, 9));
}

}  // namespace
}  // namespace trireme::workload
