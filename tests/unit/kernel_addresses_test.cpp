// SPDX-License-Identifier: Apache-2.0
// The addresses of a network namespace that the test creates. Needs root.
#include "trireme/kernel/addresses.hpp"

#include <algorithm>

#include "kernel_support.hpp"

namespace trireme::kernel {
namespace {

class AddressWatchTest : public NamespaceTest {
 protected:
  void SetUp() override {
    NamespaceTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    auto watch = AddressWatch::open();
    ASSERT_TRUE(watch) << watch.error().text();
    watch_ = std::make_unique<AddressWatch>(std::move(*watch));
  }
  std::vector<std::string> list() {
    const auto addresses = watch_->list();
    EXPECT_TRUE(addresses) << addresses.error().text();
    EXPECT_TRUE(std::is_sorted(addresses->begin(), addresses->end()));
    std::vector<std::string> texts;
    for (const InterfaceAddress& each : *addresses) {
      texts.push_back(each.address.text() + "/" + std::to_string(each.length) + " " +
                      std::to_string(each.device));
    }
    return texts;
  }

  std::unique_ptr<AddressWatch> watch_;
};

TEST_F(AddressWatchTest, ListsEveryAddress) {
  EXPECT_EQ(list(), (std::vector<std::string>{"127.0.0.1/8 1", "::1/128 1"}));
  ASSERT_EQ(
      run("ip link add d0 type veth peer p0 && ip link set d0 addrgenmode none && ip link set d0 "
          "up && "
          "ip addr add 192.0.2.5 peer 192.0.2.9/32 dev d0 && ip -6 addr add fe80::5/64 dev d0 && "
          "ip -6 addr add 2001:db8::1/64 dev d0 preferred_lft 0 && ip -6 addr add 2001:db8::5 peer "
          "2001:db8::9/128 dev d0"),
      0);
  const std::string device = " " + std::to_string(::if_nametoindex("d0"));
  EXPECT_EQ(list(), (std::vector<std::string>{"127.0.0.1/8 1", "192.0.2.5/32" + device, "::1/128 1",
                                              "2001:db8::1/64" + device, "2001:db8::5/128" + device,
                                              "fe80::5/64" + device}))
      << "own addresses instead of the peer's, and deprecated and tentative ones too";
}

TEST_F(AddressWatchTest, HearsOfChanges) {
  EXPECT_FALSE(watch_->drain());
  for (const char* command :
       {"ip addr add 192.0.2.1/32 dev lo", "ip addr del 192.0.2.1/32 dev lo",
        "ip -6 addr add 2001:db8::1/128 dev lo", "ip -6 addr del 2001:db8::1/128 dev lo"}) {
    ASSERT_EQ(run(command), 0);
    EXPECT_TRUE(readable(watch_->fd())) << command;
    EXPECT_TRUE(watch_->drain()) << command;
    EXPECT_FALSE(watch_->drain());
  }
  ASSERT_EQ(run("ip link add d0 type veth peer p0"), 0);
  EXPECT_FALSE(watch_->drain()) << "no address changed";
}

TEST_F(AddressWatchTest, ThousandsAreOneList) {
  ASSERT_EQ(run("for i in $(seq 1 2000); do echo \"addr add 10.0.$((i / 250)).$((i % 250))/32 dev "
                "lo\"; done | ip -batch -"),
            0);
  EXPECT_EQ(list().size(), 2002U);
  EXPECT_TRUE(watch_->drain()) << "dropped notifications count as a change";
}

}  // namespace
}  // namespace trireme::kernel
