// SPDX-License-Identifier: Apache-2.0
#include "trireme/workload/registry.hpp"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "workload_support.hpp"

namespace trireme::workload {
namespace {

using test::labels;

class RegistryTest : public test::CgroupTest {
 protected:
  void SetUp() override {
    CgroupTest::SetUp();
    if (!IsSkipped()) {
      registry_ = std::make_unique<Registry>(*tree_, kernel_);
    }
  }
  Description describe(const std::string& path, policy::LabelSet set) {
    Description description;
    description.name = path.substr(path.rfind('/') + 1);
    description.labels = std::move(set);
    description.cgroup_path = path;
    return description;
  }
  Description container(const std::string& path, const std::string& container_id,
                        policy::LabelSet set) {
    Description description = describe(path, std::move(set));
    description.kind = Kind::container;
    description.container_id = container_id;
    return description;
  }
  /// Restarts the daemon with the same cgroups and an empty kernel table.
  void restart() {
    registry_.reset();
    kernel_.cgroups.clear();
    registry_ = std::make_unique<Registry>(*tree_, kernel_);
  }

  test::FakeEnforcement kernel_;
  std::unique_ptr<Registry> registry_;
};

TEST_F(RegistryTest, EnrolsKernelXattrsAndItself) {
  make("apps.slice");
  const std::string path = make("apps.slice/web.scope");
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  const Workload* workload = registry_->find_cgroup(path);
  ASSERT_NE(workload, nullptr);
  EXPECT_EQ(workload->state, State::enforced);
  EXPECT_EQ(workload->number, 1000U);
  EXPECT_EQ(kernel_.cgroups.at(id(path)).labels, labels({{"app", "web"}}));
  EXPECT_EQ(kernel_.cgroups.at(id(path)).level, 2U);
  EXPECT_EQ(*tree_->attribute(path, kernel::kLabelsXattr), labels({{"app", "web"}}).encode());
  EXPECT_EQ(registry_->find_name("web.scope"), workload);
  EXPECT_EQ(registry_->find_number(1000), workload);
  EXPECT_EQ(registry_->find_enclosing(path + "/below/it"), workload);
  EXPECT_EQ(registry_->find_enclosing("/beside"), nullptr);
}

TEST_F(RegistryTest, TheSameAgainIsNothingNew) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  EXPECT_EQ(kernel_.enrolments, 1U);
  EXPECT_EQ(registry_->find_cgroup(path)->number, 1000U);
}

TEST_F(RegistryTest, OtherLabelsTakeAFreshNumber) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "db"}}))));
  EXPECT_EQ(registry_->find_cgroup(path)->number, 1001U);
  EXPECT_EQ(registry_->find_number(1000), nullptr);
  EXPECT_EQ(registry_->size(), 1U);
}

TEST_F(RegistryTest, AKernelThatRefusesMeansQuarantine) {
  const std::string path = make("web.scope");
  kernel_.refuse_enrolment = true;
  EXPECT_FALSE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  const Workload* workload = registry_->find_cgroup(path);
  ASSERT_NE(workload, nullptr);
  EXPECT_EQ(workload->state, State::quarantined);
  EXPECT_EQ(workload->reason, "no memory for elements");
  EXPECT_EQ(kernel_.cgroups.at(id(path)).number, 0U);
  kernel_.refuse_enrolment = false;
  EXPECT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  EXPECT_EQ(registry_->find_cgroup(path)->state, State::enforced);
}

TEST_F(RegistryTest, OneFailureTouchesNoOther) {
  const std::string good = make("good.scope");
  const std::string bad = make("bad.scope");
  ASSERT_TRUE(registry_->enrol(describe(good, labels({{"app", "web"}}))));
  kernel_.refuse_enrolment = true;
  EXPECT_FALSE(registry_->enrol(describe(bad, labels({{"app", "web"}}))));
  EXPECT_FALSE(registry_->enrol(describe("/none.scope", labels({{"app", "web"}}))));
  EXPECT_EQ(registry_->find_cgroup(good)->state, State::enforced);
  EXPECT_EQ(kernel_.cgroups.at(id(good)).number, 1000U);
  EXPECT_EQ(registry_->size(), 2U);
}

/// Adds the [host] label zone=ZONE.
policy::LabelSet in_zone(policy::LabelSet set, const char* zone) {
  EXPECT_TRUE(set.set_of_host("zone", zone));
  return set;
}

TEST_F(RegistryTest, HostLabelsAreAddedAndWin) {
  const std::string path = make("web.scope");
  registry_->set_host_labels(labels({{"zone", "eu"}}));
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}, {"zone", "mars"}}))));
  EXPECT_EQ(registry_->find_cgroup(path)->labels, in_zone(labels({{"app", "web"}}), "eu"));
  EXPECT_EQ(kernel_.cgroups.at(id(path)).labels, in_zone(labels({{"app", "web"}}), "eu"));
  registry_->set_host_labels(labels({{"zone", "us"}}));
  EXPECT_EQ(kernel_.cgroups.at(id(path)).labels, in_zone(labels({{"app", "web"}}), "us"));
  EXPECT_EQ(registry_->find_cgroup(path)->number, 1001U);
  EXPECT_EQ(*tree_->attribute(path, kernel::kLabelsXattr),
            labels({{"app", "web"}, {"zone", "mars"}}).encode())
      << "only its own labels are stored";
}

TEST_F(RegistryTest, TooManyLabelsWithTheHostsMeanQuarantine) {
  const std::string path = make("web.scope");
  registry_->set_host_labels(labels({{"zone", "eu"}}));
  policy::LabelSet full;
  for (std::size_t i = 0; i < policy::kMaxLabels; ++i) {
    ASSERT_TRUE(full.set("k" + std::to_string(i), "v"));
  }
  EXPECT_FALSE(registry_->enrol(describe(path, full)));
  EXPECT_EQ(registry_->find_cgroup(path)->state, State::quarantined);
  EXPECT_EQ(kernel_.cgroups.at(id(path)).number, 0U);
}

TEST_F(RegistryTest, ARestartedDaemonComesBackToTheSameState) {
  const std::string web = make("web.scope");
  const std::string db = make("db.scope");
  const std::string waiting = make("shut.scope");
  ASSERT_TRUE(registry_->enrol(describe(web, labels({{"app", "web"}}))));
  ASSERT_TRUE(registry_->enrol(container(db, std::string(64, 'a'), labels({{"app", "db"}}))));
  ASSERT_TRUE(
      registry_->quarantine(describe(waiting, labels({{"app", "x"}})), "labels not known yet"));
  restart();
  EXPECT_EQ(*registry_->recover(), 3U);
  EXPECT_EQ(registry_->find_cgroup(web)->number, 1000U);
  EXPECT_EQ(registry_->find_cgroup(db)->number, 1001U);
  EXPECT_EQ(registry_->find_container(std::string(64, 'a'))->kind, Kind::container);
  EXPECT_EQ(registry_->find_cgroup(waiting)->state, State::quarantined);
  EXPECT_EQ(registry_->find_cgroup(waiting)->reason, "labels not known yet");
  EXPECT_EQ(kernel_.cgroups.at(id(waiting)).number, 0U);
  ASSERT_TRUE(registry_->enrol(describe(web, labels({{"app", "web"}}))))
      << "its source enrolls it again";
  EXPECT_EQ(registry_->find_cgroup(web)->number, 1000U);
}

TEST_F(RegistryTest, RecoversUnderTheHostLabelsOfToday) {
  const std::string path = make("web.scope");
  registry_->set_host_labels(labels({{"zone", "eu"}}));
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  restart();
  registry_->set_host_labels(labels({{"zone", "us"}}));
  EXPECT_EQ(*registry_->recover(), 1U);
  EXPECT_EQ(registry_->find_cgroup(path)->labels, in_zone(labels({{"app", "web"}}), "us"));
}

TEST_F(RegistryTest, ARecordWithoutANetworkIsOfOurs) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  auto record = nlohmann::json::parse(**tree_->attribute(path, kernel::kRecordXattr));
  ASSERT_EQ(record.erase("places"), 1U) << "the format of older daemons";
  ASSERT_TRUE(tree_->set_attribute(path, kernel::kRecordXattr, record.dump()));
  restart();
  EXPECT_EQ(*registry_->recover(), 1U);
  ASSERT_EQ(registry_->find_cgroup(path)->places.size(), 1U);
  EXPECT_EQ(registry_->find_cgroup(path)->places.front().network, nullptr);
}

TEST_F(RegistryTest, UnreadableRecordsMeanQuarantine) {
  const auto spoil = [&](const std::string& name, const char* attribute,
                         const std::string& content) {
    const std::string path = make(name);
    EXPECT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
    EXPECT_TRUE(tree_->set_attribute(path, attribute, content));
    return path;
  };
  const std::vector<std::string> paths = {
      spoil("a.scope", kernel::kRecordXattr, "{\"name\": 7"),
      spoil("b.scope", kernel::kLabelsXattr, "no label"),
      spoil("c.scope", kernel::kLabelsXattr, labels({{"app", "other"}}).encode()),
      spoil("d.scope", kernel::kRecordXattr, "{}")};
  restart();
  EXPECT_EQ(*registry_->recover(), paths.size());
  for (const std::string& path : paths) {
    ASSERT_NE(registry_->find_cgroup(path), nullptr) << path;
    EXPECT_EQ(registry_->find_cgroup(path)->state, State::quarantined) << path;
    EXPECT_EQ(kernel_.cgroups.at(id(path)).number, 0U) << path;
  }
}

TEST_F(RegistryTest, ANumberOnTwoCgroupsIsKeptByOne) {
  const std::string first = make("a.scope");
  const std::string second = make("b.scope");
  ASSERT_TRUE(registry_->enrol(describe(first, labels({{"app", "web"}}))));
  for (const char* attribute : {kernel::kLabelsXattr, kernel::kRecordXattr}) {
    ASSERT_TRUE(tree_->set_attribute(second, attribute, **tree_->attribute(first, attribute)));
  }
  restart();
  EXPECT_EQ(*registry_->recover(), 2U);
  EXPECT_NE(registry_->find_cgroup(first)->number, registry_->find_cgroup(second)->number);
  EXPECT_NE(registry_->find_cgroup(first)->name, registry_->find_cgroup(second)->name);
}

TEST_F(RegistryTest, RecordsOfAnotherNetworkNamespaceAreLeftAlone) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  restart();
  ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
  EXPECT_EQ(*registry_->recover(), 0U);
  EXPECT_EQ(clear_records(*tree_), 0U);
  EXPECT_TRUE((*tree_->attribute(path, kernel::kLabelsXattr)).has_value());
}

TEST_F(RegistryTest, ClearsItsRecords) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  EXPECT_EQ(clear_records(*tree_), 1U);
  EXPECT_EQ(*tree_->attribute(path, kernel::kLabelsXattr), std::nullopt);
  EXPECT_EQ(*tree_->attribute(path, kernel::kRecordXattr), std::nullopt);
}

TEST_F(RegistryTest, AnEndedCgroupLeavesNothing) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  registry_->end_cgroup(path);
  EXPECT_NE(registry_->find_cgroup(path), nullptr)
      << "the cgroup still exists: the report was about an older one";
  ASSERT_TRUE(tree_->remove(path));
  registry_->end_cgroup(path);
  EXPECT_EQ(registry_->size(), 0U);
  EXPECT_TRUE(kernel_.cgroups.empty());
  EXPECT_EQ(registry_->find_name("web.scope"), nullptr);
}

TEST_F(RegistryTest, APathBornAgainIsAnotherWorkload) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  const std::uint64_t first = id(path);
  ASSERT_TRUE(tree_->remove(path));
  make("web.scope");
  ASSERT_NE(id(path), first);
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  EXPECT_EQ(kernel_.cgroups.size(), 1U);
  EXPECT_EQ(kernel_.cgroups.at(id(path)).number, 1001U);
}

TEST_F(RegistryTest, NamesAreUnique) {
  const std::string first = make("a.scope");
  const std::string second = make("b.scope");
  const std::string third = make("c.scope");
  Description description = container(first, std::string(64, '1'), labels({{"app", "web"}}));
  description.name = "web";
  ASSERT_TRUE(registry_->enrol(description));
  description = container(second, std::string(64, '2'), labels({{"app", "web"}}));
  description.name = "web";
  ASSERT_TRUE(registry_->enrol(description));
  EXPECT_EQ(registry_->find_cgroup(second)->name, "web-222222222222");
  description = describe(third, labels({{"app", "web"}}));
  description.name = "web";
  EXPECT_FALSE(registry_->enrol(description)) << "a launch is refused";
  EXPECT_EQ(registry_->find_cgroup(third)->state, State::quarantined);
  EXPECT_EQ(registry_->find_name("web")->cgroup_path, first);
}

TEST_F(RegistryTest, ARenamedContainerKeepsItsNumber) {
  const std::string path = make("a.scope");
  Description description = container(path, std::string(64, '1'), labels({{"app", "web"}}));
  ASSERT_TRUE(registry_->enrol(description));
  description.name = "renamed";
  ASSERT_TRUE(registry_->enrol(description));
  EXPECT_EQ(registry_->find_name("renamed")->number, 1000U);
  EXPECT_EQ(registry_->find_name("a.scope"), nullptr);
  EXPECT_EQ(kernel_.enrolments, 1U);
}

TEST_F(RegistryTest, ProcessesThatOutliveTheirContainerAreQuarantined) {
  const std::string path = make("docker-1.scope");
  ASSERT_TRUE(registry_->enrol(container(path, std::string(64, '1'), labels({{"app", "web"}}))));
  test::Sleeper process;
  ASSERT_TRUE(tree_->place(path, process.pid()));
  registry_->end_container(std::string(64, '1'));
  ASSERT_NE(registry_->find_cgroup(path), nullptr);
  EXPECT_EQ(registry_->find_cgroup(path)->state, State::quarantined);
  EXPECT_EQ(kernel_.cgroups.at(id(path)).number, 0U);
  process.stop();
  registry_->end_container(std::string(64, '1'));
  EXPECT_EQ(registry_->size(), 0U);
  EXPECT_TRUE(kernel_.cgroups.empty());
}

TEST_F(RegistryTest, UnenforcedContainersAreListedOnly) {
  Description description = container("", std::string(64, '1'), labels({{"app", "web"}}));
  description.name = "bridge";
  registry_->list_unenforced(description, "bridge network");
  ASSERT_NE(registry_->find_name("bridge"), nullptr);
  EXPECT_EQ(registry_->find_name("bridge")->state, State::unenforced);
  EXPECT_TRUE(kernel_.cgroups.empty());
  registry_->end_container(std::string(64, '1'));
  EXPECT_EQ(registry_->size(), 0U);
}

TEST_F(RegistryTest, AReleasedCgroupIsNoWorkload) {
  const std::string path = make("nginx.service");
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  registry_->release(path);
  EXPECT_EQ(registry_->size(), 0U);
  EXPECT_TRUE(kernel_.cgroups.empty());
  EXPECT_EQ(*tree_->attribute(path, kernel::kRecordXattr), std::nullopt);
}

/// The kernel may have quarantined the cgroup when it was created.
TEST_F(RegistryTest, ReleaseReachesACgroupThatWasNeverKnown) {
  const std::string path = make("docker-1.scope");
  registry_->release(path);
  EXPECT_EQ(kernel_.calls, std::vector<std::string>{"release " + path});
  registry_->release("");
  registry_->release(path + "/gone");
  EXPECT_EQ(kernel_.calls.size(), 1U);
}

TEST_F(RegistryTest, TellsOfEveryChange) {
  std::vector<std::string> seen;
  registry_->on_change = [&](const Workload& workload, bool ended) {
    seen.push_back(workload.name + " " + (ended ? "ended" : text(workload.state)));
  };
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->quarantine(describe(path, {}), "not known yet"));
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  ASSERT_TRUE(tree_->remove(path));
  registry_->end_cgroup(path);
  EXPECT_EQ(seen, (std::vector<std::string>{"web.scope quarantined", "web.scope enforced",
                                            "web.scope ended"}));
}

TEST_F(RegistryTest, LabelsThatCannotBeProvedAreAWarning) {
  bool fits = false;
  registry_->provable = [&](const policy::LabelSet&) {
    return fits ? Status{} : Status(fail("no token has room for its labels"));
  };
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(describe(path, labels({{"app", "web"}}))));
  const auto warnings = [&] { return registry_->find_cgroup(path)->warnings; };
  EXPECT_EQ(registry_->find_cgroup(path)->state, State::enforced)
      << "local traffic is not affected";
  EXPECT_THAT(warnings(), ::testing::ElementsAre("LOCAL ONLY: no token has room for its labels"));
  registry_->examine(path);
  EXPECT_EQ(warnings().size(), 1U);
  fits = true;  // another credential
  registry_->examine(path);
  EXPECT_THAT(warnings(), ::testing::IsEmpty());
}

TEST_F(RegistryTest, WarnsOfCapabilities) {
  const std::string path = make("web.scope");
  test::Sleeper process;
  Description description = describe(path, labels({{"app", "web"}}));
  description.pid = process.pid();
  description.warnings = {"listens elsewhere"};
  ASSERT_TRUE(registry_->enrol(description));
  EXPECT_THAT(
      registry_->find_cgroup(path)->warnings,
      ::testing::IsSupersetOf({"listens elsewhere", "CAP_NET_ADMIN: can remove the rules"}));
  process.stop();
  registry_->examine(path);
  EXPECT_EQ(registry_->find_cgroup(path)->warnings, std::vector<std::string>{"listens elsewhere"});
}

}  // namespace
}  // namespace trireme::workload
