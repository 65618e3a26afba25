// SPDX-License-Identifier: Apache-2.0
#include "trireme/datapath/table.hpp"

#include "trireme/policy/compile.hpp"
#include "writer.hpp"

namespace trireme::datapath {

using kernel::NftBatch;
using kernel::NftBytes;
using kernel::NftRule;
using kernel::NftVerdict;

namespace {

/// Allowed flows that the rules of a namespace report, at most; and those of one owner, which are
/// not all of them at once, so that the first flows of others are reported too.
constexpr Share kSampledTogether = {.per_second = 50, .burst = 50};
constexpr Share kSampledShare = {.per_second = 10, .burst = 25};

/// Reports an allowed flow, for `trirectl flows --all` and the counters of rules: each pair of
/// endpoints and port at most once while its element in `sampled` lives, each owner's and all
/// together at a bounded rate. Whether it is reported or not, the flow does not come here again.
void write_sample(Writer& writer) {
  writer.rule("sample", std::move(NftRule()
                                      .immediate(8, label_bytes(abi::FlowLabel::bits(abi::kLogged)))
                                      .set_ct(NFT_CT_LABELS, 8)));
  // The label has the numbers of both endpoints. The port is that of the service, after any DNAT,
  // in both directions of the flow.
  constexpr std::uint32_t key = 8;
  // Words 1 and 2 of the label are the numbers. nft names a register by what was loaded at its very
  // place: see NftRule::map().
  constexpr std::uint32_t source = 1;
  for (const std::uint8_t number : kReported) {
    for (const bool numbered : {true, false}) {
      NftRule report = reported(number);
      report.meta(NFT_META_CPU, source)
          .meta(NFT_META_CPU, source + 1)
          .ct(NFT_CT_LABELS, source - 1);
      if (numbered) {
        report.not_equal(source, NftBytes::u32(abi::kNoNumber));
      } else {
        report.equal(source, NftBytes::u32(abi::kNoNumber));
      }
      report.ct(NFT_CT_LABELS, key).meta(NFT_META_L4PROTO, key + 4);
      if (number != 0) {
        report.ct_reply(NFT_CT_PROTO_SRC, key + 5);
      } else {
        report.immediate(key + 5, NftBytes::u32(0));
      }
      report.not_in(sets().sampled.name, key);
      within_share(report, sets().sampled_shares, source, numbered, kSampledShare);
      within_all(report, sets().sampled_shares, source, kSampledTogether)
          .add_to(sets().sampled.name, key)
          .log(abi::kLogGroup, "sample")
          .comment("once in 60 s: both numbers, protocol, port");
      writer.rule("sample", std::move(report));
    }
  }
}

void write_ends(Writer& writer) {
  for (const std::uint8_t number : {std::uint8_t{IPPROTO_ICMP}, std::uint8_t{IPPROTO_ICMPV6}}) {
    writer.rule("related", std::move(protocol(number).accept()));
  }
  // The bit is set with a flow's first packet and implies kAuthorized: later packets end here.
  NftRule logged;
  writer.rule("allow", std::move(flow_has(logged, abi::kLogged).accept()));
  writer.sample("allow");
  NftRule authorized;
  writer.rule("allow", std::move(flow_has(authorized, abi::kAuthorized).accept()));
  // Here the flow cannot bear the bit: it is older than the table, or untracked. On lo nothing
  // depends on the bit. On other devices later segments of a connection would not pass, so its
  // request is refused; datagrams are judged one by one anyway.
  NftRule local;
  writer.rule("allow",
              std::move(local.meta(NFT_META_IIF, 0).equal(0, NftBytes::u32(kLoopback)).accept()));
  writer.rule("allow", std::move(connection_request().go_to("refuse")));
  writer.rule("allow", std::move(NftRule().accept()));

  write_sample(writer);

  const auto log_once = [&writer](const std::string& chain, NftRule log, const std::string& prefix,
                                  std::uint32_t bits) {
    // Do not log flows that cannot bear a label because they are older than the table: every packet
    // would be logged, without the numbers of its endpoints.
    flow_has(log, abi::kAuthorized)
        .log(abi::kLogGroup, prefix)
        .immediate(8, label_bytes(abi::FlowLabel::bits(bits)))
        .set_ct(NFT_CT_LABELS, 8);
    writer.rule(chain, std::move(log));
  };
  constexpr std::uint32_t audited = abi::kLogged | abi::kAudited;
  NftRule logged_first;
  log_once("allow_log", std::move(flow_lacks(logged_first, abi::kLogged)), "allow", abi::kLogged);
  NftRule audited_first;
  log_once("allow_audit", std::move(flow_lacks(audited_first, abi::kLogged)), "audit", audited);
  // It was allowed before, and was sampled or logged as that.
  NftRule audited_now;
  log_once("allow_audit", std::move(flow_lacks(flow_has(audited_now, abi::kLogged), abi::kAudited)),
           "audit", audited);
  for (const char* chain : {"allow_log", "allow_audit"}) {
    writer.rule(chain, std::move(NftRule().go_to("allow")));
  }

  writer.rule("refuse",
              std::move(NftRule().meta(NFT_META_NFPROTO, 0).vmap(sets().refusal.name, 0)));
  writer.rule("refuse", std::move(NftRule().drop()));
  // Drop invalid segments: one far outside the window of an allowed connection gets here too, and a
  // reset would end that connection.
  NftRule invalid = segment();
  writer.rule(kReject, std::move(invalid.ct(NFT_CT_STATE, 0)
                                     .mask(0, NftBytes::u32(kStateInvalid))
                                     .not_equal(0, NftBytes::u32(0))
                                     .drop()));
  writer.rule(kReject, std::move(protocol(IPPROTO_TCP).reject_tcp_reset()));
  writer.rule(kReject, std::move(NftRule().reject_admin_prohibited()));
  // Even with refuse = "drop", answer speakers: a peer may consider a flow authorized that is no
  // longer known here, and without the ICMP error it would not renew the flow. Rules cannot
  // distinguish such flows from others.
  for (const std::uint8_t nfproto : {std::uint8_t{NFPROTO_IPV4}, std::uint8_t{NFPROTO_IPV6}}) {
    const bool v4 = nfproto == NFPROTO_IPV4;
    NftRule peer = protocol(IPPROTO_UDP);
    peer.meta(NFT_META_IIF, 0)
        .not_equal(0, NftBytes::u32(kLoopback))
        .meta(NFT_META_NFPROTO, 0)
        .equal(0, NftBytes::u8(nfproto));
    peer.payload(NFT_PAYLOAD_NETWORK_HEADER, v4 ? 12 : 8, v4 ? 4 : 16, 0)
        .in(v4 ? sets().speakers4.name : sets().speakers6.name, 0);
    writer.rule(kSilent, std::move(peer.reject_admin_prohibited()));
  }
  writer.rule(kSilent, std::move(NftRule().drop()));
  writer.rule(kAudit, std::move(NftRule()
                                    .immediate(8, label_bytes(abi::FlowLabel::bits(
                                                      abi::kAuthorized | abi::kAudited)))
                                    .set_ct(NFT_CT_LABELS, 8)
                                    .accept()));
}

// Priorities: before conntrack and raw chains; after DNAT; after DNAT; before SNAT. A packet that
// the verifier accepts from its queue continues with the last two.
constexpr std::array<std::pair<const char*, kernel::NftBaseChain>, 6> kBaseChains = {
    {{"prerouting_lo", {NF_INET_PRE_ROUTING, -350}},
     {"prerouting", {NF_INET_PRE_ROUTING, -90}},
     {"output", {NF_INET_LOCAL_OUT, -50}},
     {"input", {NF_INET_LOCAL_IN, -50}},
     {"output_ruled", {NF_INET_LOCAL_OUT, -49}},
     {"input_ruled", {NF_INET_LOCAL_IN, -49}}}};

void add_chains(NftBatch& batch, const Layout& layout) {
  for (const auto& [name, place] : kBaseChains) {
    batch.add_chain(name, place);
  }
  for (const char* name :
       {"related",         "allow",          "sample",      "allow_log",     "allow_audit",
        "refuse",          kReject,          kSilent,       kAudit,          "output_nat",
        "output_datagram", "input_datagram", "output_net",  "out_net_host",  "in_net_host",
        "in_net_again",    "in_lo_host",     "in_lo_again", "in_lo_to_host", kAnswersHeld,
        kAnswersPass}) {
    batch.add_chain(name);
  }
  add_token_chains(batch, layout);
  add_datagram_chains(batch, layout);
  add_answer_chains(batch, layout);
  if (layout.owned) {
    batch.add_chain("in_many");
    batch.add_chain("in_many_to_owner");
  }
  for (std::uint32_t level = layout.owned ? 0 : 1; level <= abi::kMaxLevel; level++) {
    for (const char* name : {"out_net", "out_net_from", "out_net_reply", "in_lo", "in_lo_to",
                             "in_net", "in_net_to", "in_net_reply"}) {
      batch.add_chain(at(name, level));
    }
  }
}

}  // namespace

std::string table_comment(std::uint64_t home) {
  const std::string owner = "owned by trireme; see trirectl(1)";
  return home == 0 ? owner : owner + "; written from network namespace " + std::to_string(home);
}

void write_ruleset(NftBatch& batch, const Layout& layout) {
  // Add the table first so that the deletion below cannot fail.
  batch.add_table();
  // Delete the old base chains first. When the kernel deletes a table, it removes rules and sets
  // before the hooks, and until then the hooks would judge by empty sets and refuse allowed
  // packets.
  for (const auto& [name, place] : kBaseChains) {
    batch.add_chain(name, place);
    batch.delete_chain(name);
  }
  add_answers_hook(batch);
  batch.delete_chain(kAnswersHook);
  batch.delete_table();
  batch.add_table(table_comment(layout.home));
  add_chains(batch, layout);
  for (const kernel::NftSet* set : sets().all()) {
    batch.add_set(*set);
  }
  Writer writer(batch, layout);
  write_prerouting(writer);
  write_output(writer);
  write_input(writer);
  write_tokens(writer);
  write_answers(writer);
  write_ends(writer);
  write_token_elements(batch, layout);

  using policy::Outcome;
  const auto end = [](Outcome outcome, const char* chain) {
    return kernel::NftElement{.key = NftBytes::u32(static_cast<std::uint32_t>(outcome)),
                              .verdict = NftVerdict{NftVerdict::Code::go_to, chain}};
  };
  const std::array ends = {end(Outcome::allow, "allow"), end(Outcome::allow_log, "allow_log"),
                           end(Outcome::audit, "allow_audit")};
  batch.add_elements(sets().ends, ends);
}

void write_depth(NftBatch& batch, std::uint32_t level) {
  const auto write = [&](const kernel::NftSet& set, const std::string& chain) {
    std::vector<kernel::NftElement> elements;
    for (const std::uint8_t nfproto : {NFPROTO_IPV4, NFPROTO_IPV6}) {
      elements.push_back({.key = NftBytes::u8(nfproto),
                          .verdict = NftVerdict{NftVerdict::Code::go_to, at(chain, level)}});
    }
    batch.add_elements(set, elements);
  };
  write(sets().enter_out_net, "out_net");
  write(sets().enter_in_lo, "in_lo");
  write(sets().enter_in_net, "in_net");
}

}  // namespace trireme::datapath
