// The way of name servers' answers to the daemon: docs/datapath.md, "Names".
#include "ruleset_writer.hpp"

namespace trireme::enforcer {

using kernel::NftBytes;
using kernel::NftRule;

namespace {

constexpr std::uint16_t kNameServer = 53;

/// What comes back in a flow that was allowed, and was sent to a name server: by the port that was asked for, whatever NAT made of it.
NftRule& answer(NftRule& rule) {
  rule.ct_original(NFT_CT_PROTO_DST, 0).equal(0, NftBytes::be16(kNameServer));
  return flow_has(reply_direction(rule), kAuthorised);
}

}  // namespace

void write_answers(Writer& writer) {
  // Later than every verdict: what is queued here has been let in.
  writer.rule("input_answers", std::move(NftRule().meta(NFT_META_NFPROTO, 0).vmap(sets().answers.name, 0)));
  if (writer.layout().queues == 0) {
    return;
  }
  for (const bool bypass : {false, true}) {
    const char* chain = bypass ? kAnswersPass : kAnswersHeld;
    const auto read = [&](NftRule&& rule) { writer.rule(chain, std::move(rule.queue(writer.layout().mechanism, kAnswerQueue, bypass))); };
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
