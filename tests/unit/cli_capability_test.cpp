// SPDX-License-Identifier: Apache-2.0
// The capabilities of workloads as one line.
#include <gtest/gtest.h>

#include "capability_line.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

json workload(const std::vector<std::string>& capabilities) {
  return {{"name", "x"}, {"capabilities", capabilities}};
}

TEST(CapabilityLine, CountsWorkloadsAndCapabilities) {
  EXPECT_EQ(capability_line(count_capabilities(json::array())), "");
  EXPECT_EQ(capability_line(count_capabilities(json::array({workload({})}))), "");
  EXPECT_EQ(capability_line(json::object()), "") << "a daemon of another version";
  EXPECT_EQ(
      capability_line(count_capabilities(json::array({workload({"CAP_NET_RAW"}), json::object()}))),
      "1 workload can bypass policy by its capabilities: CAP_NET_RAW (1)");
  EXPECT_EQ(capability_line(count_capabilities(json::array(
                {workload({"CAP_NET_RAW", "CAP_NET_ADMIN"}), workload({"CAP_NET_RAW"})}))),
            "2 workloads can bypass policy by their capabilities: CAP_NET_ADMIN (1), CAP_NET_RAW "
            "(2)");
}

TEST(CapabilityLine, OtherWarningsStay) {
  const json one = workload({"CAP_NET_RAW"});
  EXPECT_TRUE(is_about_capability(one, "CAP_NET_RAW: can sniff"));
  EXPECT_TRUE(is_about_capability(one, "may gain CAP_NET_RAW: could sniff"));
  EXPECT_FALSE(is_about_capability(one, "privileged: can do anything to this host"));
  EXPECT_FALSE(is_about_capability(one, "LOCAL ONLY: the labels do not fit"));
  EXPECT_FALSE(is_about_capability(json::object(), "CAP_NET_RAW: can sniff"));
}

}  // namespace
}  // namespace trireme::cli
