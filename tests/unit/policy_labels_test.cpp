// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/labels.hpp"

#include <gtest/gtest.h>

namespace trireme::policy {
namespace {

LabelSet make(std::initializer_list<std::pair<std::string_view, std::string_view>> items) {
  LabelSet labels;
  for (const auto& [key, value] : items) {
    EXPECT_TRUE(labels.set(key, value)) << key;
  }
  return labels;
}

TEST(ParseLabel, TakesKubernetesKeys) {
  for (const char* text : {"app=web", "app.kubernetes.io/name=web", "a-b_c.d=1", "A9=x",
                           "app=", "app=é", "app=a/b:c@d!"}) {
    EXPECT_TRUE(parse_label(text)) << text;
  }
  const auto label = parse_label("app.kubernetes.io/name=web");
  EXPECT_EQ(label->key, "app.kubernetes.io/name");
  EXPECT_EQ(label->value, "web");
}

TEST(ParseLabel, RefusesWhatSelectorsCouldNotSay) {
  for (const char* text :
       {"", "app", "=web", "-app=web", "app-=web", "a b=c", "a,b=c", "k=a b", "k=a,b", "k=(a",
        "k=a)", "k=a*", "k=*", "k=a\nb", "k=\x7f", "k=\xff", "k\x01=v"}) {
    EXPECT_FALSE(parse_label(text)) << text;
  }
}

// The original trireme silently lost tags with two '='.
TEST(ParseLabel, ASecondEqualsSignIsAnErrorNeverACut) {
  const auto label = parse_label("app=web=1");
  ASSERT_FALSE(label);
  EXPECT_EQ(label.error().message, "invalid character '=' in label value 'web=1'");
}

TEST(CheckKey, NamesTheInvalidCharacter) {
  const auto with_colon = check_key("app:web");
  ASSERT_FALSE(with_colon);
  EXPECT_EQ(with_colon.error().text(),
            "invalid character ':' in label key 'app:web'; did you mean app=web?");
  const auto not_ascii = check_key("caf\xc3\xa9");
  ASSERT_FALSE(not_ascii);
  EXPECT_EQ(
      not_ascii.error().text(),
      "invalid character '\xc3\xa9' in label key 'caf\xc3\xa9'; use letters, digits and . _ - /");
}

TEST(ParseLabel, BoundsTheKey) {
  EXPECT_TRUE(parse_label(std::string(kMaxKeyBytes, 'k') + "=v"));
  EXPECT_FALSE(parse_label(std::string(kMaxKeyBytes + 1, 'k') + "=v"));
}

TEST(IsPrintable, FollowsRfc3629) {
  for (const char* good : {"", "plain text", "é", "€", "😀", "\u00a0", "\uFFFD"}) {
    EXPECT_TRUE(is_printable(good)) << good;
  }
  for (const char* bad :
       {"\t", "\n", "\x1b[31m", "\x7f", "\xc2\x80", "\xc2\x9f", "\x80", "\xc3", "\xc0\x80",
        "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x80\x80\x80",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\xe2\x28\xa1"}) {
    EXPECT_FALSE(is_printable(bad)) << bad;
  }
}

TEST(LabelSet, KeepsOneValueAKey) {
  LabelSet labels = make({{"b", "2"}, {"a", "1"}});
  EXPECT_TRUE(labels.set("a", "3"));
  EXPECT_EQ(labels.text(), "a=3,b=2");
  ASSERT_NE(labels.find("a"), nullptr);
  EXPECT_EQ(*labels.find("a"), "3");
  EXPECT_EQ(labels.find("c"), nullptr);
  EXPECT_EQ(labels, make({{"a", "3"}, {"b", "2"}}));
}

TEST(LabelSet, ACopyIsChangedAlone) {
  const LabelSet before = make({{"app", "web"}, {"env", "prod"}});
  LabelSet first = before;
  LabelSet second = before;
  ASSERT_TRUE(first.set("app", "db"));
  ASSERT_TRUE(second.set_of_host("zone", "eu"));
  EXPECT_EQ(before.text(), "app=web,env=prod");
  EXPECT_EQ(first.text(), "app=db,env=prod");
  EXPECT_EQ(second.text(), "app=web,env=prod,zone=eu");
  EXPECT_EQ(second.own(), before);
  EXPECT_EQ(second.own(), make({{"app", "web"}, {"env", "prod"}}))
      << "equal, although the content is not shared";
  EXPECT_EQ(second.all_as_own().host_keys().size(), 0U);
  EXPECT_TRUE(second.host_keys().contains("zone"));
  EXPECT_LT(first, before);
  LabelSet moved = std::move(first);
  EXPECT_EQ(moved.text(), "app=db,env=prod");
  EXPECT_EQ(LabelSet(), LabelSet());
  EXPECT_TRUE(LabelSet().empty());
}

TEST(LabelSet, TakesWhatDockerBrings) {
  LabelSet labels;
  EXPECT_TRUE(labels.set("maintainer", "NGINX Docker Maintainers <docker-maint@nginx.com>"));
  EXPECT_TRUE(labels.set("traefik.http.routers.x.tls.domains[0].main", "a=b,c*"));
  EXPECT_FALSE(labels.set("", "x"));
  EXPECT_FALSE(labels.set("a=b", "x"));
  EXPECT_FALSE(labels.set("a b", "x"));
  EXPECT_FALSE(labels.set("a", "x\ny=z"));
  EXPECT_EQ(labels.items().size(), 2U);
}

TEST(LabelSet, IsBounded) {
  LabelSet labels;
  for (std::size_t i = 0; i < kMaxLabels; ++i) {
    ASSERT_TRUE(labels.set("k" + std::to_string(i), "v"));
  }
  EXPECT_FALSE(labels.set("one-more", "v"));
  EXPECT_TRUE(labels.set("k0", "other")) << "replacing adds none";
  LabelSet large;
  EXPECT_TRUE(large.set("k", std::string(kMaxLabelSetBytes - 3, 'v')));
  EXPECT_EQ(large.encode().size(), kMaxLabelSetBytes);
  EXPECT_FALSE(large.set("k", std::string(kMaxLabelSetBytes - 2, 'v')));
  EXPECT_FALSE(large.set("j", ""));
  EXPECT_EQ(large.find("k")->size(), kMaxLabelSetBytes - 3)
      << "a failed change leaves the set unchanged";
}

TEST(LabelSet, EncodingIsUnambiguousAndRoundTrips) {
  const LabelSet labels = make({{"b", "x=y,z"}, {"a", ""}, {"c", "é *"}});
  EXPECT_EQ(labels.encode(), "a=\nb=x=y,z\nc=é *\n");
  const auto decoded = LabelSet::decode(labels.encode());
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, labels);
  EXPECT_EQ(LabelSet::decode("")->items().size(), 0U);
}

TEST(LabelSet, DecodeRefusesWhatEncodeCannotHaveWritten) {
  for (const char* bad :
       {"a", "a=1", "a\n", "=1\n", "a=1\na=2\n", "a=1\n\n", "a b=1\n", "a=\t\n", "a=\xff\n"}) {
    EXPECT_FALSE(LabelSet::decode(bad)) << bad;
  }
  EXPECT_FALSE(LabelSet::decode("a=" + std::string(kMaxLabelSetBytes, 'v') + "\n"));
}

TEST(LabelSet, TellsHostLabelsFromItsOwn) {
  LabelSet labels;
  EXPECT_FALSE(labels.has_own());
  ASSERT_TRUE(labels.set_of_host("zone", "eu"));
  EXPECT_FALSE(labels.has_own());
  EXPECT_FALSE(labels.empty());
  ASSERT_TRUE(labels.set("app", "web"));
  EXPECT_TRUE(labels.has_own());
  EXPECT_EQ(labels.text(), "app=web,zone=eu");
  EXPECT_EQ(labels.own().text(), "app=web");
  EXPECT_EQ(labels.all_as_own().text(), "app=web,zone=eu");
  EXPECT_NE(labels.all_as_own(), labels);
  EXPECT_TRUE(labels.same_labels(labels.all_as_own()));
  EXPECT_FALSE(labels.own().same_labels(labels));
  EXPECT_TRUE(labels.shares_a_label(labels.own()));
  LabelSet bare;
  ASSERT_TRUE(bare.set("zone", "eu"));
  EXPECT_FALSE(labels.shares_a_label(bare));
  EXPECT_FALSE(bare.shares_a_label(labels));
}

TEST(LabelSet, TheHostsValueWinsAndIsTheHosts) {
  LabelSet labels;
  ASSERT_TRUE(labels.set("zone", "mine"));
  LabelSet host;
  ASSERT_TRUE(host.set("zone", "eu"));
  ASSERT_TRUE(labels.add_host_labels(host));
  EXPECT_EQ(*labels.find("zone"), "eu");
  EXPECT_FALSE(labels.has_own());
  ASSERT_TRUE(labels.set("zone", "mine"));
  EXPECT_TRUE(labels.has_own());
  EXPECT_TRUE(labels.host_keys().empty());
}

TEST(LabelSet, HostLabelsAreMarkedInTheEncoding) {
  LabelSet labels;
  ASSERT_TRUE(labels.set_of_host("zone", "eu"));
  ASSERT_TRUE(labels.set("app", "web"));
  EXPECT_EQ(labels.encode(), "app=web\n=zone=eu\n");
  const auto decoded = LabelSet::decode(labels.encode());
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, labels);
  for (const char* wrong : {"==eu\n", "=zone\n", "=\n", "==zone=eu\n", "zone=a\n=zone=a\n"}) {
    EXPECT_FALSE(LabelSet::decode(wrong)) << wrong;
  }
  LabelSet large;
  ASSERT_TRUE(large.set("a", std::string(kMaxLabelSetBytes - 3, 'x')));
  EXPECT_TRUE(LabelSet::decode(large.encode()));
  EXPECT_FALSE(large.set_of_host("a", *large.find("a"))) << "one byte more";
}

}  // namespace
}  // namespace trireme::policy
