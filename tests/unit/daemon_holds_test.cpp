// SPDX-License-Identifier: Apache-2.0
// The file of quarantine orders.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "../../src/daemon/kept_holds.hpp"
#include "config_support.hpp"
#include "trireme/base/file.hpp"

namespace trireme::daemon {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct KeptHolds : testing::Test {
  config::TemporaryDirectory run;
};

TEST_F(KeptHolds, ComeBackAsTheyWere) {
  const std::vector<workload::Hold> holds = {{.name = "web.service",
                                              .kind = workload::Kind::unit,
                                              .cgroup_path = "/system.slice/web.service",
                                              .cgroup_id = 17,
                                              .container_id = "",
                                              .by = "alice",
                                              .why = "says \"x\"",
                                              .since = "2026-01-31T12:00:00Z"},
                                             {.name = "web",
                                              .kind = workload::Kind::container,
                                              .cgroup_path = "/system.slice/docker-1.scope",
                                              .cgroup_id = 18,
                                              .container_id = std::string(64, '1'),
                                              .by = "root",
                                              .why = "",
                                              .since = "2026-01-31T12:00:01Z"}};
  ASSERT_TRUE(keep_holds(run.path(), holds));
  struct stat status = {};
  ASSERT_EQ(::stat(run.path("holds.json").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  const auto back = read_holds(run.path());
  ASSERT_TRUE(back);
  ASSERT_EQ(back->size(), 2U);
  for (std::size_t i = 0; i < holds.size(); ++i) {
    EXPECT_EQ((*back)[i].name, holds[i].name);
    EXPECT_EQ((*back)[i].kind, holds[i].kind);
    EXPECT_EQ((*back)[i].cgroup_path, holds[i].cgroup_path);
    EXPECT_EQ((*back)[i].cgroup_id, holds[i].cgroup_id);
    EXPECT_EQ((*back)[i].container_id, holds[i].container_id);
    EXPECT_EQ((*back)[i].text(), holds[i].text());
  }
}

TEST_F(KeptHolds, NoFileMeansNoOrder) {
  const auto none = read_holds(run.path());
  ASSERT_TRUE(none);
  EXPECT_THAT(*none, IsEmpty());
}

TEST_F(KeptHolds, AnUnreadableFileIsAnError) {
  for (const char* content : {"", "{", "{}", "[{}]", "[1]", "7", R"([{"name": 7}])",
                              R"([{"name": "a", "kind": "pod", "cgroup": "/a", "cgroup_id": 1,
                                   "container": "", "by": "b", "reason": "", "since": ""}])"}) {
    ASSERT_TRUE(write_file(run.path("holds.json"), content));
    const auto found = read_holds(run.path());
    ASSERT_FALSE(found) << content;
    EXPECT_THAT(found.error().message, HasSubstr("holds.json is unreadable")) << content;
  }
}

}  // namespace
}  // namespace trireme::daemon
