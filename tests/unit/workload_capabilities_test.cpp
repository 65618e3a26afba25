// SPDX-License-Identifier: Apache-2.0
// Which warnings are about capabilities, so that [host] acknowledge can name them.
#include "trireme/workload/capabilities.hpp"

#include <gtest/gtest.h>

#include "trireme/config/host.hpp"

namespace trireme::workload {
namespace {

TEST(CapabilityOf, NamesTheCapability) {
  EXPECT_EQ(capability_of("CAP_NET_RAW: can send frames below the rules, and sniff"),
            "CAP_NET_RAW");
  EXPECT_EQ(capability_of("may gain CAP_SYS_ADMIN: could rewrite labels"), "CAP_SYS_ADMIN");
  for (const char* other :
       {"", "LOCAL ONLY: CAP_NET_RAW: x", "privileged: can do anything to this host", "CAP_KILL: x",
        "host PID namespace: can act", "CAP_NET_RAWX: y"}) {
    EXPECT_EQ(capability_of(other), "") << other;
  }
}

// Every capability that can be acknowledged is one that containers are warned of.
TEST(CapabilityOf, EachThatCanBeAcknowledgedHasAWarning) {
  for (const std::string_view capability : config::kCapabilities) {
    ContainerCapabilities container;
    container.add = {std::string(capability)};
    container.drop = {"NET_RAW"};
    bool found = false;
    for (const std::string& warning : container_warnings(container, {})) {
      found = found || capability_of(warning) == capability;
    }
    EXPECT_TRUE(found) << capability;
  }
}

}  // namespace
}  // namespace trireme::workload
