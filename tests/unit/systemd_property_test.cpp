// SPDX-License-Identifier: Apache-2.0
// trirun -p, which any local user can send: every property, its bounds, and what is sent to
// systemd.
#include "../../src/systemd/property.hpp"

#include <gmock/gmock.h>
#include <sys/socket.h>

#include <csignal>

#include "trireme/base/fd.hpp"

namespace trireme::systemd {
namespace {

using policy::Prefix;
using ::testing::HasSubstr;

constexpr std::uint64_t kInfinity = UINT64_MAX;

Result<TypedProperty> parse(const std::string& text) {
  const auto property = Property::parse(text);
  return property ? parse_property(*property) : tl::unexpected(property.error());
}

/// The message of the error for a text that must be invalid.
std::string error(const std::string& text) {
  const auto typed = parse(text);
  EXPECT_FALSE(typed) << text;
  return typed ? "" : typed.error().message;
}

/// Expects a property with this name, type and value.
template <typename T>
void expect(const std::string& text, const std::string& name, const T& value) {
  const auto typed = parse(text);
  ASSERT_TRUE(typed) << text << ": " << typed.error().text();
  EXPECT_EQ(typed->name, name) << text;
  ASSERT_TRUE(std::holds_alternative<T>(typed->value)) << text << ": " << typed->value.index();
  EXPECT_EQ(std::get<T>(typed->value), value) << text;
}

TEST(Property, IsANameAndAValue) {
  const auto property = Property::parse("Description=a=b = c");
  ASSERT_TRUE(property);
  EXPECT_EQ(property->name, "Description");
  EXPECT_EQ(property->value, "a=b = c") << "split at the first '='";
  EXPECT_EQ(Property::parse("KillMode=")->value, "");
  for (const std::string text : {"", "Description", "=value", "="}) {
    const auto bad = Property::parse(text);
    ASSERT_FALSE(bad) << text;
    EXPECT_EQ(bad.error().message, "invalid property '" + text + "'");
  }
}

TEST(Property, HoldsNoControlCharacters) {
  for (const std::string text :
       {"Description=a\n[Unit]\nOnFailure=poweroff.target", "Description=a\rb",
        "Description=\x1b[2J", "Description=\x7f", "Description=\t", "Des\ncription=a",
        "Description=\xC2\x9B", "Description=\xff\xfe", "Description=\xC3"}) {
    EXPECT_EQ(error(text), "a property must be UTF-8 without control characters");
  }
  EXPECT_FALSE(Property::parse(std::string("Description=a\0b", 15)));
  expect("Description=gr\xC3\xBC\xC3\x9F dich %n $HOME \"'", "Description",
         std::string("gr\xC3\xBC\xC3\x9F dich %n $HOME \"'"));
}

TEST(Property, ATextDoesNotContinueOnTheNextLine) {
  EXPECT_THAT(error("Description=a\\"), HasSubstr("backslash"));
  EXPECT_THAT(error("KillMode=\\\\"), HasSubstr("backslash"));
  expect("Description=a\\b", "Description", std::string("a\\b"));
}

TEST(Property, UnknownNamesAreToldTheKnownOnes) {
  for (const std::string name : {"ExecStart", "memorymax", "MemoryMax ", "User", "OnFailure"}) {
    const auto typed = parse(name + "=x");
    ASSERT_FALSE(typed) << name;
    EXPECT_EQ(typed.error().message, "unknown property '" + name + "'");
    EXPECT_THAT(typed.error().hint, HasSubstr("MemoryHigh, MemoryLow, MemoryMax"));
  }
}

TEST(Property, TextsAreTakenAsTheyAre) {
  for (const std::string name : {"CollectMode", "Description", "KillMode", "OOMPolicy"}) {
    expect(name + "=some text", name, std::string("some text"));
    expect(name + "=", name, std::string());
  }
}

TEST(Property, Booleans) {
  for (const std::string name :
       {"CPUAccounting", "Delegate", "IOAccounting", "IPAccounting", "MemoryAccounting",
        "SendSIGHUP", "SendSIGKILL", "TasksAccounting"}) {
    for (const std::string yes : {"yes", "true", "on", "1"}) {
      expect(name + "=" + yes, name, true);
    }
    for (const std::string no : {"no", "false", "off", "0"}) {
      expect(name + "=" + no, name, false);
    }
  }
  for (const std::string bad : {"", "YES", "y", "2", " yes", "yes "}) {
    EXPECT_EQ(error("Delegate=" + bad), "Delegate: invalid boolean '" + bad + "'");
  }
}

TEST(Property, Sizes) {
  for (const std::string name :
       {"MemoryHigh", "MemoryLow", "MemoryMax", "MemoryMin", "MemorySwapMax", "TasksMax"}) {
    expect(name + "=4096", name, std::uint64_t{4096});
    expect(name + "=infinity", name, kInfinity);
  }
  const std::pair<const char*, std::uint64_t> sizes[] = {
      {"0", 0},
      {"1B", 1},
      {"1K", 1U << 10U},
      {"1M", 1U << 20U},
      {"1.5G", 3ULL << 29U},
      {"1T", 1ULL << 40U},
      {"1P", 1ULL << 50U},
      {"1E", 1ULL << 60U},
      {"0.5K", 512},
      {"1.9", 1},
      {"7.999E", 9222219115350168576ULL},
      {"9223372036854774784", 9223372036854774784ULL},  // the last double below 2^63
  };
  for (const auto& [text, bytes] : sizes) {
    const auto size = parse_size(text);
    ASSERT_TRUE(size) << text;
    EXPECT_EQ(*size, bytes) << text;
  }
}

TEST(Property, SizesThatAreNone) {
  for (const std::string bad : {"",
                                " ",
                                "lots",
                                "-1",
                                "-0",
                                "+1",
                                "1 ",
                                " 1",
                                "1KB",
                                "1k",
                                "1KK",
                                "K",
                                "0x10",
                                "1e3",
                                "1,5",
                                "inf",
                                "nan",
                                "-nan",
                                "Infinity",
                                "8E",
                                "9223372036854775808",
                                "18446744073709551615",
                                "99999999999999999999E",
                                "1\xC2\xBD"}) {
    EXPECT_FALSE(parse_size(bad)) << bad;
    EXPECT_THAT(error("MemoryMax=" + bad), HasSubstr("MemoryMax: invalid size '" + bad + "'"));
  }
  EXPECT_FALSE(parse_size(std::string(100'000, '9'))) << "larger than a double";
  EXPECT_FALSE(parse_size(std::string("1\0", 2)));
}

TEST(Property, SharesHaveTheirOwnPropertyOf32Bits) {
  expect("MemoryMax=100%", "MemoryMaxScale", std::uint32_t{UINT32_MAX});
  expect("MemoryMax=0%", "MemoryMaxScale", std::uint32_t{0});
  expect("TasksMax=50%", "TasksMaxScale", std::uint32_t{2147483648U});
  expect("MemoryHigh=0.01%", "MemoryHighScale", std::uint32_t{429497});
  EXPECT_THAT(error("MemoryMax=100.01%"), HasSubstr("more than 100%"));
  EXPECT_THAT(error("MemoryMax=%"), HasSubstr("invalid percentage '%'"));
  EXPECT_THAT(error("MemoryMax=50 %"), HasSubstr("invalid percentage"));
  EXPECT_THAT(error("MemoryMax=50%%"), HasSubstr("invalid percentage"));
}

TEST(Property, Weights) {
  for (const std::string name : {"CPUWeight", "IOWeight"}) {
    expect(name + "=1", name, std::uint64_t{1});
    expect(name + "=10000", name, std::uint64_t{10'000});
    for (const std::string bad : {"0", "10001", "infinity", "0.5", "1M", "50%", "", "-1"}) {
      EXPECT_THAT(error(name + "=" + bad), HasSubstr(name + ": ")) << bad;
    }
  }
  expect("CPUWeight=idle", "CPUWeight", std::uint64_t{0});
  EXPECT_THAT(error("IOWeight=idle"), HasSubstr("invalid size"));
}

TEST(Property, Times) {
  expect("RuntimeMaxSec=90", "RuntimeMaxUSec", std::uint64_t{90'000'000});
  expect("TimeoutStopSec=1.5", "TimeoutStopUSec", std::uint64_t{1'500'000});
  expect("RuntimeMaxSec=infinity", "RuntimeMaxUSec", kInfinity);
  constexpr std::uint64_t kSecond = 1'000'000;
  const std::pair<const char*, std::uint64_t> spans[] = {
      {"0", 0},
      {"1us", 1},
      {"1usec", 1},
      {"1ms", 1000},
      {"1msec", 1000},
      {"1s", kSecond},
      {"1sec", kSecond},
      {"1second", kSecond},
      {"2seconds", 2 * kSecond},
      {"1m", 60 * kSecond},
      {"1min", 60 * kSecond},
      {"1minute", 60 * kSecond},
      {"2minutes", 120 * kSecond},
      {"1h", 3600 * kSecond},
      {"1hr", 3600 * kSecond},
      {"1hour", 3600 * kSecond},
      {"2hours", 7200 * kSecond},
      {"1d", 86400 * kSecond},
      {"1day", 86400 * kSecond},
      {"2days", 172800 * kSecond},
      {"1w", 604800 * kSecond},
      {"1week", 604800 * kSecond},
      {"2weeks", 1209600 * kSecond},
      {"5min 20s", 320 * kSecond},
      {"5min20s", 320 * kSecond},
      {" 5 min\t20 s ", 320 * kSecond},
      {"1h 1h", 7200 * kSecond},
      {"1.5h", 5400 * kSecond},
      {"0.0000001", 0},
  };
  for (const auto& [text, usec] : spans) {
    const auto span = parse_time(text);
    ASSERT_TRUE(span) << text;
    EXPECT_EQ(*span, usec) << text;
  }
}

TEST(Property, TimesThatAreNone) {
  for (const std::string bad :
       {"", " ", "yesterday", "-1", "1 parsec", "s", "min 5", "5min -20s", "1e3", "1S", "inf",
        "infinity 1s", "99999999999999999999", "16000000w", "5min,20s"}) {
    EXPECT_FALSE(parse_time(bad)) << bad;
    EXPECT_THAT(error("RuntimeMaxSec=" + bad), HasSubstr("invalid time span")) << bad;
  }
  std::string sum;
  for (int i = 0; i < 1000; ++i) {
    sum += "100000w ";
  }
  EXPECT_FALSE(parse_time(sum)) << "each fits, the sum does not";
}

TEST(Property, Quotas) {
  const std::string name = "CPUQuotaPerSecUSec";
  expect("CPUQuota=100%", name, std::uint64_t{1'000'000});
  expect("CPUQuota=250%", name, std::uint64_t{2'500'000});
  expect("CPUQuota=12.34%", name, std::uint64_t{123'400});
  expect("CPUQuota=0.01%", name, std::uint64_t{100});
  expect("CPUQuota=1000000%", name, std::uint64_t{10'000'000'000});
  expect("CPUQuota=infinity", name, kInfinity);
  expect("CPUQuota=", name, kInfinity);
  EXPECT_THAT(error("CPUQuota=0%"), HasSubstr("must be greater than 0%"));
  EXPECT_THAT(error("CPUQuota=0.001%"), HasSubstr("must be greater than 0%"))
      << "rounds to nothing";
  for (const std::string bad :
       {"50", "%", "-5%", "1000000.1%", "inf%", "nan%", "5%%", "5% ", "a%"}) {
    EXPECT_THAT(error("CPUQuota=" + bad), HasSubstr("CPUQuota: invalid percentage '" + bad + "'"));
  }
}

TEST(Property, CpuLists) {
  using Mask = std::vector<std::uint8_t>;
  for (const std::string name : {"AllowedCPUs", "AllowedMemoryNodes"}) {
    expect(name + "=0-3,8", name, Mask{0x0f, 0x01});
  }
  expect("AllowedCPUs=", "AllowedCPUs", Mask{});
  expect("AllowedCPUs=7", "AllowedCPUs", Mask{0x80});
  expect("AllowedCPUs=7-8 15,, 0", "AllowedCPUs", Mask{0x81, 0x81});
  expect("AllowedCPUs=3-3", "AllowedCPUs", Mask{0x08});
  Mask last(1024);
  last.back() = 0x80;
  expect("AllowedCPUs=8191", "AllowedCPUs", last);
  for (const std::string bad :
       {"8192", "0-8192", "3-1", "-1", "1-", "-", "a", "0x1", "1;2", "1-2-3", "4294967296",
        "0-4294967295", "99999999999999999999", "1.5"}) {
    EXPECT_THAT(error("AllowedCPUs=" + bad), HasSubstr("invalid CPU list '" + bad + "'"));
  }
}

TEST(Property, Signals) {
  expect("KillSignal=SIGTERM", "KillSignal", std::int32_t{SIGTERM});
  expect("KillSignal=HUP", "KillSignal", std::int32_t{SIGHUP});
  expect("KillSignal=9", "KillSignal", std::int32_t{SIGKILL});
  expect("KillSignal=64", "KillSignal", std::int32_t{64});
  for (const std::string bad :
       {"", "SIG", "0", "65", "-1", "09", "term", "SIGSIGTERM", "SIGTERM "}) {
    EXPECT_THAT(error("KillSignal=" + bad), HasSubstr("invalid signal")) << bad;
  }
}

TEST(Property, Addresses) {
  const auto prefixes = [](std::initializer_list<const char*> texts) {
    std::vector<Prefix> result;
    for (const char* text : texts) {
      result.push_back(Prefix::parse(text).value());
    }
    return result;
  };
  for (const std::string name : {"IPAddressAllow", "IPAddressDeny"}) {
    expect(name + "=10.0.0.0/8 fe80::1", name, prefixes({"10.0.0.0/8", "fe80::1/128"}));
  }
  expect("IPAddressDeny=", "IPAddressDeny", std::vector<Prefix>());
  expect("IPAddressDeny=any", "IPAddressDeny", prefixes({"0.0.0.0/0", "::/0"}));
  expect("IPAddressDeny=localhost link-local multicast", "IPAddressDeny",
         prefixes(
             {"127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/64", "224.0.0.0/4", "ff00::/8"}));
  for (const std::string bad : {"ANY", "10.0.0.300", "10.0.0.1/8", "10.0.0.0/33", "::/129",
                                "any,any", "10.0.0.0/8,fe80::/64", "localhost bogus"}) {
    const auto typed = parse("IPAddressAllow=" + bad);
    ASSERT_FALSE(typed) << bad;
    EXPECT_THAT(typed.error().message, HasSubstr("IPAddressAllow: "));
    EXPECT_THAT(typed.error().hint, HasSubstr("localhost"));
  }
}

TEST(Property, SlicesAreBelowOurs) {
  expect("Slice=trireme.slice", "Slice", std::string("trireme.slice"));
  expect("Slice=trireme-batch-a_b.1:2.slice", "Slice", std::string("trireme-batch-a_b.1:2.slice"));
  for (const std::string bad :
       {"", ".slice", "trireme", "system.slice", "trireme-.slice", "trireme--a.slice",
        "trireme-a-.slice", "tririeme-a.slice", "trireme-a/../b.slice", "trireme-a b.slice",
        "trireme-a\\x2d.slice", "trireme-a.slice.d", "-.slice", "atrireme-a.slice"}) {
    EXPECT_THAT(error("Slice=" + bad), HasSubstr("is not below trireme.slice")) << bad;
  }
  EXPECT_TRUE(check_slice("trireme-" + std::string(192, 'a') + ".slice"));
  EXPECT_FALSE(check_slice("trireme-" + std::string(193, 'a') + ".slice"));
}

/// A message that is never sent. A bus can create messages once it has a socket.
class Message : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    other_ = Fd(ends[1]);
    ASSERT_GE(sd_bus_new(&bus_), 0);
    ASSERT_GE(sd_bus_set_fd(bus_, ends[0], ends[0]), 0);  // the bus closes ends[0]
    ASSERT_GE(sd_bus_start(bus_), 0);
    ASSERT_GE(sd_bus_message_new_method_call(bus_, &message_, "a.b", "/c", "d.e", "f"), 0);
    ASSERT_GE(sd_bus_message_open_container(message_, 'a', "(sv)"), 0);
  }
  void TearDown() override {
    sd_bus_message_unref(message_);
    sd_bus_close(bus_);
    sd_bus_unref(bus_);
  }
  void append(const std::string& text) {
    const auto typed = parse(text);
    ASSERT_TRUE(typed) << text;
    ASSERT_GE(append_property(message_, *typed), 0) << text;
  }
  void seal() {
    ASSERT_GE(sd_bus_message_close_container(message_), 0);
    ASSERT_GE(sd_bus_message_seal(message_, 1, 0), 0);
    ASSERT_GE(sd_bus_message_rewind(message_, 1), 0);
    ASSERT_GE(sd_bus_message_enter_container(message_, 'a', "(sv)"), 0);
  }
  /// Reads the next property, whose variant has this type.
  template <typename... Values>
  void read(const char* name, const char* type, Values... values) {
    const char* found = nullptr;
    ASSERT_GT(sd_bus_message_enter_container(message_, 'r', "sv"), 0) << name;
    ASSERT_GT(sd_bus_message_read_basic(message_, 's', &found), 0);
    EXPECT_STREQ(found, name);
    ASSERT_GT(sd_bus_message_enter_container(message_, 'v', type), 0) << name;
    if constexpr (sizeof...(values) > 0) {
      ASSERT_GT(sd_bus_message_read(message_, type, values...), 0) << name;
      ASSERT_GE(sd_bus_message_exit_container(message_), 0);
      ASSERT_GE(sd_bus_message_exit_container(message_), 0);
    }
  }

  sd_bus* bus_ = nullptr;
  sd_bus_message* message_ = nullptr;
  Fd other_;
};

TEST_F(Message, HasEachTypeAsSystemdReadsIt) {
  append("Description=a text");
  append("SendSIGKILL=yes");
  append("KillSignal=SIGINT");
  append("TasksMax=50%");
  append("MemoryMax=infinity");
  append("AllowedCPUs=0,9");
  append("IPAddressAllow=10.0.0.0/8 fe80::/64");
  seal();

  const char* text = nullptr;
  read("Description", "s", &text);
  EXPECT_STREQ(text, "a text");
  int yes = 0;
  read("SendSIGKILL", "b", &yes);
  EXPECT_EQ(yes, 1);
  std::int32_t signal = 0;
  read("KillSignal", "i", &signal);
  EXPECT_EQ(signal, SIGINT);
  std::uint32_t share = 0;
  read("TasksMaxScale", "u", &share);
  EXPECT_EQ(share, 2147483648U);
  std::uint64_t size = 0;
  read("MemoryMax", "t", &size);
  EXPECT_EQ(size, kInfinity);

  const void* bytes = nullptr;
  std::size_t count = 0;
  read("AllowedCPUs", "ay");
  ASSERT_GT(sd_bus_message_read_array(message_, 'y', &bytes, &count), 0);
  EXPECT_EQ(std::string(static_cast<const char*>(bytes), count), std::string("\x01\x02"));
  ASSERT_GE(sd_bus_message_exit_container(message_), 0);
  ASSERT_GE(sd_bus_message_exit_container(message_), 0);

  read("IPAddressAllow", "a(iayu)");
  ASSERT_GT(sd_bus_message_enter_container(message_, 'a', "(iayu)"), 0);
  for (const auto& [family, address, length] :
       {std::tuple(AF_INET, std::string("\x0a\0\0\0", 4), 8U),
        std::tuple(AF_INET6, std::string("\xfe\x80") + std::string(14, '\0'), 64U)}) {
    std::int32_t found_family = 0;
    std::uint32_t found_length = 0;
    ASSERT_GT(sd_bus_message_enter_container(message_, 'r', "iayu"), 0);
    ASSERT_GT(sd_bus_message_read(message_, "i", &found_family), 0);
    ASSERT_GT(sd_bus_message_read_array(message_, 'y', &bytes, &count), 0);
    ASSERT_GT(sd_bus_message_read(message_, "u", &found_length), 0);
    ASSERT_GE(sd_bus_message_exit_container(message_), 0);
    EXPECT_EQ(found_family, family);
    EXPECT_EQ(std::string(static_cast<const char*>(bytes), count), address);
    EXPECT_EQ(found_length, length);
  }
}

TEST_F(Message, MayHaveEmptyLists) {
  append("AllowedCPUs=");
  append("IPAddressDeny=");
  seal();
  const void* bytes = nullptr;
  std::size_t count = 1;
  read("AllowedCPUs", "ay");
  ASSERT_GE(sd_bus_message_read_array(message_, 'y', &bytes, &count), 0);
  EXPECT_EQ(count, 0U);
}

}  // namespace
}  // namespace trireme::systemd
