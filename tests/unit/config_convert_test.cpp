// SPDX-License-Identifier: Apache-2.0
// Conversion of policy files of the original Trireme: the resulting rules, and that they never
// allow more than the original.
#include <gmock/gmock.h>

#include "config_support.hpp"
#include "trireme/config/convert.hpp"

namespace trireme::config {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// The form of the README of trireme-example.
constexpr const char* kShop = R"json({
  "Shop": {
    "ApplicationACLs": [
      {"Address": "198.51.100.7/24", "Policy": {"Action": 1, "PolicyID": "1", "ServiceID": ""}, "Port": "443", "Protocol": "TCP"},
      {"Address": "0.0.0.0/0", "Policy": {"Action": 1, "PolicyID": "2", "ServiceID": ""}, "Port": "53", "Protocol": "udp"},
      {"Address": "198.51.100.66/32", "Policy": {"Action": 10, "PolicyID": "3", "ServiceID": ""}, "Port": "", "Protocol": ""}
    ],
    "NetworkACLs": [
      {"Address": "203.0.113.0/24", "Policy": {"Action": 1, "PolicyID": "4", "ServiceID": ""}, "Port": "", "Protocol": "icmp"},
      {"Address": "203.0.113.0/24", "Policy": {"Action": 1, "PolicyID": "5", "ServiceID": ""}, "Port": "8000:8080", "Protocol": "6"}
    ],
    "TagSelectors": [
      {"Clause": [{"Key": "@usr:app", "Operator": "=", "Value": ["web", "api"]}, {"Key": "@usr:env", "Operator": "=!", "Value": ["dev"]}],
       "Policy": {"Action": 1, "PolicyID": "6", "ServiceID": ""}},
      {"Clause": [{"Key": "@usr:quarantine", "Operator": "*", "Value": []}], "Policy": {"Action": 2, "PolicyID": "7", "ServiceID": ""}}
    ]
  }
})json";

Configuration converted(std::string_view json, std::vector<std::string>* left_out = nullptr) {
  const auto made = convert_original(json);
  EXPECT_TRUE(made) << (made ? "" : made.error().text());
  if (left_out != nullptr && made) {
    *left_out = made->left_out;
  }
  Configuration configuration = parse({{"policy.toml", made ? made->toml : ""}}, {});
  EXPECT_THAT(texts(configuration), IsEmpty()) << made->toml;
  return configuration;
}

bool allows(const Configuration& configuration, const std::vector<std::string>& from,
            const std::vector<std::string>& to) {
  const std::string set = "[[test]]\nexpect = 'allow'\nport = 'tcp/80'\n";
  const auto table = [](const std::vector<std::string>& items) {
    std::string text = "{ ";
    for (const std::string& item : items) {
      const std::size_t equals = item.find('=');
      text += (text.size() > 2 ? ", " : "") +
              ("\"" + item.substr(0, equals) + "\" = \"" + item.substr(equals + 1) + "\"");
    }
    return text + " }";
  };
  std::string toml =
      configuration.policy_sources.empty() ? "" : configuration.policy_sources.front().content;
  toml += "\n" + set + "from = " + table(from) + "\nto = " + table(to) + "\n";
  return parse({{"policy.toml", toml}}, {}).valid();
}

TEST(ConvertOriginal, OneSidedSelectors) {
  std::vector<std::string> left_out;
  const Configuration policy = converted(kShop, &left_out);
  EXPECT_THAT(left_out, IsEmpty());
  EXPECT_EQ(policy.policy.rules.size(), 7U);
  const std::vector<std::string> shop = {"PolicyIndex=Shop"};
  EXPECT_TRUE(allows(policy, {"app=web", "env=prod"}, shop));
  EXPECT_TRUE(allows(policy, {"app=api", "env=prod"}, shop));
  EXPECT_FALSE(allows(policy, {"app=web", "env=dev"}, shop));
  EXPECT_FALSE(allows(policy, {"app=web"}, shop)) << "in the original, =! also requires the key";
  EXPECT_FALSE(allows(policy, {"app=db", "env=prod"}, shop));
  EXPECT_FALSE(allows(policy, {"app=web", "env=prod", "quarantine=yes"}, shop)) << "rejected";
  EXPECT_FALSE(allows(policy, {"app=web", "env=prod"}, {"app=web"}))
      << "the target belongs to another policy";
  EXPECT_FALSE(allows(policy, shop, {"app=web", "env=prod"})) << "reverse direction";
  EXPECT_FALSE(allows(policy, shop, {"PolicyIndex=Other", "a=b"})) << "no baseline";
}

TEST(ConvertOriginal, Acls) {
  const auto made = convert_original(kShop);
  ASSERT_TRUE(made);
  EXPECT_THAT(made->toml, HasSubstr("cidrs = [\"198.51.100.0/24\"]"));
  EXPECT_THAT(made->toml, HasSubstr("[[allow]]\nname = \"Shop.ApplicationACLs[0]\"\nfrom = "
                                    "\"PolicyIndex=Shop\"\nto = \"@net-1\"\nports = "
                                    "[\"tcp/443\"]\n"));
  EXPECT_THAT(made->toml, HasSubstr("[[deny]]\nname = \"Shop.ApplicationACLs[2]\"\nfrom = "
                                    "\"PolicyIndex=Shop\"\nto = \"@net-3\"\nlog = true\n"));
  EXPECT_THAT(made->toml,
              HasSubstr("from = \"@net-4\"\nto = \"PolicyIndex=Shop\"\nports = [\"icmp\"]\n"));
  EXPECT_THAT(
      made->toml,
      HasSubstr("from = \"@net-4\"\nto = \"PolicyIndex=Shop\"\nports = [\"tcp/8000-8080\"]\n"));
}

TEST(ConvertOriginal, BothSidesMustAgree) {
  const Configuration policy = converted(R"json({
    "Web": {"Dependencies": [{"Clause": [{"Key": "app", "Operator": "=", "Value": ["db"]}], "Policy": {"Action": 1}}], "ExposureRules": []},
    "DB": {"ExposureRules": [{"Clause": [{"Key": "app", "Operator": "=", "Value": ["web"]}], "Policy": {"Action": 1}}]}
  })json");
  EXPECT_TRUE(allows(policy, {"PolicyIndex=Web", "app=web"}, {"PolicyIndex=DB", "app=db"}));
  EXPECT_FALSE(allows(policy, {"PolicyIndex=Web", "app=other"}, {"PolicyIndex=DB", "app=db"}));
  EXPECT_FALSE(allows(policy, {"PolicyIndex=Web", "app=web"}, {"PolicyIndex=DB", "app=other"}));
  EXPECT_FALSE(allows(policy, {"app=web"}, {"PolicyIndex=DB", "app=db"}))
      << "no policy of the client has a dependency";
}

TEST(ConvertOriginal, WhatCannotBeSaidIsACommentAndNeverARule) {
  std::vector<std::string> left_out;
  const Configuration policy = converted(R"json({
    "A": {
      "TagSelectors": [
        {"Clause": [{"Key": "@sys:image", "Operator": "=", "Value": ["nginx"]}], "Policy": {"Action": 1}},
        {"Clause": [{"Key": "@sys:image", "Operator": "=", "Value": ["bad"]}], "Policy": {"Action": 2}},
        {"Clause": [{"Key": "app", "Operator": "~", "Value": ["x"]}], "Policy": {"Action": 1}},
        {"Clause": [{"Key": "app", "Operator": "=", "Value": []}], "Policy": {"Action": 1}},
        {"Clause": [], "Policy": {"Action": 1}},
        {"Clause": [{"Key": "app", "Operator": "=", "Value": ["x"]}], "Policy": {"Action": 5}},
        {"Clause": [{"Key": "app", "Operator": "=", "Value": ["x"]}], "Policy": {"Action": 17}},
        {"Clause": [{"Key": "x, app", "Operator": "=", "Value": ["y"]}], "Policy": {"Action": 1}},
        {"Clause": [{"Key": "app", "Operator": "=", "Value": ["a) , b in (c"]}], "Policy": {"Action": 1}},
        {"Clause": [{"Key": "app", "Operator": "=", "Value": ["x\"\n[[allow]]"]}], "Policy": {"Action": 1}}
      ],
      "ApplicationACLs": [
        {"Address": "www.example.org", "Port": "80", "Protocol": "tcp", "Policy": {"Action": 1}},
        {"Address": "192.0.2.0/33", "Port": "80", "Protocol": "tcp", "Policy": {"Action": 1}},
        {"Address": "192.0.2.0/24", "Port": "", "Protocol": "gre", "Policy": {"Action": 2}},
        {"Address": "", "Policy": {"Action": 1}}
      ],
      "Extra\n[[allow]]": 1
    },
    "no label\n[[allow]]": {"ApplicationACLs": [{"Address": "::/0", "Policy": {"Action": 1}}]},
    "default": {"ApplicationACLs": [{"Address": "::/0", "Policy": {"Action": 1}}]}
  })json",
                                         &left_out);
  EXPECT_EQ(policy.policy.rules.size(), 0U);
  EXPECT_EQ(left_out.size(), 17U);
  EXPECT_THAT(left_out, testing::Contains(HasSubstr(
                            "A.TagSelectors[1]: '@sys:image' is a tag that the original Trireme "
                            "added itself, not a label; it rejects: write a [[deny]] by hand")));
}

TEST(ConvertOriginal, ListsOfTheLaterForm) {
  const auto made = convert_original(R"json({"A": {"NetworkACLs": [
    {"Addresses": ["2001:db8::/32", "192.0.2.1"], "Ports": ["80", "443"], "Protocols": ["tcp", "17"], "Policy": {"Action": 1}},
    {"Addresses": ["192.0.2.1", "2001:db8::1/32"], "Protocols": ["tcp", "icmp6"], "Policy": {"Action": 1}},
    {"Addresses": ["192.0.2.1"], "Policy": {"Action": 1}}]}})json");
  ASSERT_TRUE(made);
  EXPECT_THAT(made->left_out, IsEmpty());
  EXPECT_THAT(made->toml, HasSubstr("cidrs = [\"192.0.2.1\", \"2001:db8::/32\"]"));
  EXPECT_THAT(made->toml, HasSubstr("ports = [\"tcp/80\", \"tcp/443\", \"udp/80\", \"udp/443\"]"));
  EXPECT_THAT(made->toml, HasSubstr("ports = [\"tcp/1-65535\", \"icmpv6\"]"));
  EXPECT_TRUE(parse({{"policy.toml", made->toml}}, {}).valid());
}

TEST(ConvertOriginal, WhateverIsWrittenWhatComesOutIsAPolicy) {
  const std::string shop = kShop;
  std::size_t converted = 0;
  for (std::size_t at = 0; at < shop.size(); at += 2) {
    for (const char* put : {"\\n", "\\\"", "*", "\\u007f"}) {
      const auto made = convert_original(shop.substr(0, at) + put + shop.substr(at + 1));
      if (made) {
        converted++;
        EXPECT_TRUE(parse({{"policy.toml", made->toml}}, {}).valid()) << made->toml;
      }
    }
  }
  EXPECT_GT(converted, 500U);
}

TEST(ConvertOriginal, OtherFiles) {
  for (const auto& [json, error] : std::vector<std::pair<std::string, std::string>>{
           {"{\n  \"A\": {\n  },\n}", "4:1: invalid JSON"},
           {"", "1:1: invalid JSON"},
           {"[]", "the file is not an object of policies"},
           {"{\"A\": 1}", "A is not a policy"},
           {"{\"A\": {\"TagSelectors\": {}}}", "A.TagSelectors is not a list"},
           {"{\"A\": {\"TagSelectors\": [1]}}", "A.TagSelectors[0] is not a rule"},
           {"{\"A\": {\"TagSelectors\": [{\"Clause\": []}]}}",
            "A.TagSelectors[0].Policy.Action is not a number"},
           {"{\"A\": {\"TagSelectors\": [{\"Policy\": {\"Action\": -1}}]}}",
            "A.TagSelectors[0].Policy.Action is not a number"},
           {"{\"A\": {\"NetworkACLs\": [{\"Policy\": {\"Action\": 1}, \"Port\": 80}]}}",
            "A.NetworkACLs[0].Port is not a string"}}) {
    const auto made = convert_original(json);
    ASSERT_FALSE(made) << json;
    EXPECT_THAT(made.error().text(), HasSubstr(error));
  }
  EXPECT_THAT(convert_original("{}")->toml, Not(HasSubstr("\n[[")));
}

}  // namespace
}  // namespace trireme::config
