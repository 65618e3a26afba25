// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/address.hpp"

#include <gtest/gtest.h>

namespace trireme::policy {
namespace {

TEST(Address, ParsesAndPrintsBothFamilies) {
  for (const char* text :
       {"0.0.0.0", "192.0.2.1", "255.255.255.255", "::", "::1", "2001:db8::1", "fe80::1"}) {
    const auto address = Address::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->text(), text);
  }
  const auto v4 = Address::parse("192.0.2.1");
  EXPECT_EQ(v4->family, Address::Family::v4);
  EXPECT_EQ(v4->bytes[3], 1);
  EXPECT_EQ(v4->bytes[4], 0);
  EXPECT_EQ(v4->size(), 4U);
  EXPECT_EQ(Address::parse("::1")->size(), 16U);
}

TEST(Address, MappedIsIpv4) {
  EXPECT_EQ(*Address::parse("::ffff:192.0.2.1"), *Address::parse("192.0.2.1"));
  EXPECT_EQ(Address::parse("::192.0.2.1")->family, Address::Family::v6);
}

TEST(Address, RefusesWhatIsNone) {
  using namespace std::string_view_literals;
  for (const auto text :
       {""sv, "1.2.3"sv, "1.2.3.4.5"sv, "256.0.0.1"sv, "01.2.3.4 "sv, "fe80::1%eth0"sv,
        "1.2.3.4\0"sv, "example.org"sv, ":::"sv, "1.2.3.4/8"sv}) {
    EXPECT_FALSE(Address::parse(text)) << text;
  }
}

TEST(Prefix, ContainsByBits) {
  const auto ten = Prefix::parse("10.0.0.0/9");
  ASSERT_TRUE(ten);
  EXPECT_TRUE(ten->contains(*Address::parse("10.127.255.255")));
  EXPECT_FALSE(ten->contains(*Address::parse("10.128.0.0")));
  EXPECT_FALSE(ten->contains(*Address::parse("::a00:0")));
  EXPECT_EQ(ten->last().text(), "10.127.255.255");
  const auto docs = Prefix::parse("2001:db8::/33");
  EXPECT_TRUE(docs->contains(*Address::parse("2001:db8:7fff::1")));
  EXPECT_FALSE(docs->contains(*Address::parse("2001:db8:8000::1")));
  EXPECT_EQ(docs->last().text(), "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff");
}

TEST(Prefix, ZeroLengthIsTheWholeFamily) {
  EXPECT_TRUE(Prefix::parse("0.0.0.0/0")->contains(*Address::parse("203.0.113.9")));
  EXPECT_FALSE(Prefix::parse("0.0.0.0/0")->contains(*Address::parse("::1")));
  EXPECT_TRUE(Prefix::parse("::/0")->contains(*Address::parse("2001:db8::1")));
  EXPECT_EQ(Prefix::parse("0.0.0.0/0")->last().text(), "255.255.255.255");
}

TEST(Prefix, ABareAddressIsOneHost) {
  EXPECT_EQ(Prefix::parse("192.0.2.1")->text(), "192.0.2.1/32");
  EXPECT_EQ(Prefix::parse("2001:db8::1")->text(), "2001:db8::1/128");
  EXPECT_EQ(Prefix::parse("192.0.2.1")->last().text(), "192.0.2.1");
}

TEST(Prefix, MappedPrefixesAreIpv4) {
  EXPECT_EQ(Prefix::parse("::ffff:10.0.0.0/104")->text(), "10.0.0.0/8");
  EXPECT_EQ(Prefix::parse("::ffff:192.0.2.1")->text(), "192.0.2.1/32");
  EXPECT_EQ(Prefix::parse("::ffff:0:0/96")->text(), "0.0.0.0/0");
}

TEST(Prefix, HostBitsAreAnErrorThatNamesThePrefixMeant) {
  const auto prefix = Prefix::parse("10.1.2.3/8");
  ASSERT_FALSE(prefix);
  EXPECT_EQ(prefix.error().text(),
            "'10.1.2.3/8' has bits set beyond its prefix length; did you mean 10.0.0.0/8 or "
            "10.1.2.3/32?");
  EXPECT_EQ(Prefix::parse("2001:db8::1/64").error().hint,
            "did you mean 2001:db8::/64 or 2001:db8::1/128?");
}

TEST(Prefix, RefusesBadLengths) {
  for (const char* text : {"10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8/8", "10.0.0.0/8x",
                           "10.0.0.0/+8", "::/129", "::/99999999999", "/8"}) {
    EXPECT_FALSE(Prefix::parse(text)) << text;
  }
}

}  // namespace
}  // namespace trireme::policy
