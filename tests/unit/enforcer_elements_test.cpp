// SPDX-License-Identifier: Apache-2.0
// Writes the compiler's sets to the kernel, reads them back, and compares them with the model.
#include "trireme/datapath/elements.hpp"

#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/set.h>
#include <netinet/in.h>
// Must follow netinet/in.h: the kernel's headers then leave out what it already defines.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "enforcer_support.hpp"

namespace trireme::enforcer {
namespace {

using kernel::NftBatch;
using kernel::NftBytes;

class ElementsTest : public EnforcerTest {
 protected:
  static void commit(NftBatch&& batch) {
    auto socket = kernel::NftSocket::open();
    ASSERT_TRUE(socket);
    const Status done = socket->commit(std::move(batch));
    ASSERT_TRUE(done) << done.error().text();
  }
  /// The elements of a set as nft lists them.
  static nlohmann::json listed(const kernel::NftSet& set) {
    const auto all = nlohmann::json::parse(output("nft -j list table inet trireme"));
    for (const auto& object : all.at("nftables")) {
      for (const char* kind : {"set", "map"}) {
        if (object.contains(kind) && object[kind].at("name") == set.name) {
          return object[kind].value("elem", nlohmann::json::array());
        }
      }
    }
    ADD_FAILURE() << "no set " << set.name;
    return {};
  }
  using Bytes = std::vector<std::uint8_t>;
  static Bytes bytes(const NftBytes& value) { return {value.view().begin(), value.view().end()}; }

  /// Sorted keys and data as the kernel holds them, because nft 1.0.6 lists some of them in the
  /// other byte order. Ends of intervals have no data.
  static std::vector<std::pair<Bytes, Bytes>> elements(const kernel::NftSet& set) {
    std::vector<std::pair<Bytes, Bytes>> result;
    std::unique_ptr<mnl_socket, int (*)(mnl_socket*)> socket(mnl_socket_open(NETLINK_NETFILTER),
                                                             mnl_socket_close);
    std::unique_ptr<nftnl_set, void (*)(const nftnl_set*)> object(nftnl_set_alloc(),
                                                                  nftnl_set_free);
    nftnl_set_set_str(object.get(), NFTNL_SET_TABLE, abi::kTable);
    nftnl_set_set_str(object.get(), NFTNL_SET_NAME, set.name.c_str());
    std::vector<char> buffer(1U << 17U);
    nlmsghdr* request =
        nftnl_nlmsg_build_hdr(buffer.data(), NFT_MSG_GETSETELEM, NFPROTO_INET, NLM_F_DUMP, 1);
    nftnl_set_elems_nlmsg_build_payload(request, object.get());
    EXPECT_GT(mnl_socket_sendto(socket.get(), request, request->nlmsg_len), 0);
    const auto collect = [](const nlmsghdr* header, void* data) -> int {
      const std::unique_ptr<nftnl_set, void (*)(const nftnl_set*)> part(nftnl_set_alloc(),
                                                                        nftnl_set_free);
      nftnl_set_elems_nlmsg_parse(header, part.get());
      const auto add = [](nftnl_set_elem* element, void* list) -> int {
        const auto get = [element](std::uint16_t what) {
          std::uint32_t size = 0;
          const auto* first =
              static_cast<const std::uint8_t*>(nftnl_set_elem_get(element, what, &size));
          return first == nullptr ? Bytes{} : Bytes(first, first + size);
        };
        static_cast<decltype(result)*>(list)->emplace_back(get(NFTNL_SET_ELEM_KEY),
                                                           get(NFTNL_SET_ELEM_DATA));
        return 0;
      };
      nftnl_set_elem_foreach(part.get(), add, data);
      return MNL_CB_OK;
    };
    for (int status = MNL_CB_OK; status == MNL_CB_OK;) {
      const ssize_t size = mnl_socket_recvfrom(socket.get(), buffer.data(), buffer.size());
      status = size < 0 ? MNL_CB_ERROR
                        : mnl_cb_run(buffer.data(), static_cast<std::size_t>(size), 1, 0, collect,
                                     &result);
      EXPECT_NE(status, MNL_CB_ERROR) << set.name;
    }
    std::ranges::sort(result);
    return result;
  }
  static std::vector<std::pair<Bytes, Bytes>> sorted(
      std::vector<std::pair<NftBytes, std::uint32_t>> list) {
    std::vector<std::pair<Bytes, Bytes>> result;
    for (const auto& [key, value] : list) {
      result.emplace_back(bytes(key), bytes(NftBytes::twice(value)));
    }
    std::ranges::sort(result);
    return result;
  }

  /// A policy that fills every set.
  static std::shared_ptr<const policy::Policy> rich() {
    policy::Policy policy;
    policy.networks.push_back({.name = "corp",
                               .cidrs = {*policy::Prefix::parse("10.0.0.0/8")},
                               .names = {},
                               .where = {}});
    policy::Rule web = allow(selector("app=web"), selector("app=db"));
    web.ports = {{.protocol = IPPROTO_TCP, .first = 5432, .last = 5433},
                 {.protocol = IPPROTO_TCP, .first = 65535, .last = 65535}};
    web.log = true;
    policy::Rule world =
        allow(policy::Entity{policy::Entity::Kind::network, 0}, selector("app=web"));
    world.ports = {{.protocol = IPPROTO_UDP, .first = 0, .last = 53}};
    policy::Rule deny = allow(selector("app=web"), selector("tier"));
    deny.action = policy::Rule::Action::deny;
    policy.rules = {web, world, deny};
    return std::make_shared<const policy::Policy>(std::move(policy));
  }
};

TEST_F(ElementsTest, TheKernelHoldsTheModel) {
  for (const std::uint32_t first_id : {1U, 1U << 31U}) {
    policy::Compiler compiler(rich(), first_id);
    compiler.add(16, labeled("app", "web"));
    compiler.add(17, labeled("app", "db"));
    compiler.add(18, labeled("tier", "x"));
    NftBatch batch(abi::kTable);
    datapath::write_ruleset(batch, {});
    datapath::write_tables(batch, compiler.tables(), first_id);
    datapath::write_elements(batch, compiler.elements(), first_id, false);
    commit(std::move(batch));
    const policy::Elements& model = compiler.elements();
    const auto numbered = [](const std::map<policy::Number, std::uint32_t>& map) {
      std::vector<std::pair<NftBytes, std::uint32_t>> list;
      for (const auto& [number, value] : map) {
        list.emplace_back(NftBytes::u32(number), value);
      }
      return sorted(std::move(list));
    };
    EXPECT_EQ(elements(datapath::sets().groups), numbered(model.groups));
    EXPECT_EQ(elements(datapath::sets().classes), numbered(model.classes));
    std::vector<std::pair<NftBytes, std::uint32_t>> pairs;
    for (const auto& [key, profile] : model.pairs) {
      pairs.emplace_back(NftBytes::u32(key.first).add_u32(key.second), profile);
    }
    EXPECT_FALSE(pairs.empty());
    EXPECT_EQ(elements(datapath::sets().pairs), sorted(std::move(pairs)));
    std::vector<std::pair<NftBytes, std::uint32_t>> outcomes;
    for (const auto& [key, outcome] : model.outcomes) {
      outcomes.emplace_back(NftBytes::u32(key.first).add_u32(first_id + key.second),
                            static_cast<std::uint32_t>(outcome));
    }
    EXPECT_FALSE(outcomes.empty());
    EXPECT_EQ(elements(datapath::sets().outcomes), sorted(std::move(outcomes)));
    Keys same;
    for (const std::uint32_t group : model.same) {
      const NftBytes key = NftBytes::u32(group).add_u32(group);
      same.insert({key.view().begin(), key.view().end()});
    }
    EXPECT_EQ(keys(datapath::sets().same), same);

    NftBatch removal(abi::kTable);
    datapath::write_elements(removal, model, first_id, true);
    commit(std::move(removal));
    for (const kernel::NftSet* set :
         {&datapath::sets().groups, &datapath::sets().classes, &datapath::sets().same,
          &datapath::sets().pairs, &datapath::sets().outcomes}) {
      EXPECT_TRUE(keys(*set).empty()) << set->name;
    }
  }
}

TEST_F(ElementsTest, EveryAddressAndPortHasItsClass) {
  policy::Compiler compiler(rich(), 1);
  NftBatch batch(abi::kTable);
  datapath::write_ruleset(batch, {});
  datapath::write_tables(batch, compiler.tables(), 1);
  commit(std::move(batch));
  const auto check_all = [](const kernel::NftSet& set,
                            const std::vector<policy::AddressInterval>& intervals) {
    ASSERT_FALSE(intervals.empty());
    std::vector<std::pair<Bytes, Bytes>> expected;
    for (const auto& interval : intervals) {
      const Bytes first(
          interval.first.bytes.begin(),
          interval.first.bytes.begin() + static_cast<std::ptrdiff_t>(interval.first.size()));
      expected.emplace_back(first, bytes(NftBytes::twice(interval.address_class)));
      if (&interval != &intervals.front()) {
        expected.emplace_back(first, Bytes{});  // the end of the previous interval
      }
    }
    std::ranges::sort(expected);
    EXPECT_EQ(elements(set), expected) << set.name;
  };
  check_all(datapath::sets().remote4, compiler.tables().remote4);
  check_all(datapath::sets().remote6, compiler.tables().remote6);
  check_all(datapath::sets().local4, compiler.tables().local4);
  check_all(datapath::sets().local6, compiler.tables().local6);
  EXPECT_GE(compiler.tables().remote4.size(), 3U)
      << "the network, and the addresses below and above it";

  const auto port_class = [&](const char* protocol, unsigned port) {
    return output(std::string("nft get element inet trireme ports '{ ") + protocol + " . " +
                  std::to_string(port) + " }'");
  };
  EXPECT_NE(port_class("tcp", 5432).find("tcp . 5432-5433"), std::string::npos);
  EXPECT_NE(port_class("tcp", 5433).find("tcp . 5432-5433"), std::string::npos);
  EXPECT_NE(port_class("tcp", 65535).find("tcp . 65535"), std::string::npos);
  EXPECT_NE(port_class("udp", 0).find("udp . 0-53"), std::string::npos);
  EXPECT_EQ(listed(datapath::sets().ports).back().at(0), "*") << "the catch-all element";

  NftBatch empty(abi::kTable);
  datapath::flush_tables(empty);
  commit(std::move(empty));
  EXPECT_TRUE(keys(datapath::sets().remote4).empty());
  EXPECT_TRUE(listed(datapath::sets().ports).empty()) << "the catch-all is removed too";
}

TEST_F(ElementsTest, RefusalFollowsThePolicy) {
  const auto chain_of = [](const policy::Policy& policy) {
    NftBatch batch(abi::kTable);
    datapath::write_ruleset(batch, {});
    datapath::write_refusal(batch, policy);
    commit(std::move(batch));
    const auto elements = listed(datapath::sets().refusal);
    EXPECT_EQ(elements.size(), 2U) << "both families";
    EXPECT_EQ(elements.at(0).at(1), elements.at(1).at(1));
    return elements.at(0).at(1).at("goto").at("target").get<std::string>();
  };
  policy::Policy policy;
  EXPECT_EQ(chain_of(policy), datapath::kReject);
  policy.refuse = policy::Refuse::drop;
  EXPECT_EQ(chain_of(policy), datapath::kSilent);
  policy.mode = policy::Mode::audit;
  EXPECT_EQ(chain_of(policy), datapath::kAudit);
}

}  // namespace
}  // namespace trireme::enforcer
