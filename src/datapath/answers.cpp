// SPDX-License-Identifier: Apache-2.0
// Rules that send answers of name servers to the daemon: docs/datapath.md, "Names".
#include "writer.hpp"

namespace trireme::datapath {

using kernel::NftBytes;
using kernel::NftRule;
using kernel::NftVerdict;

namespace {

constexpr std::uint16_t kNameServer = 53;
constexpr kernel::NftBaseChain kAfterRulings = {NF_INET_LOCAL_IN, -48};
constexpr const char* kAsker = "asker";

/// Matches a reply in an allowed flow.
NftRule& answer(NftRule& rule) {
  return flow_has(reply_direction(rule), abi::kAuthorized);
}

}  // namespace

void add_answer_chains(kernel::NftBatch& batch, const Layout& layout) {
  for (std::uint32_t level = layout.owned ? 0 : 1; level <= abi::kMaxLevel; level++) {
    batch.add_chain(at(kAsker, level));
  }
}

void add_answers_hook(kernel::NftBatch& batch) {
  batch.add_chain(kAnswersHook, kAfterRulings);
}

/// This chain runs after all verdicts, so what it queues has already been accepted. It matches
/// flows to a name server by the original destination port, whatever NAT changed it to.
void write_answers_hook(kernel::NftBatch& batch) {
  add_answers_hook(batch);
  NftRule asked;
  asked.ct_original(NFT_CT_PROTO_DST, 0).equal(0, NftBytes::be16(kNameServer));
  batch.add_rule(kAnswersHook, asked.meta(NFT_META_NFPROTO, 0).vmap(sets().answers.name, 0));
}

void write_answers(Writer& writer) {
  if (writer.layout().queues == 0) {
    return;
  }
  // The workload that sent the query is found by the socket that is about to receive the answer.
  // The flow's label would not do: it also contains a workload that used the port a moment ago.
  for (std::uint32_t level = writer.last_level(); level <= abi::kMaxLevel; level++) {
    NftRule enrolled;
    socket_end(level).number(enrolled, kNumberRegister);
    enrolled.not_equal(kNumberRegister, NftBytes::u32(0))
        .set_meta(NFT_META_PRIORITY, kNumberRegister - 1);
    writer.rule(at(kAsker, level), std::move(enrolled.verdict({NftVerdict::Code::ret, {}})));
    if (level > writer.last_level()) {
      writer.rule(at(kAsker, level), std::move(NftRule().go_to(at(kAsker, level - 1))));
    }
  }
  for (const bool bypass : {false, true}) {
    const char* chain = bypass ? kAnswersPass : kAnswersHeld;
    // On lo the priority is the sender's stamp, by which the gate judges, so it must stay. Packets
    // without a stamp have no known sender: they pass and are not read.
    NftRule unstamped = on_lo();
    unstamped.meta(NFT_META_PRIORITY, 0)
        .mask(0, NftBytes::u32(~abi::kNumberMask))
        .not_equal(0, NftBytes::u32(abi::kStamp));
    writer.rule(chain, std::move(unstamped.accept()));
    NftRule any;
    any.meta(NFT_META_IIF, 0).not_equal(0, NftBytes::u32(kLoopback));
    answer(any)
        .immediate(0, NftBytes::u32(0))
        .set_meta(NFT_META_PRIORITY, 0)
        .jump(at(kAsker, abi::kMaxLevel));
    writer.rule(chain, std::move(any));
    const auto read = [&](NftRule&& rule) {
      writer.rule(chain,
                  std::move(rule.queue(writer.layout().mechanism, abi::kAnswerQueue, bypass)));
    };
    NftRule datagram = protocol(IPPROTO_UDP);
    read(std::move(answer(datagram)));
    NftRule begin = protocol(IPPROTO_TCP);
    tcp_flags(begin, kSyn).not_equal(0, NftBytes::u8(0));
    read(std::move(answer(begin)));
    NftRule data = protocol(IPPROTO_TCP);  // at least one byte: without it the load ends the rule
    data.payload(NFT_PAYLOAD_INNER_HEADER, 0, 1, 0).at_most(0, NftBytes::u8(0xff));
    read(std::move(answer(data)));
  }
}

}  // namespace trireme::datapath
