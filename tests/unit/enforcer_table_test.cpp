// SPDX-License-Identifier: Apache-2.0
// The enforcer and its table in a network namespace of the test: what is written, and that each
// change is written completely or not at all.
#include <cstdlib>
#include <fstream>
#include <regex>
#include <sstream>

#include "enforcer_support.hpp"
#include "trireme/kernel/probe.hpp"

namespace trireme::enforcer {
namespace {

using kernel::NftBytes;

using EnforcerTable = EnforcerTest;

/// Chains and their rules as nft lists them, without sets.
std::string chains(const std::string& listing) {
  std::string text;
  for (std::size_t at = listing.find("\tchain "); at != std::string::npos;
       at = listing.find("\tchain ", at + 1)) {
    text += listing.substr(at, listing.find("\n\t}", at) - at);
  }
  return text;
}

constexpr const char* kList = "nft -a list table inet trireme";

/// nft lists the elements of a hash set in any order: sorted, one on each line.
std::string with_sorted_elements(const std::string& listing) {
  static constexpr std::string_view kBegin = "elements = {";
  std::string text;
  std::size_t done = 0;
  for (std::size_t at = 0; (at = listing.find(kBegin, done)) != std::string::npos;) {
    at += kBegin.size();
    const std::size_t end = listing.find('}', at);
    std::set<std::string> elements;
    std::stringstream list(listing.substr(at, end - at));
    for (std::string element; std::getline(list, element, ',');) {
      const std::size_t first = element.find_first_not_of(" \t\n");
      const std::size_t last = element.find_last_not_of(" \t\n");
      elements.insert(element.substr(first, last + 1 - first));
    }
    text += listing.substr(done, at - done);
    for (const std::string& element : elements) {
      text += "\n\t\t\t" + element + ",";
    }
    text += "\n\t\t";
    done = end;
  }
  return text + listing.substr(done);
}

/// Without the chains of cgroup levels 3 and deeper, which are those of level 2 but for the number.
std::string without_deep_levels(const std::string& listing) {
  std::string text;
  std::size_t done = 0;
  for (std::size_t at = 0; (at = listing.find("\tchain ", done)) != std::string::npos;) {
    const std::size_t end = listing.find("\n\t}\n", at) + 4;
    const std::size_t name_end = listing.find(' ', at + 7);
    const char last = listing[name_end - 1];
    const bool is_deep = last >= '3' && last <= '8' && listing[name_end - 2] == '_';
    text += listing.substr(done, at - done);
    text += is_deep ? "" : listing.substr(at, end - at);
    // A blank line separates two chains.
    done = is_deep && listing.compare(end, 1, "\n") == 0 ? end + 1 : end;
  }
  return text + listing.substr(done);
}

/// src/datapath/table.nft is the packet path to read without C++. With TRIREME_WRITE_TABLE set,
/// this writes it.
TEST_F(EnforcerTable, IsAsTheTreeShowsIt) {
  const auto mechanism = kernel::probe_queue();
  ASSERT_TRUE(mechanism) << mechanism.error().text();
  open(policy_of({allow(selector("app=web"), selector("app=db"))}),
       {.queues = 2, .mechanism = *mechanism});
  ASSERT_TRUE(start());
  const std::string path = TRIREME_SOURCE_DIR "/src/datapath/table.nft";
  const std::string head =
      "# SPDX-License-Identifier: Apache-2.0\n"
      "# Table inet trireme of a host without workloads, as 'nft -s list table inet trireme' "
      "prints\n"
      "# it, for reading; src/datapath writes it, docs/datapath.md explains it. Chains of cgroup\n"
      "# levels 3 to 8 are left out: they are those of level 2 but for the number. 'queue' is a\n"
      "# queue statement, or the xtables target NFQUEUE where the kernel has no such statement.\n"
      "# tests/unit/enforcer_table_test.cpp compares this file with the kernel.\n\n";
  // The same whichever of the two this kernel has.
  const std::string plain = std::regex_replace(
      output("nft -s list table inet trireme"),
      std::regex("xt target \"NFQUEUE\"|queue( flags [a-z,]+)? to [0-9]+"), "queue");
  const std::string listed = head + without_deep_levels(with_sorted_elements(std::regex_replace(
                                        plain, std::regex("# Warning: [^\n]*\n"), "")));
  if (std::getenv("TRIREME_WRITE_TABLE") != nullptr) {
    std::ofstream(path) << listed;
  }
  std::stringstream shown;
  shown << std::ifstream(path).rdbuf();
  EXPECT_EQ(shown.str(), listed) << "run this test with TRIREME_WRITE_TABLE=1, and review " << path;
}

TEST_F(EnforcerTable, NothingIsWrittenBeforeTheStart) {
  enrol(make("a"), labeled("app", "web"));
  EXPECT_FALSE(*kernel::NftSocket::open()->table_exists(abi::kTable));
  EXPECT_EQ(enforcer_->enrolled(), 1U);
}

TEST_F(EnforcerTable, TheStartWritesWhatIsEnrolledAndCanBeListed) {
  const std::string a = make("a");
  const std::string deep = make("b/c");
  const policy::Number number = enrol(a, labeled("app", "web"));
  ASSERT_TRUE(quarantine(ref(deep)));
  ASSERT_TRUE(start());
  const auto workloads = keys(datapath::sets().workloads);
  EXPECT_EQ(workloads.size(), 2U);
  EXPECT_TRUE(has(datapath::sets().workloads, NftBytes::u64(ref(a).id)));
  EXPECT_TRUE(has(datapath::sets().workloads, NftBytes::u64(ref(deep).id)));
  for (const kernel::NftSet* set : {&datapath::sets().groups, &datapath::sets().classes,
                                    &datapath::sets().source, &datapath::sets().destination}) {
    EXPECT_TRUE(has(*set, NftBytes::u32(number))) << set->name;
  }
  const std::string listing = output(kList);
  EXPECT_NE(listing.find("goto out_net_3"), std::string::npos)
      << "the deepest level in use: " << ref(deep).level;
  EXPECT_EQ(listing.find("goto out_net_4"), listing.find("goto out_net_4 ")) << "no deeper level";
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
  const policy::Number first = enrol(a, labeled("app", "web"));
  EXPECT_NE(all_keys(), elements);
  ASSERT_TRUE(quarantine(ref(b)));
  const policy::Number second = enrol(b, labeled("app", "db"));
  const policy::Number third = enrol(b, labeled("app", "cache"));
  EXPECT_NE(second, third) << "other labels get another number";
  EXPECT_FALSE(has(datapath::sets().groups, NftBytes::u32(second)));
  ASSERT_TRUE(apply(policy_of({allow(selector("app=web"), selector("app=db"))})));
  EXPECT_EQ(chains(output(kList)), before);
  ASSERT_TRUE(apply(std::make_shared<policy::Policy>()));
  EXPECT_FALSE(end(ref(a), third)) << "the number is another workload's";
  ASSERT_TRUE(end(ref(a), first));
  ASSERT_TRUE(end(ref(b), third));
  EXPECT_TRUE(end(ref(b), third)) << "has already ended";
  EXPECT_EQ(all_keys(), elements) << "ended workloads leave no elements";
  EXPECT_EQ(chains(output(kList)), before);
  EXPECT_EQ(enforcer_->enrolled(), 0U);
}

TEST_F(EnforcerTable, ManyWorkloadsComeAndGo) {
  ASSERT_TRUE(start());
  const auto elements = all_keys();
  std::vector<policy::Number> members;
  constexpr std::uint64_t kFirst = 1ULL << 40U;  // ids of no existing cgroups
  for (std::uint64_t i = 0; i < 700; i++) {
    const auto number =
        try_enrol({.id = kFirst + i, .level = 2}, labeled("app", i % 2 == 0 ? "even" : "odd"), 0);
    ASSERT_TRUE(number);
    members.push_back(*number);
  }
  EXPECT_EQ(keys(datapath::sets().workloads).size(), 700U);
  const auto full = all_keys();
  ASSERT_TRUE(enforcer_->repair());
  EXPECT_EQ(all_keys(), full) << "rewritten, in several messages";
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
  enrol(web, labeled("app", "web"));
  enrol(more, labeled("app", "web"));
  enrol(db, labeled("app", "db"));
  ASSERT_TRUE(start());
  EXPECT_EQ(connect_from(more, listener), 0);
  EXPECT_EQ(connect_from(web, listener), 0);
  EXPECT_EQ(connect_from(db, listener), ECONNREFUSED);
  EXPECT_EQ(connect_from("", listener), ECONNREFUSED) << "an unlabeled process";
  EXPECT_EQ(connect_from(web, plain), ECONNREFUSED);
  EXPECT_EQ(connect_from("", plain), 0) << "no workload is involved";
  ASSERT_TRUE(quarantine(ref(more)));
  EXPECT_EQ(connect_from(more, listener), EINPROGRESS) << "quarantine is silent";
  EXPECT_EQ(connect_from(more, plain), EINPROGRESS);
}

/// The rules alone deny what a quarantined workload sends to other hosts, also when another
/// workload has its former number. The test leaves the gate out, which would deny it too.
TEST_F(EnforcerTable, AQuarantinedWorkloadIsNotTheOneWithItsFormerNumber) {
  output("ip link add here type veth peer name there");
  output("ip link set there up");
  output("ip address add 10.9.9.1/24 dev here");
  output("ip link set here up");
  const auto send_from = [&](const std::string& path) {
    const Fd socket = socket_in(path, SOCK_DGRAM);
    sockaddr_in other = loopback(5'353);
    other.sin_addr.s_addr = ::inet_addr("10.9.9.2");
    return ::sendto(socket.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&other),
                    sizeof other) == 1
               ? 0
               : errno;
  };
  const std::string first = make("first");
  const std::string second = make("second");
  open(
      policy_of({allow(selector("app=web"), policy::Entity{.kind = policy::Entity::Kind::world})}));
  ASSERT_TRUE(start());
  const policy::Number number = enrol(first, labeled("app", "web"));
  ASSERT_EQ(send_from(first), 0);
  ASSERT_TRUE(enforcer_->quarantine(ref(first)));
  EXPECT_EQ(send_from(first), EPERM);
  ASSERT_TRUE(enforcer_->enrol(ref(second), labeled("app", "web"), number));
  EXPECT_EQ(send_from(second), 0);
  EXPECT_EQ(send_from(first), EPERM);
}

/// Elements that have this number at `offset`: that of the source is at 0 in `refused`, and at 4 in
/// `sampled`.
std::vector<std::vector<std::uint8_t>> keys_of(policy::Number number,
                                               const std::set<std::vector<std::uint8_t>>& keys,
                                               std::size_t offset = 0) {
  std::vector<std::vector<std::uint8_t>> found;
  for (const auto& key : keys) {
    policy::Number source = 0;
    if (key.size() >= offset + sizeof source) {
      std::memcpy(&source, key.data() + offset, sizeof source);
    }
    if (source == number) {
      found.push_back(key);
    }
  }
  return found;
}

TEST_F(EnforcerTable, AScanLeavesRoomForRefusalsOfOthers) {
  const std::string scanner = make("scanner");
  const std::string web = make("web");
  std::vector<Fd> listeners;
  for (int i = 0; i < 200; i++) {
    listeners.push_back(listen_in(""));
  }
  const policy::Number scans = enrol(scanner, labeled("app", "scanner"));
  const policy::Number asks = enrol(web, labeled("app", "web"));
  ASSERT_TRUE(start());
  for (const Fd& listener : listeners) {
    ASSERT_EQ(connect_from(scanner, listener), ECONNREFUSED) << "refused, whether logged or not";
  }
  ASSERT_EQ(connect_from(web, listeners.front()), ECONNREFUSED);
  const Keys refused = keys(datapath::sets().refused);
  const std::size_t logged = keys_of(scans, refused).size();
  EXPECT_GE(logged, 50U) << "the burst";
  EXPECT_LT(logged, 150U);
  EXPECT_EQ(keys_of(asks, refused).size(), 1U);
  output("nft list table inet trireme");
}

TEST_F(EnforcerTable, AFloodOfAllowedFlowsLeavesRoomForSamplesOfOthers) {
  const std::string flood = make("flood");
  const std::string web = make("web");
  const std::string server = make("server");
  std::vector<Fd> listeners;
  for (int i = 0; i < 100; i++) {
    listeners.push_back(listen_in(server));
  }
  const policy::Number floods = enrol(flood, labeled("app", "web"));
  const policy::Number asks = enrol(web, labeled("app", "web"));
  enrol(server, labeled("app", "web"));
  ASSERT_TRUE(start());
  for (const Fd& listener : listeners) {
    ASSERT_EQ(connect_from(flood, listener), 0) << "allowed, whether reported or not";
  }
  ASSERT_EQ(connect_from(web, listeners.front()), 0);
  const Keys sampled = keys(datapath::sets().sampled);
  const std::size_t reported = keys_of(floods, sampled, 4).size();
  EXPECT_GE(reported, 25U) << "the burst";
  EXPECT_LT(reported, 80U);
  EXPECT_EQ(keys_of(asks, sampled, 4).size(), 1U);
  output("nft list table inet trireme");
}

/// Instead of a port, ICMP has a checksum.
TEST_F(EnforcerTable, PingsAreOneKindOfRefusal) {
  const std::string web = make("web");
  const policy::Number number = enrol(web, labeled("app", "web"));
  ASSERT_TRUE(start());
  ASSERT_TRUE(tree_->place(web, self()));
  const Fd raw(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP));
  ASSERT_TRUE(tree_->place(home_, self()));
  ASSERT_TRUE(raw.valid());
  const sockaddr_in there = loopback(0);
  for (std::uint8_t sequence = 1; sequence <= 3; sequence++) {
    const std::array<std::uint8_t, 8> echo = {
        8, 0, 0xf7, static_cast<std::uint8_t>(0xffU - sequence), 0, 0, 0, sequence};
    EXPECT_EQ(::sendto(raw.get(), echo.data(), echo.size(), 0,
                       reinterpret_cast<const sockaddr*>(&there), sizeof there),
              static_cast<ssize_t>(echo.size()));
  }
  const auto refused = keys_of(number, keys(datapath::sets().refused));
  ASSERT_EQ(refused.size(), 1U);
  ASSERT_GE(refused[0].size(), 14U);
  EXPECT_EQ(refused[0][8], IPPROTO_ICMP);
  EXPECT_EQ(refused[0][12] | refused[0][13], 0) << "no port";
}

TEST_F(EnforcerTable, TheDeepestEnrolledCgroupWins) {
  const std::string outer = make("outer");
  const std::string inner = make("outer/inner");
  const Fd listener = listen_in(outer);
  enrol(outer, labeled("app", "web"));
  ASSERT_TRUE(start());
  EXPECT_EQ(connect_from(inner, listener), 0)
      << "a cgroup below a workload's belongs to the workload";
  const policy::Number number = enrol(inner, labeled("app", "other"));
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
  const auto first = enforcer_->enrol(heir, labeled("app", "web"), 0);
  ASSERT_TRUE(first);
  for (const std::uint64_t id : {heir.id, kGone, kGone + 1}) {
    EXPECT_TRUE(has(datapath::sets().workloads, NftBytes::u64(id))) << id;
  }
  const auto full = all_keys();
  ASSERT_TRUE(enforcer_->repair());
  EXPECT_EQ(all_keys(), full);
  ASSERT_TRUE(enforcer_->quarantine(heir));
  EXPECT_EQ(keys(datapath::sets().workloads).size(), 3U);
  heir.former = {kGone};
  const auto second = enforcer_->enrol(heir, labeled("app", "db"), 0);
  ASSERT_TRUE(second);
  EXPECT_EQ(keys(datapath::sets().workloads).size(), 2U);
  ASSERT_TRUE(enforcer_->end(heir, *second));
  EXPECT_EQ(all_keys(), elements);
}

TEST_F(EnforcerTable, NumbersAreNobodyElsesWhileInUse) {
  ASSERT_TRUE(start());
  const policy::Number first = enrol(make("a"), labeled("app", "web"));
  const auto b = ref(make("b"));
  EXPECT_FALSE(try_enrol(b, labeled("app", "web"), first));
  EXPECT_FALSE(try_enrol(b, labeled("app", "web"), abi::kHost));
  EXPECT_FALSE(try_enrol(b, labeled("app", "web"), abi::kQuarantine));
  EXPECT_FALSE(try_enrol(b, labeled("app", "web"), abi::kLastNumber + 1));
  EXPECT_FALSE(has(datapath::sets().workloads, NftBytes::u64(b.id)));
  ASSERT_EQ(try_enrol(b, labeled("app", "web"), abi::kLastNumber), abi::kLastNumber);
  // After the last number assignment wraps around and skips the one in use.
  EXPECT_EQ(first, abi::kFirstNumber);
  EXPECT_EQ(enrol(make("c"), labeled("app", "web")), abi::kFirstNumber + 1);
  EXPECT_FALSE(try_enrol({.id = 1ULL << 40U, .level = 0}, labeled("app", "web"), 0));
  EXPECT_FALSE(
      try_enrol({.id = 1ULL << 40U, .level = abi::kMaxLevel + 1}, labeled("app", "web"), 0));
  EXPECT_FALSE(quarantine({.id = 1ULL << 40U, .level = abi::kMaxLevel + 1}));
}

TEST_F(EnforcerTable, ANumberLastsUntilItsLastPointLeaves) {
  std::vector<policy::Number> left;
  common_->on_leave = [&](std::uint32_t /*point*/, policy::Number number, bool is_last) {
    if (is_last) {
      left.push_back(number);
    }
  };
  const auto cgroup = ref(make("a"));
  const policy::LabelSet web = labeled("app", "web");
  const policy::LabelSet other = labeled("app", "other");
  const auto first = enforcer_->enrol(cgroup, web, 0);
  ASSERT_TRUE(first);
  ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
  auto opened = Enforcer::open(*common_, {}, std::make_shared<policy::Policy>());
  ASSERT_TRUE(opened);
  Enforcer& further = **opened;
  EXPECT_FALSE(further.extend(cgroup, web, *first + 1)) << "the number is not in use";
  ASSERT_TRUE(further.extend(cgroup, web, *first));
  ASSERT_TRUE(further.extend(cgroup, web, *first));
  ASSERT_TRUE(further.start());
  ASSERT_TRUE(enforcer_->start());

  const auto second = enforcer_->enrol(cgroup, other, 0);
  ASSERT_TRUE(second);
  EXPECT_TRUE(left.empty());
  EXPECT_FALSE(numbers_->take(*first)) << "still in use at the other point";
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
  const policy::Number number = enrol(a, labeled("app", "web"));
  ASSERT_TRUE(start());
  const auto elements = all_keys();
  const workload::CgroupRef known{.id = ref(a).id, .level = ref(a).level};
  const workload::CgroupRef other{.id = 1ULL << 40U, .level = 2};
  {
    const Powerless powerless;
    EXPECT_FALSE(try_enrol(other, labeled("app", "db"), 0));
    EXPECT_FALSE(try_enrol(known, labeled("app", "db"), 0));
    EXPECT_FALSE(apply(std::make_shared<policy::Policy>()));
    EXPECT_FALSE(enforcer_->repair());
  }
  EXPECT_EQ(all_keys(), elements);
  EXPECT_EQ(enforcer_->enrolled(), 1U);
  ASSERT_NE(enforcer_->labels(number), nullptr);
  EXPECT_EQ(*enforcer_->labels(number), labeled("app", "web"));
  EXPECT_EQ(&enforcer_->policy(), old.get());
  // Later changes apply to the state that kernel and model have kept.
  const Fd listener = listen_in(a);
  const std::string b = make("b");
  const policy::Number same = enrol(b, labeled("app", "web"));
  EXPECT_EQ(connect_from(b, listener), 0);
  const auto next = try_enrol(other, labeled("app", "db"), 0);
  ASSERT_TRUE(next);
  ASSERT_TRUE(end(other, *next));
  ASSERT_TRUE(end(ref(b), same));
  for (const auto& [name, before] : elements) {
    EXPECT_EQ(all_keys()[name].size(), before.size()) << name;
  }
}

TEST_F(EnforcerTable, AQuarantineThatFailedIsMadeUpFor) {
  const std::string a = make("a");
  enrol(a, labeled("app", "web"));
  ASSERT_TRUE(start());
  {
    const Powerless powerless;
    EXPECT_FALSE(quarantine({.id = ref(a).id, .level = ref(a).level}));
  }
  EXPECT_EQ(enforcer_->enrolled(), 0U);
  ASSERT_TRUE(quarantine({.id = 1ULL << 40U, .level = 2})) << "the next change rewrites the table";
  const Fd plain = listen_in("");
  EXPECT_EQ(connect_from(a, plain), EINPROGRESS);
  EXPECT_EQ(keys(datapath::sets().groups).size(), 0U);
}

TEST_F(EnforcerTable, AChangeByOthersIsUndone) {
  const std::string a = make("a");
  enrol(a, labeled("app", "web"));
  ASSERT_TRUE(start());
  const auto elements = all_keys();
  delete_table();
  ASSERT_TRUE(enforcer_->repair());
  EXPECT_EQ(all_keys(), elements);
  delete_table();
  const policy::Number number = enrol(make("b"), labeled("app", "db"));
  ASSERT_NE(number, 0U) << "a change that finds no table rewrites all of it";
  ASSERT_TRUE(end(ref(base_ + "/b"), number));
  EXPECT_EQ(all_keys(), elements);
  delete_table();
  ASSERT_TRUE(apply(std::make_shared<policy::Policy>()));
  EXPECT_EQ(keys(datapath::sets().workloads), elements.at("workloads"));
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
  enrol(web, labeled("app", "web"));
  enrol(db, labeled("app", "db"));
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
        << "applying the difference of two policies gives the same as writing the second";
  }
}

TEST_F(EnforcerTable, WhatIsNotFoundWhileSetsAreExchangedIsNotRefused) {
  const std::string web = make("web");
  const std::string more = make("more");
  const std::string db = make("db");
  const Fd listener = listen_in(web);
  enrol(web, labeled("app", "web"));
  enrol(more, labeled("app", "web"));
  enrol(db, labeled("app", "db"));
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
    kernel::NftBatch batch(abi::kTable);
    batch.flush_set(datapath::sets().steady);
    ASSERT_TRUE(socket->commit(std::move(batch)));
  };
  EXPECT_EQ(connect_shortly(db), ECONNREFUSED);
  for (const std::function<bool()>& exchange : std::array<std::function<bool()>, 2>{
           [&] { return apply(std::make_shared<policy::Policy>()).has_value(); },
           [&] { return enforcer_->repair().has_value(); }}) {
    unsettle();
    EXPECT_EQ(connect_shortly(db), EINPROGRESS) << "TCP retransmits its request";
    EXPECT_EQ(connect_shortly(more), 0) << "what is allowed passes";
    ASSERT_TRUE(exchange());
    EXPECT_EQ(connect_shortly(db), ECONNREFUSED);
  }
}

/// The hook costs time for every packet that this host receives.
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
  EXPECT_EQ(keys(datapath::sets().answers).size(), 2U);
  ASSERT_TRUE(apply(std::make_shared<policy::Policy>()));
  EXPECT_TRUE(has_hook()) << "deleting it would drop packets that wait in queues";
  EXPECT_EQ(keys(datapath::sets().answers).size(), 0U);
  const auto audit = std::make_shared<policy::Policy>();
  audit->mode = policy::Mode::audit;
  ASSERT_TRUE(apply(audit));
  EXPECT_EQ(keys(datapath::sets().answers).size(), 2U) << "names are observed";
  ASSERT_TRUE(apply(std::make_shared<policy::Policy>(named)));
  ASSERT_TRUE(enforcer_->repair());
  EXPECT_TRUE(has_hook());
}

TEST_F(EnforcerTable, AuditModeBeginsAndEndsWithAReload) {
  const std::string web = make("web");
  const std::string db = make("db");
  const Fd listener = listen_in(db);
  enrol(web, labeled("app", "web"));
  enrol(db, labeled("app", "db"));
  ASSERT_TRUE(start());
  const auto elements = all_keys();
  const auto audit = std::make_shared<policy::Policy>();
  audit->mode = policy::Mode::audit;
  ASSERT_TRUE(apply(audit));
  EXPECT_EQ(connect_from(web, listener), 0);
  ASSERT_TRUE(apply(std::make_shared<policy::Policy>()));
  EXPECT_EQ(connect_from(web, listener), ECONNREFUSED);
  const auto after = all_keys();
  EXPECT_EQ(after.at(datapath::sets().auditing.name), elements.at(datapath::sets().auditing.name));
  EXPECT_EQ(after.at(datapath::sets().refusal.name), elements.at(datapath::sets().refusal.name));
}

}  // namespace
}  // namespace trireme::enforcer
