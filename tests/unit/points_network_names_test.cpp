// SPDX-License-Identifier: Apache-2.0
// Names of network namespaces in listings and metrics.
#include "trireme/points/network_names.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace trireme::points {
namespace {

using ::testing::UnorderedElementsAre;

/// A new network namespace. Null if this user cannot create one.
std::shared_ptr<const kernel::Netns> fresh_network() {
  std::shared_ptr<const kernel::Netns> network;
  std::thread([&network] {
    if (::unshare(CLONE_NEWNET) == 0) {
      network = kernel::Netns::own().value();
    }
  }).join();
  return network;
}

TEST(Networks, EachHasANameOfItsOwn) {
  const auto first = fresh_network();
  const auto second = fresh_network();
  if (first == nullptr || second == nullptr) {
    GTEST_SKIP() << "only root can create network namespaces";
  }
  workload::Workload host;
  host.name = "host";  // a container can have this name
  host.places = {{nullptr, false}, {first, true}};
  workload::Workload web;
  web.name = "web";
  web.places = {{first, false}, {second, false}};
  EXPECT_THAT(network_names({&host, &web}),
              UnorderedElementsAre(testing::Pair(first->inode(), "host"),
                                   testing::Pair(second->inode(), "web")));
  EXPECT_STRNE(kHostNetwork, "host");
  // Both network namespaces belong to one workload.
  host.places.push_back({second, false});
  EXPECT_THAT(network_names({&host, &web}),
              UnorderedElementsAre(
                  testing::Pair(first->inode(), "host"),
                  testing::Pair(second->inode(), "host " + network_name(second->inode()))));
}

}  // namespace
}  // namespace trireme::points
