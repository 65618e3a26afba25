// SPDX-License-Identifier: Apache-2.0
// Quarantine by an operator's order: what must not end it, and what does.
#include <gmock/gmock.h>

#include <algorithm>

#include "trireme/workload/registry.hpp"
#include "workload_support.hpp"

namespace trireme::workload {
namespace {

using test::hex;
using test::labels;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

class HoldsTest : public test::CgroupTest {
 protected:
  void SetUp() override {
    CgroupTest::SetUp();
    if (!IsSkipped()) {
      open();
    }
  }
  void open() {
    registry_ = std::make_unique<Registry>(*tree_, kernel_);
    registry_->on_holds = [this]() -> Status {
      if (is_disk_full_) {
        return fail("no space left on device");
      }
      saved_ = registry_->holds();
      return {};
    };
  }
  /// Restarts the daemon with the same cgroups, the saved orders and an empty kernel table.
  void restart() {
    registry_.reset();
    kernel_.cgroups.clear();
    open();
    registry_->set_holds(saved_);
    ASSERT_TRUE(registry_->recover());
  }
  static Description process(const std::string& path) {
    Description description;
    description.name = path.substr(path.rfind('/') + 1);
    description.labels = labels({{"app", "web"}});
    description.cgroup_path = path;
    return description;
  }
  static Description unit(const std::string& path) {
    Description description = process(path);
    description.kind = Kind::unit;
    return description;
  }
  static Description container(const std::string& path, char id, const std::string& name) {
    Description description = process(path);
    description.kind = Kind::container;
    description.container_id = hex(id);
    description.name = name;
    return description;
  }
  [[nodiscard]] State state(const std::string& name) const {
    const Workload* workload = registry_->find_name(name);
    EXPECT_NE(workload, nullptr) << name;
    return workload == nullptr ? State::unenforced : workload->state;
  }
  /// The number in the kernel; 0: quarantined.
  policy::Number in_kernel(const std::string& path) { return kernel_.cgroups.at(id(path)).number; }
  void die(const std::string& path) {
    ASSERT_TRUE(tree_->remove(path));
    registry_->end_cgroup(path);
  }

  test::FakeEnforcement kernel_;
  std::unique_ptr<Registry> registry_;
  std::vector<Hold> saved_;
  bool is_disk_full_ = false;
};

TEST_F(HoldsTest, AHeldWorkloadIsQuarantinedWithWhoAndWhy) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(process(path)));
  ASSERT_TRUE(registry_->hold("web.scope", "alice", "beacons"));
  EXPECT_EQ(state("web.scope"), State::quarantined);
  EXPECT_EQ(in_kernel(path), 0U);
  const std::string reason = registry_->find_name("web.scope")->reason;
  EXPECT_THAT(reason, StartsWith("ordered by alice at 2"));
  EXPECT_THAT(reason, HasSubstr("Z: beacons"));
  ASSERT_THAT(saved_, SizeIs(1));
  EXPECT_EQ(saved_.front().by, "alice");
  EXPECT_EQ(registry_->hold_on(*registry_->find_name("web.scope")), &registry_->holds().front());
}

TEST_F(HoldsTest, ItsSourceDoesNotEndIt) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(process(path)));
  ASSERT_TRUE(registry_->hold("web.scope", "alice", ""));
  EXPECT_TRUE(registry_->enrol(process(path))) << "no error: the source has nothing to repeat";
  EXPECT_EQ(in_kernel(path), 0U);
  Description other = process(path);
  other.labels = labels({{"app", "db"}});
  EXPECT_TRUE(registry_->enrol(other));
  ASSERT_TRUE(registry_->quarantine(other, "waiting for its engine"));
  EXPECT_TRUE(registry_->enrol(other));
  EXPECT_EQ(state("web.scope"), State::quarantined);
  EXPECT_EQ(in_kernel(path), 0U);
  EXPECT_EQ(kernel_.enrolments, 1U);
  ASSERT_TRUE(registry_->end_hold("web.scope", "bob"));
  EXPECT_EQ(kernel_.cgroups.at(id(path)).labels, labels({{"app", "db"}})) << "the latest labels";
}

TEST_F(HoldsTest, LabelsOfTheHostDoNotEndIt) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(process(path)));
  ASSERT_TRUE(registry_->hold("web.scope", "alice", ""));
  registry_->set_host_labels(labels({{"zone", "eu"}}));
  EXPECT_EQ(in_kernel(path), 0U);
  EXPECT_EQ(state("web.scope"), State::quarantined);
  ASSERT_TRUE(registry_->end_hold("web.scope", "alice"));
  policy::LabelSet expected = labels({{"app", "web"}});
  ASSERT_TRUE(expected.set_of_host("zone", "eu"));
  EXPECT_EQ(kernel_.cgroups.at(id(path)).labels, expected);
}

TEST_F(HoldsTest, ARestartOfTheDaemonDoesNotEndIt) {
  const std::string path = make("web.scope");
  const std::string other = make("other.scope");
  ASSERT_TRUE(registry_->enrol(process(path)));
  ASSERT_TRUE(registry_->enrol(process(other)));
  ASSERT_TRUE(registry_->hold("web.scope", "alice", ""));
  restart();
  EXPECT_EQ(in_kernel(path), 0U);
  EXPECT_EQ(in_kernel(other), 1001U);
  EXPECT_TRUE(registry_->enrol(process(path)));
  EXPECT_EQ(in_kernel(path), 0U);
  ASSERT_TRUE(registry_->end_hold("web.scope", "alice")) << "no source enrolls a process again";
  EXPECT_EQ(state("web.scope"), State::enforced);
  EXPECT_NE(in_kernel(path), 0U);
}

/// The daemon was killed between the order and its effect.
TEST_F(HoldsTest, AnOrderThatTheRecordsDoNotKnowApplies) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(process(path)));
  saved_ = {{.name = "web.scope",
             .kind = Kind::process,
             .cgroup_path = path,
             .cgroup_id = id(path),
             .container_id = "",
             .by = "alice",
             .why = "",
             .since = "2026-01-31T12:00:00Z"}};
  restart();
  EXPECT_EQ(in_kernel(path), 0U);
}

/// The daemon was killed between the effect and the order's file, or could not write it.
TEST_F(HoldsTest, AnOrderThatOnlyTheRecordsKnowApplies) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(process(path)));
  is_disk_full_ = true;
  const Status unsaved = registry_->hold("web.scope", "alice", "reads: a lot");
  ASSERT_FALSE(unsaved);
  EXPECT_THAT(unsaved.error().message, HasSubstr("is quarantined, but the order is not saved"));
  EXPECT_EQ(in_kernel(path), 0U) << "it applies at once";
  is_disk_full_ = false;
  restart();
  ASSERT_THAT(saved_, SizeIs(1));
  EXPECT_EQ(saved_.front().by, "alice");
  EXPECT_EQ(saved_.front().why, "reads: a lot");
  EXPECT_TRUE(registry_->enrol(process(path)));
  EXPECT_EQ(in_kernel(path), 0U);
  ASSERT_TRUE(registry_->end_hold("web.scope", "alice"));
  EXPECT_NE(in_kernel(path), 0U);
}

TEST_F(HoldsTest, AnOrderIsInItsFileUntilItsEndIsInEffect) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(process(path)));
  ASSERT_TRUE(registry_->hold("web.scope", "alice", ""));
  policy::Number number = 0;
  registry_->on_holds = [&]() -> Status {
    number = in_kernel(path);
    return {};
  };
  ASSERT_TRUE(registry_->end_hold("web.scope", "alice"));
  EXPECT_NE(number, 0U)
      << "otherwise a daemon that is killed here leaves it in quarantine for ever";
}

TEST_F(HoldsTest, OtherReasonsAreNoOrders) {
  Workload workload;
  workload.state = State::quarantined;
  for (const char* reason : {"", "ordered by", "ordered by alice", "ordered by alice at noon",
                             "waiting, ordered by alice at 2026-01-31T12:00:00Z",
                             "ordered by alice at 2026-01-31T12:00:00Z, or so"}) {
    workload.reason = reason;
    EXPECT_FALSE(Hold::of(workload)) << reason;
  }
  workload.reason = "NOT SHUT (no memory): ordered by alice at 2026-01-31T12:00:00Z: x";
  ASSERT_TRUE(Hold::of(workload));
  EXPECT_EQ(Hold::of(workload)->text(), "ordered by alice at 2026-01-31T12:00:00Z: x");
  workload.state = State::enforced;
  EXPECT_FALSE(Hold::of(workload));
}

TEST_F(HoldsTest, AUnitThatStartsAgainIsStillHeld) {
  make("system.slice");
  std::string path = make("system.slice/web.service");
  ASSERT_TRUE(registry_->enrol(unit(path)));
  ASSERT_TRUE(registry_->hold("web.service", "alice", ""));
  die(path);
  EXPECT_EQ(registry_->find_name("web.service"), nullptr);
  EXPECT_THAT(registry_->holds(), SizeIs(1));
  make("system.slice/web.service");
  EXPECT_TRUE(registry_->enrol(unit(path)));
  EXPECT_EQ(in_kernel(path), 0U);
  die(path);
  restart();
  make("elsewhere.slice");
  path = make("elsewhere.slice/web.service");
  EXPECT_TRUE(registry_->enrol(unit(path)));
  EXPECT_EQ(in_kernel(path), 0U) << "in another slice it is the same unit";
  die(path);
  ASSERT_TRUE(registry_->end_hold("web.service", "alice")) << "it need not be live";
  make("elsewhere.slice/web.service");
  EXPECT_TRUE(registry_->enrol(unit(path)));
  EXPECT_NE(in_kernel(path), 0U);
}

TEST_F(HoldsTest, AContainerIsHeldByItsIdAndByItsName) {
  const std::string first = make("docker-1.scope");
  const std::string second = make("docker-2.scope");
  ASSERT_TRUE(registry_->enrol(container(first, '1', "web")));
  ASSERT_TRUE(registry_->hold("web", "alice", ""));
  EXPECT_TRUE(registry_->enrol(container(first, '1', "renamed")));
  EXPECT_EQ(in_kernel(first), 0U);
  registry_->end_container(hex('1'));
  EXPECT_TRUE(registry_->enrol(container(second, '2', "web"))) << "recreated by compose";
  EXPECT_EQ(in_kernel(second), 0U);
  registry_->end_container(hex('2'));
  EXPECT_TRUE(registry_->enrol(container(second, '2', "other")));
  EXPECT_NE(in_kernel(second), 0U);
  EXPECT_TRUE(registry_->enrol(container(second, '2', "web"))) << "renamed while it is enforced";
  EXPECT_EQ(in_kernel(second), 0U);
}

/// Processes of the earlier container still have its name.
TEST_F(HoldsTest, AContainerThatGetsASuffixIsHeld) {
  const std::string first = make("docker-1.scope");
  const std::string second = make("docker-2.scope");
  const std::string third = make("docker-3.scope");
  ASSERT_TRUE(registry_->enrol(container(first, '1', "web")));
  ASSERT_TRUE(registry_->hold("web", "alice", ""));
  EXPECT_TRUE(registry_->enrol(container(second, '2', "web")));
  EXPECT_NE(registry_->find_name("web-" + hex('2').substr(0, 12)), nullptr);
  EXPECT_EQ(in_kernel(second), 0U);
  ASSERT_TRUE(registry_->enrol(container(third, '3', "web-" + hex('2').substr(0, 12))));
  EXPECT_NE(in_kernel(third), 0U) << "another name";
}

TEST_F(HoldsTest, AContainerOfTheSameNameOfAnotherEngineIsHeldAtOnce) {
  const std::string docker = make("docker-1.scope");
  const std::string podman = make("libpod-2.scope");
  ASSERT_TRUE(registry_->enrol(container(docker, '1', "web")));
  ASSERT_TRUE(registry_->enrol(container(podman, '2', "web")));
  ASSERT_TRUE(registry_->hold("web", "alice", ""));
  EXPECT_EQ(in_kernel(docker), 0U);
  EXPECT_EQ(in_kernel(podman), 0U);
  ASSERT_TRUE(registry_->end_hold("web", "alice"));
  EXPECT_TRUE(registry_->enrol(container(docker, '1', "web")));
  EXPECT_TRUE(registry_->enrol(container(podman, '2', "web")));
  EXPECT_NE(in_kernel(docker), 0U);
  EXPECT_NE(in_kernel(podman), 0U);
}

TEST_F(HoldsTest, TheFirstOrderThatCoversAWorkloadIsFound) {
  const std::string first = make("docker-1.scope");
  const std::string second = make("docker-2.scope");
  ASSERT_TRUE(registry_->enrol(container(first, '1', "web")));
  ASSERT_TRUE(registry_->enrol(container(second, '2', "db")));
  ASSERT_TRUE(registry_->hold("web", "alice", ""));
  ASSERT_TRUE(registry_->hold("db", "alice", ""));
  registry_->end_container(hex('1'));
  EXPECT_EQ(registry_->live_holds(), (std::vector<bool>{false, true}));
  EXPECT_TRUE(registry_->enrol(container(second, '2', "web"))) << "both orders cover it now";
  EXPECT_EQ(registry_->live_holds(), (std::vector<bool>{true, true}));
  for (const Workload* workload : registry_->all()) {
    const auto covering = std::ranges::find_if(
        registry_->holds(), [&](const Hold& hold) { return hold.covers(*workload); });
    EXPECT_EQ(registry_->hold_on(*workload), &*covering);
  }
  ASSERT_TRUE(registry_->end_hold("web", "alice"));
  ASSERT_THAT(registry_->holds(), SizeIs(1));
  EXPECT_EQ(registry_->hold_on(*registry_->find_name("web")), &registry_->holds().front());
}

TEST_F(HoldsTest, AnotherKindWithTheSameNameIsFree) {
  const std::string held = make("a.scope");
  const std::string free = make("web");
  ASSERT_TRUE(registry_->enrol(container(held, '1', "web")));
  ASSERT_TRUE(registry_->hold("web", "alice", ""));
  registry_->end_container(hex('1'));
  ASSERT_TRUE(registry_->enrol(unit(free)));
  EXPECT_EQ(state("web"), State::enforced);
}

TEST_F(HoldsTest, AnOrderForAProcessEndsWithIt) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(process(path)));
  ASSERT_TRUE(registry_->hold("web.scope", "alice", ""));
  die(path);
  EXPECT_THAT(saved_, IsEmpty());
  make("web.scope");
  ASSERT_TRUE(registry_->enrol(process(path)));
  EXPECT_EQ(state("web.scope"), State::enforced) << "a new command of trirun is another workload";
  ASSERT_TRUE(registry_->hold("web.scope", "alice", ""));
  ASSERT_TRUE(tree_->remove(path));  // while no daemon runs
  restart();
  EXPECT_THAT(saved_, IsEmpty());
}

TEST_F(HoldsTest, WhatIsNoWorkloadAnyMoreStaysHeld) {
  const std::string path = make("web.service");
  ASSERT_TRUE(registry_->enrol(unit(path)));
  ASSERT_TRUE(registry_->hold("web.service", "alice", ""));
  registry_->release(path);  // its [[unit]] entry was removed
  ASSERT_NE(registry_->find_name("web.service"), nullptr);
  EXPECT_EQ(in_kernel(path), 0U);
  const unsigned enrolments = kernel_.enrolments;
  ASSERT_TRUE(registry_->end_hold("web.service", "alice"));
  EXPECT_EQ(state("web.service"), State::quarantined) << "until its source has decided";
  EXPECT_THAT(registry_->find_name("web.service")->reason, HasSubstr("still a workload"));
  EXPECT_EQ(kernel_.enrolments, enrolments);
  registry_->release(path);
  EXPECT_TRUE(kernel_.cgroups.empty());
}

/// The daemon is killed before the source has decided.
TEST_F(HoldsTest, WhatIsReleasedStaysInQuarantineUntilItsSourceHasDecided) {
  const std::string path = make("docker-1.scope");
  ASSERT_TRUE(registry_->enrol(container(path, '1', "web")));
  ASSERT_TRUE(registry_->hold("web", "alice", ""));
  ASSERT_TRUE(registry_->end_hold("web", "alice"));
  EXPECT_EQ(in_kernel(path), 0U);
  restart();
  EXPECT_THAT(registry_->holds(), IsEmpty());
  EXPECT_EQ(in_kernel(path), 0U);
  EXPECT_TRUE(registry_->enrol(container(path, '1', "web")));
  EXPECT_NE(in_kernel(path), 0U);
}

TEST_F(HoldsTest, AnotherReasonStaysWhenTheOrderEnds) {
  const std::string path = make("docker-1.scope");
  ASSERT_TRUE(registry_->quarantine(container(path, '1', "web"), "waiting for its engine"));
  ASSERT_TRUE(registry_->hold("web", "alice", ""));
  EXPECT_EQ(registry_->find_name("web")->reason, "waiting for its engine");
  EXPECT_TRUE(registry_->enrol(container(path, '1', "web")));
  EXPECT_EQ(in_kernel(path), 0U);
  EXPECT_THAT(registry_->find_name("web")->reason, StartsWith("ordered by alice"));
  ASSERT_TRUE(registry_->quarantine(container(path, '1', "web"), "its labels are invalid"));
  ASSERT_TRUE(registry_->end_hold("web", "alice"));
  EXPECT_EQ(state("web"), State::quarantined);
  EXPECT_EQ(registry_->find_name("web")->reason, "its labels are invalid");
}

TEST_F(HoldsTest, AKernelThatRefusesAtReleaseMeansQuarantine) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(process(path)));
  ASSERT_TRUE(registry_->hold("web.scope", "alice", ""));
  kernel_.refuse_enrolment = true;
  EXPECT_TRUE(registry_->end_hold("web.scope", "alice"));
  EXPECT_EQ(in_kernel(path), 0U);
  EXPECT_EQ(registry_->find_name("web.scope")->reason, "no memory for elements");
}

TEST_F(HoldsTest, WhatCannotBeHeldIsAnError) {
  const std::string path = make("web.scope");
  ASSERT_TRUE(registry_->enrol(process(path)));
  EXPECT_EQ(registry_->hold("none", "alice", "").error().message, "no workload is named 'none'");
  EXPECT_FALSE(registry_->end_hold("none", "alice"));
  EXPECT_FALSE(registry_->end_hold("web.scope", "alice")) << "it is not held";
  ASSERT_TRUE(registry_->hold("web.scope", "alice", "first"));
  const Status again = registry_->hold("web.scope", "bob", "second");
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message, HasSubstr("already quarantined: ordered by alice"));
  Description description = container("", '2', "bridge");
  registry_->list_unenforced(description, "left alone");
  EXPECT_THAT(registry_->hold("bridge", "alice", "").error().message, HasSubstr("left alone"));
  EXPECT_THAT(registry_->holds(), SizeIs(1));
}

}  // namespace
}  // namespace trireme::workload
