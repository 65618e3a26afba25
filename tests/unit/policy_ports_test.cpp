// SPDX-License-Identifier: Apache-2.0
// Ports of a command line: numbers, names, ranges, with the protocol on either side.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "trireme/policy/ports.hpp"

namespace trireme::policy {
namespace {

std::optional<std::uint16_t> service(const std::string& name, std::uint8_t protocol) {
  const bool tcp = protocol == IPPROTO_TCP;
  if (name == "domain") {
    return 53;
  }
  if (name == "http-alt" && tcp) {
    return 8080;
  }
  if (name == "bootps" && !tcp) {
    return 67;
  }
  if (name == "twofold") {
    return tcp ? 1000 : 2000;
  }
  return std::nullopt;
}

TEST(Ports, AreReadInEveryForm) {
  constexpr PortRange kAny53{.protocol = 0, .first = 53, .last = 53};
  constexpr PortRange kTcp80{.protocol = 6, .first = 80, .last = 80};
  constexpr PortRange kUdp{.protocol = 17, .first = 8000, .last = 8010};
  for (const auto& [text, range] : std::vector<std::pair<std::string, PortRange>>{
           {"53", kAny53},
           {"domain", kAny53},
           {"tcp/80", kTcp80},
           {"80/tcp", kTcp80},
           {"8000-8010", {.protocol = 0, .first = 8000, .last = 8010}},
           {"udp/8000-8010", kUdp},
           {"8000-8010/udp", kUdp},
           {"http-alt", {.protocol = 6, .first = 8080, .last = 8080}},
           {"bootps", {.protocol = 17, .first = 67, .last = 67}},
           {"udp/domain", {.protocol = 17, .first = 53, .last = 53}},
           {"twofold/udp", {.protocol = 17, .first = 2000, .last = 2000}},
           {"tcp", {.protocol = 6}},
           {"icmp", {.protocol = 1}},
           {"icmpv6", {.protocol = 58}}}) {
    const auto read = parse_ports(text, service);
    ASSERT_TRUE(read) << text << ": " << read.error().text();
    EXPECT_EQ(*read, range) << text;
    EXPECT_EQ(parse_ports(policy::text(*read)), range) << "as the daemon reads it";
  }
}

TEST(Ports, OtherTextIsAnErrorWithAHint) {
  for (const char* text : {"",           "/",       "tcp/",         "/80",
                           "0",          "65536",   "999999999999", "80-",
                           "-80",        "80-70",   "1-2-3",        "80/",
                           "tcp/80/tcp", "80/sctp", "sctp/80",      "tcp:80",
                           "tcp 80",     "nosuch",  "udp/http-alt", "twofold",
                           "icmp/8",     "8/icmp",  "+80",          "80 ",
                           "0x50",       "tcp/udp"}) {
    const auto read = parse_ports(text, service);
    ASSERT_FALSE(read) << text;
    EXPECT_NE(read.error().message.find('\'' + std::string(text)), std::string::npos);
    EXPECT_FALSE(read.error().hint.empty()) << text;
  }
  EXPECT_EQ(parse_ports("tcp:80").error().hint, "did you mean tcp/80?");
  EXPECT_EQ(parse_ports("tcp/90-80").error().hint, "did you mean 80-90?");
  EXPECT_EQ(parse_ports("twofold", service).error().hint, "write tcp/twofold or udp/twofold");
}

TEST(Ports, NamesNeedALookup) {
  EXPECT_FALSE(parse_ports("domain"));
  EXPECT_FALSE(parse_ports("udp/domain"));
}

TEST(Ports, OnePortIsOne) {
  for (const auto& [text, range] : std::vector<std::pair<std::string, PortRange>>{
           {"80", {.protocol = 6, .first = 80, .last = 80}},
           {"53/udp", {.protocol = 17, .first = 53, .last = 53}},
           {"bootps", {.protocol = 17, .first = 67, .last = 67}},
           {"icmpv6", {.protocol = 58, .first = 0, .last = 0}}}) {
    const auto read = parse_port(text, service);
    ASSERT_TRUE(read) << text;
    EXPECT_EQ(*read, range) << text;
  }
  for (const char* text : {"tcp", "80-81", "udp/1-65535", "icmp/1", ""}) {
    EXPECT_FALSE(parse_port(text, service)) << text;
  }
}

}  // namespace
}  // namespace trireme::policy
