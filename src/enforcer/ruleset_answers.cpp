// SPDX-License-Identifier: Apache-2.0
// The way of name servers' answers to the daemon: docs/datapath.md, "Names".
#include "ruleset_writer.hpp"
#include "trireme/gate/gate.hpp"

namespace trireme::enforcer {

using kernel::NftBytes;
using kernel::NftRule;
using kernel::NftVerdict;

namespace {

constexpr std::uint16_t kNameServer = 53;
constexpr kernel::NftBaseChain kAfterRulings = {NF_INET_LOCAL_IN, -48};
constexpr const char* kAsker = "asker";

/// What comes back in a flow that was allowed.
NftRule& answer(NftRule& rule) {
  return flow_has(reply_direction(rule), kAuthorised);
}

}  // namespace

void add_answer_chains(kernel::NftBatch& batch, const Layout& layout) {
  for (std::uint32_t level = layout.owned ? 0 : 1; level <= kMaxLevel; level++) {
    batch.add_chain(at(kAsker, level));
  }
}

void add_answers_hook(kernel::NftBatch& batch) {
  batch.add_chain(kAnswersHook, kAfterRulings);
}

/// Later than every verdict: what is queued here has been let in. Of a flow that was sent to a name
/// server, by the port that was asked for, whatever NAT made of it.
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
  // Who asked is told by the socket that is about to get the answer: the flow's label is another's
  // where the port was so a moment ago.
  for (std::uint32_t level = writer.last_level(); level <= kMaxLevel; level++) {
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
    // On lo the priority is the sender's stamp, by which the gate judges: it stays. What has none
    // is nobody's, and teaches nothing.
    NftRule unstamped = on_lo();
    unstamped.meta(NFT_META_PRIORITY, 0)
        .mask(0, NftBytes::u32(~gate::kStampedNumber))
        .not_equal(0, NftBytes::u32(gate::kStamp));
    writer.rule(chain, std::move(unstamped.accept()));
    NftRule any;
    any.meta(NFT_META_IIF, 0).not_equal(0, NftBytes::u32(kLoopback));
    answer(any)
        .immediate(0, NftBytes::u32(0))
        .set_meta(NFT_META_PRIORITY, 0)
        .jump(at(kAsker, kMaxLevel));
    writer.rule(chain, std::move(any));
    const auto read = [&](NftRule&& rule) {
      writer.rule(chain, std::move(rule.queue(writer.layout().mechanism, kAnswerQueue, bypass)));
    };
    NftRule datagram = protocol(IPPROTO_UDP);
    read(std::move(answer(datagram)));
    NftRule begin = protocol(IPPROTO_TCP);
    tcp_flags(begin, kSyn).not_equal(0, NftBytes::u8(0));
    read(std::move(answer(begin)));
    NftRule data = protocol(IPPROTO_TCP);
    data.payload(NFT_PAYLOAD_INNER_HEADER, 0, 1, 0).at_most(0, NftBytes::u8(0xff));
    read(std::move(answer(data)));
  }
}

}  // namespace trireme::enforcer
