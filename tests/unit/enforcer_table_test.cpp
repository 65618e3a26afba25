// SPDX-License-Identifier: Apache-2.0
// The enforcer and table inet trireme of a network namespace of our own: what is written, and that
// it is all or nothing.
#include "enforcer_support.hpp"

namespace trireme::enforcer {
namespace {

using kernel::NftBytes;

using EnforcerTable = EnforcerTest;

/// Rules and chains as nft lists them, without elements.
std::string chains(const std::string& listing) {
  std::string text;
  for (std::size_t at = listing.find("\tchain "); at != std::string::npos;
       at = listing.find("\tchain ", at + 1)) {
    text += listing.substr(at, listing.find("\n\t}", at) - at);
  }
  return text;
}

constexpr const char* kList = "nft -a list table inet trireme";

TEST_F(EnforcerTable, NothingIsWrittenBeforeTheStart) {
  enrol(make("a"), labelled("app", "web"));
  EXPECT_FALSE(*kernel::NftSocket::open()->table_exists(kTable));
  EXPECT_EQ(enforcer_->enrolled(), 1U);
}

TEST_F(EnforcerTable, TheStartWritesWhatIsEnrolledAndCanBeListed) {
  const std::string a = make("a");
  const std::string deep = make("b/c");
  const policy::Number number = enrol(a, labelled("app", "web"));
  ASSERT_TRUE(quarantine(ref(deep)));
  ASSERT_TRUE(start());
  const auto workloads = keys(sets().workloads);
  EXPECT_EQ(workloads.size(), 2U);
  EXPECT_TRUE(has(sets().workloads, NftBytes::u64(ref(a).id)));
  EXPECT_TRUE(has(sets().workloads, NftBytes::u64(ref(deep).id)));
  for (const kernel::NftSet* set :
       {&sets().groups, &sets().classes, &sets().source, &sets().destination}) {
    EXPECT_TRUE(has(*set, NftBytes::u32(number))) << set->name;
  }
  const std::string listing = output(kList);
  EXPECT_NE(listing.find("goto out_net_3"), std::string::npos)
      << "the deepest level in use: " << ref(deep).level;
  EXPECT_EQ(listing.find("goto out_net_4"), listing.find("goto out_net_4 ")) << "no level deeper";
  output("nft list ruleset");
  output("nft -j list ruleset");
}

TEST_F(EnforcerTable, WorkloadsChangeElementsOnly) {
  ASSERT_TRUE(start());
  const std::string before = chains(output(kList));
  ASSERT_NE(before, "");
  const auto elements = all_keys();
  const std::string a = make("a");
  const std::string b = make("b");
  const policy::Number first = enrol(a, labelled("app", "web"));
  EXPECT_NE(all_keys(), elements);
  ASSERT_TRUE(quarantine(ref(b)));
  const policy::Number second = enrol(b, labelled("app", "db"));
  const policy::Number third = enrol(b, labelled("app", "cache"));
  EXPECT_NE(second, third) << "other labels, another number";
  EXPECT_FALSE(has(sets().groups, NftBytes::u32(second)));
  ASSERT_TRUE(apply(policy_of({allow(selector("app=web"), selector("app=db"))})));
  EXPECT_EQ(chains(output(kList)), before);
  ASSERT_TRUE(apply(std::make_shared<policy::Policy>()));
  EXPECT_FALSE(end(ref(a), third)) << "the number is another workload's";
  ASSERT_TRUE(end(ref(a), first));
  ASSERT_TRUE(end(ref(b), third));
  EXPECT_TRUE(end(ref(b), third)) << "gone already";
  EXPECT_EQ(all_keys(), elements) << "what has ended leaves nothing";
  EXPECT_EQ(chains(output(kList)), before);
  EXPECT_EQ(enforcer_->enrolled(), 0U);
}

TEST_F(EnforcerTable, ManyWorkloadsComeAndGo) {
  ASSERT_TRUE(start());
  const auto elements = all_keys();
  std::vector<policy::Number> members;
  constexpr std::uint64_t kFirst = 1ULL << 40U;  // cgroups that nobody has
  for (std::uint64_t i = 0; i < 700; i++) {
    const auto number =
        try_enrol({.id = kFirst + i, .level = 2}, labelled("app", i % 2 == 0 ? "even" : "odd"), 0);
    ASSERT_TRUE(number);
    members.push_back(*number);
  }
  EXPECT_EQ(keys(sets().workloads).size(), 700U);
  const auto full = all_keys();
  ASSERT_TRUE(enforcer_->repair());
  EXPECT_EQ(all_keys(), full) << "written anew, in several messages";
  for (std::uint64_t i = 0; i < 700; i++) {
    ASSERT_TRUE(end({.id = kFirst + i}, members[i]));
  }
  EXPECT_EQ(all_keys(), elements);
}

TEST_F(EnforcerTable, LabelsDecide) {
  const std::string web = make("web");
  const std::string more = make("more");
  const std::string db = make("db");
  const Fd listener = listen_in(web);
  const Fd plain = listen_in("");
  enrol(web, labelled("app", "web"));
  enrol(more, labelled("app", "web"));
  enrol(db, labelled("app", "db"));
  ASSERT_TRUE(start());
  EXPECT_EQ(connect_from(more, listener), 0);
  EXPECT_EQ(connect_from(web, listener), 0);
  EXPECT_EQ(connect_from(db, listener), ECONNREFUSED);
  EXPECT_EQ(connect_from("", listener), ECONNREFUSED) << "a process that is no workload";
  EXPECT_EQ(connect_from(web, plain), ECONNREFUSED);
  EXPECT_EQ(connect_from("", plain), 0) << "nobody's business";
  ASSERT_TRUE(quarantine(ref(more)));
  EXPECT_EQ(connect_from(more, listener), EINPROGRESS) << "quarantine is silent";
  EXPECT_EQ(connect_from(more, plain), EINPROGRESS);
}

TEST_F(EnforcerTable, TheDeepestEnrolledCgroupWins) {
  const std::string outer = make("outer");
  const std::string inner = make("outer/inner");
  const Fd listener = listen_in(outer);
  enrol(outer, labelled("app", "web"));
  ASSERT_TRUE(start());
  EXPECT_EQ(connect_from(inner, listener), 0) << "what a workload has below itself is its own";
  const policy::Number number = enrol(inner, labelled("app", "other"));
  EXPECT_EQ(connect_from(inner, listener), ECONNREFUSED);
  ASSERT_TRUE(end(ref(inner), number));
  EXPECT_EQ(connect_from(inner, listener), 0);
}

TEST_F(EnforcerTable, KeptCgroupsAreWithTheirHeir) {
  ASSERT_TRUE(enforcer_->start());
  const auto elements = all_keys();
  constexpr std::uint64_t kGone = 1ULL << 40U;
  workload::CgroupRef heir = ref(make("heir"));
  heir.former = {kGone, kGone + 1};
  const auto first = enforcer_->enrol(heir, labelled("app", "web"), 0);
  ASSERT_TRUE(first);
  for (const std::uint64_t id : {heir.id, kGone, kGone + 1}) {
    EXPECT_TRUE(has(sets().workloads, NftBytes::u64(id))) << id;
  }
  const auto full = all_keys();
  ASSERT_TRUE(enforcer_->repair());
  EXPECT_EQ(all_keys(), full);
  ASSERT_TRUE(enforcer_->quarantine(heir));
  EXPECT_EQ(keys(sets().workloads).size(), 3U);
  heir.former = {kGone};
  const auto second = enforcer_->enrol(heir, labelled("app", "db"), 0);
  ASSERT_TRUE(second);
  EXPECT_EQ(keys(sets().workloads).size(), 2U);
  ASSERT_TRUE(enforcer_->end(heir, *second));
  EXPECT_EQ(all_keys(), elements);
}

TEST_F(EnforcerTable, NumbersAreNobodyElsesWhileInUse) {
  ASSERT_TRUE(start());
  const policy::Number first = enrol(make("a"), labelled("app", "web"));
  const auto b = ref(make("b"));
  EXPECT_FALSE(try_enrol(b, labelled("app", "web"), first));
  EXPECT_FALSE(try_enrol(b, labelled("app", "web"), kHost));
  EXPECT_FALSE(try_enrol(b, labelled("app", "web"), kQuarantine));
  EXPECT_FALSE(try_enrol(b, labelled("app", "web"), policy::kLastNumber + 1));
  EXPECT_FALSE(has(sets().workloads, NftBytes::u64(b.id)));
  ASSERT_EQ(try_enrol(b, labelled("app", "web"), policy::kLastNumber), policy::kLastNumber);
  // The numbers begin again, and pass over the one in use.
  EXPECT_EQ(first, policy::kFirstNumber);
  EXPECT_EQ(enrol(make("c"), labelled("app", "web")), policy::kFirstNumber + 1);
  EXPECT_FALSE(try_enrol({.id = 1ULL << 40U, .level = 0}, labelled("app", "web"), 0));
  EXPECT_FALSE(try_enrol({.id = 1ULL << 40U, .level = kMaxLevel + 1}, labelled("app", "web"), 0));
  EXPECT_FALSE(quarantine({.id = 1ULL << 40U, .level = kMaxLevel + 1}));
}

TEST_F(EnforcerTable, ANumberLastsUntilItsLastPointLeaves) {
  std::vector<policy::Number> left;
  common_->on_leave = [&](std::uint32_t /*point*/, policy::Number number, bool is_last) {
    if (is_last) {
      left.push_back(number);
    }
  };
  const auto cgroup = ref(make("a"));
  const policy::LabelSet web = labelled("app", "web");
  const policy::LabelSet other = labelled("app", "other");
  const auto first = enforcer_->enrol(cgroup, web, 0);
  ASSERT_TRUE(first);
  ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
  auto opened = Enforcer::open(*common_, {}, std::make_shared<policy::Policy>());
  ASSERT_TRUE(opened);
  Enforcer& further = **opened;
  EXPECT_FALSE(further.extend(cgroup, web, *first + 1)) << "nobody has it";
  ASSERT_TRUE(further.extend(cgroup, web, *first));
  ASSERT_TRUE(further.extend(cgroup, web, *first));
  ASSERT_TRUE(further.start());
  ASSERT_TRUE(enforcer_->start());

  const auto second = enforcer_->enrol(cgroup, other, 0);
  ASSERT_TRUE(second);
  EXPECT_TRUE(left.empty());
  EXPECT_FALSE(numbers_->take(*first)) << "it is still in use at the other point";
  ASSERT_TRUE(further.extend(cgroup, other, *second));
  EXPECT_EQ(left, std::vector<policy::Number>{*first});
  EXPECT_EQ(*further.labels(*second), other);
  EXPECT_TRUE(numbers_->take(*first));

  ASSERT_TRUE(further.quarantine(cgroup));
  EXPECT_EQ(left.size(), 1U);
  ASSERT_TRUE(enforcer_->end(cgroup, *second));
  EXPECT_EQ(left.back(), *second);
  EXPECT_TRUE(numbers_->take(*second));
}

TEST_F(EnforcerTable, AnErrorKeepsWhatWasThere) {
  const auto old = policy_of({allow(selector("app=web"), policy::Entity{})});
  open(old);
  const std::string a = make("a");
  const policy::Number number = enrol(a, labelled("app", "web"));
  ASSERT_TRUE(start());
  const auto elements = all_keys();
  const workload::CgroupRef known{.id = ref(a).id, .level = ref(a).level};
  const workload::CgroupRef other{.id = 1ULL << 40U, .level = 2};
  {
    const Powerless powerless;
    EXPECT_FALSE(try_enrol(other, labelled("app", "db"), 0));
    EXPECT_FALSE(try_enrol(known, labelled("app", "db"), 0));
    EXPECT_FALSE(apply(std::make_shared<policy::Policy>()));
    EXPECT_FALSE(enforcer_->repair());
  }
  EXPECT_EQ(all_keys(), elements);
  EXPECT_EQ(enforcer_->enrolled(), 1U);
  ASSERT_NE(enforcer_->labels(number), nullptr);
  EXPECT_EQ(*enforcer_->labels(number), labelled("app", "web"));
  EXPECT_EQ(&enforcer_->policy(), old.get());
  // What follows is built on the state that both kept.
  const Fd listener = listen_in(a);
  const std::string b = make("b");
  const policy::Number same = enrol(b, labelled("app", "web"));
  EXPECT_EQ(connect_from(b, listener), 0);
  const auto next = try_enrol(other, labelled("app", "db"), 0);
  ASSERT_TRUE(next);
  ASSERT_TRUE(end(other, *next));
  ASSERT_TRUE(end(ref(b), same));
  for (const auto& [name, before] : elements) {
    EXPECT_EQ(all_keys()[name].size(), before.size()) << name;
  }
}

TEST_F(EnforcerTable, AQuarantineThatFailedIsMadeUpFor) {
  const std::string a = make("a");
  enrol(a, labelled("app", "web"));
  ASSERT_TRUE(start());
  {
    const Powerless powerless;
    EXPECT_FALSE(quarantine({.id = ref(a).id, .level = ref(a).level}));
  }
  EXPECT_EQ(enforcer_->enrolled(), 0U);
  ASSERT_TRUE(quarantine({.id = 1ULL << 40U, .level = 2})) << "the next change";
  const Fd plain = listen_in("");
  EXPECT_EQ(connect_from(a, plain), EINPROGRESS);
  EXPECT_EQ(keys(sets().groups).size(), 0U);
}

TEST_F(EnforcerTable, AChangeByOthersIsUndone) {
  const std::string a = make("a");
  enrol(a, labelled("app", "web"));
  ASSERT_TRUE(start());
  const auto elements = all_keys();
  delete_table();
  ASSERT_TRUE(enforcer_->repair());
  EXPECT_EQ(all_keys(), elements);
  delete_table();
  const policy::Number number = enrol(make("b"), labelled("app", "db"));
  ASSERT_NE(number, 0U) << "a change that finds no table writes all of it";
  ASSERT_TRUE(end(ref(base_ + "/b"), number));
  EXPECT_EQ(all_keys(), elements);
  delete_table();
  ASSERT_TRUE(apply(std::make_shared<policy::Policy>()));
  EXPECT_EQ(keys(sets().workloads), elements.at("workloads"));
}

TEST_F(EnforcerTable, TheTablesOfOthersStay) {
  output("nft 'table inet other { chain input { type filter hook input priority 0; counter; }; }'");
  ASSERT_TRUE(start());
  ASSERT_TRUE(enforcer_->repair());
  ASSERT_TRUE(flush(*tree_, base_));
  EXPECT_EQ(output("nft list tables"), "table inet other\n");
}

TEST_F(EnforcerTable, AReloadDecidesAtOnce) {
  const std::string web = make("web");
  const std::string db = make("db");
  const Fd listener = listen_in(db);
  enrol(web, labelled("app", "web"));
  enrol(db, labelled("app", "db"));
  ASSERT_TRUE(start());
  const auto closed = std::make_shared<policy::Policy>();
  const auto open = policy_of({allow(selector("app=web"), selector("app=db"))});
  for (int i = 0; i < 5; i++) {
    ASSERT_TRUE(apply(open));
    EXPECT_EQ(connect_from(web, listener), 0);
    ASSERT_TRUE(apply(closed));
    EXPECT_EQ(connect_from(web, listener), ECONNREFUSED);
    const auto elements = all_keys();
    ASSERT_TRUE(enforcer_->repair());
    EXPECT_EQ(all_keys(), elements)
        << "the difference of two policies leaves what the second alone is";
  }
}

TEST_F(EnforcerTable, WhatIsNotFoundWhileSetsAreExchangedIsNotRefused) {
  const std::string web = make("web");
  const std::string more = make("more");
  const std::string db = make("db");
  const Fd listener = listen_in(web);
  enrol(web, labelled("app", "web"));
  enrol(more, labelled("app", "web"));
  enrol(db, labelled("app", "db"));
  ASSERT_TRUE(start());
  const auto connect_shortly = [&](const std::string& from) {
    const Fd fd = socket_in(from);
    const timeval patience{.tv_sec = 0, .tv_usec = 100'000};
    EXPECT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), 0);
    return connect(fd, port_of(listener));
  };
  const auto unsettle = [] {
    auto socket = kernel::NftSocket::open();
    ASSERT_TRUE(socket);
    kernel::NftBatch batch(kTable);
    batch.flush_set(sets().steady);
    ASSERT_TRUE(socket->commit(std::move(batch)));
  };
  EXPECT_EQ(connect_shortly(db), ECONNREFUSED);
  for (const std::function<bool()>& exchange : std::array<std::function<bool()>, 2>{
           [&] { return apply(std::make_shared<policy::Policy>()).has_value(); },
           [&] { return enforcer_->repair().has_value(); }}) {
    unsettle();
    EXPECT_EQ(connect_shortly(db), EINPROGRESS) << "TCP repeats its request";
    EXPECT_EQ(connect_shortly(more), 0) << "what is allowed passes";
    ASSERT_TRUE(exchange());
    EXPECT_EQ(connect_shortly(db), ECONNREFUSED);
  }
}

/// Every packet for this host pays for it.
TEST_F(EnforcerTable, AnswersHaveAHookOncePolicyHasNames) {
  const auto has_hook = [] {
    return output(kList).find("chain input_answers {") != std::string::npos;
  };
  ASSERT_TRUE(start());
  EXPECT_FALSE(has_hook());
  policy::Policy named;
  named.networks.push_back(
      {.name = "mirror", .cidrs = {}, .names = {"deb.example.org"}, .where = {}});
  ASSERT_TRUE(apply(std::make_shared<policy::Policy>(named)));
  EXPECT_TRUE(has_hook());
  EXPECT_EQ(keys(sets().answers).size(), 2U);
  ASSERT_TRUE(apply(std::make_shared<policy::Policy>()));
  EXPECT_TRUE(has_hook()) << "what waits in a queue would be dropped";
  EXPECT_EQ(keys(sets().answers).size(), 0U);
  ASSERT_TRUE(apply(std::make_shared<policy::Policy>(named)));
  ASSERT_TRUE(enforcer_->repair());
  EXPECT_TRUE(has_hook());
}

TEST_F(EnforcerTable, AuditModeBeginsAndEndsWithAReload) {
  const std::string web = make("web");
  const std::string db = make("db");
  const Fd listener = listen_in(db);
  enrol(web, labelled("app", "web"));
  enrol(db, labelled("app", "db"));
  ASSERT_TRUE(start());
  const auto elements = all_keys();
  const auto audit = std::make_shared<policy::Policy>();
  audit->mode = policy::Mode::audit;
  ASSERT_TRUE(apply(audit));
  EXPECT_EQ(connect_from(web, listener), 0);
  ASSERT_TRUE(apply(std::make_shared<policy::Policy>()));
  EXPECT_EQ(connect_from(web, listener), ECONNREFUSED);
  const auto after = all_keys();
  EXPECT_EQ(after.at(sets().auditing.name), elements.at(sets().auditing.name));
  EXPECT_EQ(after.at(sets().refusal.name), elements.at(sets().refusal.name));
}

}  // namespace
}  // namespace trireme::enforcer
