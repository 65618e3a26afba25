// SPDX-License-Identifier: Apache-2.0
// trireme's table is found in a saved ruleset.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "../../src/daemon/saved_ruleset.hpp"

namespace trireme::daemon {
namespace {

struct SavedRuleset : testing::Test {
  const std::string path = testing::TempDir() + "trireme-saved-ruleset";
  ~SavedRuleset() override { std::remove(path.c_str()); }
  Status check(const std::string& content) const {
    std::ofstream(path) << content;
    return check_saved_ruleset(path);
  }
};

TEST_F(SavedRuleset, WithTheTableIsAProblem) {
  const std::string others = "#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter {\n}\n";
  EXPECT_TRUE(check(others));
  const Status found = check(others + "table inet trireme {\n\tset same {\n\t}\n}\n");
  ASSERT_FALSE(found);
  EXPECT_NE(found.error().message.find(path + ":5:"), std::string::npos) << found.error().message;
  EXPECT_FALSE(check("table inet trireme{\n}\n"));
}

TEST_F(SavedRuleset, ASimilarLineIsNotTheTable) {
  EXPECT_TRUE(check("table inet trireme2 {\n}\n# table inet trireme {\n\ttable inet trireme\n"));
  EXPECT_TRUE(check(""));
  std::remove(path.c_str());
  EXPECT_TRUE(check_saved_ruleset(path));
}

}  // namespace
}  // namespace trireme::daemon
