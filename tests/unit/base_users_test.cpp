// SPDX-License-Identifier: Apache-2.0
#include "trireme/base/users.hpp"

#include <gtest/gtest.h>

namespace trireme {
namespace {

TEST(LocalUser, IsNamedByThePasswdFileAlone) {
  EXPECT_EQ(local_user(0), "root");
  EXPECT_EQ(local_user(65534), "nobody") << "not the first line; Debian has this user there";
  EXPECT_FALSE(local_user(3'999'999'999));
}

}  // namespace
}  // namespace trireme
