// SPDX-License-Identifier: Apache-2.0
// UDP between enforcement points: docs/datapath.md, "Tokens in datagrams".
//
// An authorised flow's datagrams pass where the number of the socket at hand is the one in the
// flow's label. Everything else of such a flow goes to the verifier, with what the rules know of it
// in the packet's priority.
#include "ruleset_writer.hpp"
#include "trireme/handshake/codes.hpp"

namespace trireme::enforcer {

using kernel::NftBytes;
using kernel::NftRule;
using kernel::NftVerdict;

namespace {

struct Direction {
  std::uint8_t number;  // of conntrack
  std::uint32_t flag;   // for the verifier
};
constexpr std::array<Direction, 2> kDirections = {{{0, 0}, {1, handshake::kAnswers}}};

NftRule of_flow(std::uint32_t bits) {
  NftRule rule = protocol(IPPROTO_UDP);
  flow_has(rule, bits);
  return rule;
}

NftRule& in_direction(NftRule& rule, const Direction& direction) {
  return rule.ct(NFT_CT_DIRECTION, 0).equal(0, NftBytes::u8(direction.number));
}

/// The socket's number is the one that the flow's label has for this end.
NftRule& is_its_own(NftRule& rule, const End& socket, bool is_source) {
  const std::uint32_t word = kWords + (is_source ? 1 : 2);
  // nft 1.0.6 shows a register in the middle of a label by what was loaded there before.
  rule.meta(NFT_META_CPU, word).ct(NFT_CT_LABELS, kWords);
  socket.number(rule, word - 1);
  return rule.in(sets().selves.name, word - 1);
}

/// Of a flow with tokens: authorised, and not to be renewed.
NftRule& is_settled(NftRule& rule, bool outgoing) {
  const std::uint32_t settled = kToken | kAuthorised;
  const std::uint32_t bits = outgoing ? settled | kRenewal : settled;
  return rule.ct(NFT_CT_LABELS, 0)
      .mask(0, FlowLabel::bits(bits).nft())
      .equal(0, FlowLabel::bits(settled).nft());
}

/// Datagrams of a flow whose ends exchange tokens, those of write_settled() aside.
void write_flow(Writer& writer, const std::string& chain, const End& socket, bool outgoing) {
  for (const Direction& direction : kDirections) {
    const bool is_source = outgoing == (direction.number == 0);
    if (outgoing && is_source) {
      NftRule renewed;
      in_direction(flow_has(renewed, kRenewal), direction);
      writer.rule(chain,
                  std::move(ask_about(is_its_own(flow_has(renewed, kAuthorised), socket, is_source),
                                      socket, handshake::kRenew)));
    }
    NftRule unsettled;
    writer.rule(chain, std::move(ask_about(
                           is_its_own(in_direction(unsettled, direction), socket, is_source),
                           socket, direction.flag)));
    NftRule taken_over;
    writer.rule(chain, std::move(ask_about(in_direction(taken_over, direction), socket,
                                           direction.flag | handshake::kTakenOver)));
  }
  writer.rule(chain, std::move(NftRule().drop()));
}

/// What the other verifier says: never an application's.
void write_control(Writer& writer, const std::string& chain, const End& socket) {
  for (const Direction& direction : kDirections) {
    const bool is_source = direction.number == 1;
    NftRule own;
    in_direction(flow_has(own, kToken), direction);
    writer.rule(chain,
                std::move(ask_about(is_its_own(own, socket, is_source), socket, direction.flag)));
    NftRule
        other;  // another's, or one that was authorised by address: rules cannot take a bit back
    in_direction(flow_has(other, kToken | kAuthorised), direction);
    writer.rule(chain, std::move(ask_about(other, socket, direction.flag | handshake::kTakenOver)));
  }
  NftRule first;
  in_direction(first, kDirections[0]);
  writer.ask_for_datagrams(chain, std::move(first), socket, false, handshake::kFresh);
  writer.rule(chain, std::move(NftRule().drop()));
}

/// The first datagram to an address from where tokens are expected, and to one host alone.
NftRule first_to_speaker(std::uint8_t nfproto, bool translated) {
  NftRule rule = protocol(IPPROTO_UDP);
  in_direction(rule, kDirections[0]).meta(NFT_META_NFPROTO, 0).equal(0, NftBytes::u8(nfproto));
  rule.ct(NFT_CT_STATUS, 0).mask(0, NftBytes::u32(IPS_DST_NAT));
  if (translated) {
    rule.not_equal(0, NftBytes::u32(0));
  } else {
    rule.equal(0, NftBytes::u32(0));
  }
  const bool v4 = nfproto == NFPROTO_IPV4;
  rule.payload(NFT_PAYLOAD_NETWORK_HEADER, v4 ? 16 : 24, v4 ? 4 : 16, 0)
      .in(v4 ? sets().speakers4.name : sets().speakers6.name, 0);
  return std::move(rule.fib_destination_type(0).equal(0, NftBytes::u32(RTN_UNICAST)));
}

}  // namespace

void write_settled(Writer& writer, const std::string& chain, std::uint32_t level, bool outgoing) {
  const std::string own = at(outgoing ? "out_settled" : "in_settled", level);
  NftRule settled = protocol(IPPROTO_UDP);
  writer.rule(chain, std::move(is_settled(settled, outgoing).jump(own)));
  if (!outgoing) {  // what the other verifier says is never an application's
    NftRule control;
    writer.rule(own, std::move(begins_with_magic(control).verdict({NftVerdict::Code::ret, {}})));
  }
  for (const Direction& direction : kDirections) {
    NftRule rule;
    in_direction(rule, direction);
    writer.rule(
        own,
        std::move(
            is_its_own(rule, socket_end(level), outgoing == (direction.number == 0)).accept()));
  }
}

void write_datagrams_out(Writer& writer, std::uint32_t level) {
  const End socket = socket_end(level);
  writer.rule(at("out_net_from", level), std::move(of_flow(kToken).go_to(at("out_flow", level))));
  for (const std::uint8_t nfproto : {std::uint8_t{NFPROTO_IPV4}, std::uint8_t{NFPROTO_IPV6}}) {
    for (const bool translated : {false, true}) {
      writer.ask_for_datagrams(at("out_net_from", level), first_to_speaker(nfproto, translated),
                               socket, true,
                               handshake::kFresh | (translated ? handshake::kTranslated : 0));
    }
  }
  write_flow(writer, at("out_flow", level), socket, true);
}

void write_datagrams_in(Writer& writer, std::uint32_t level) {
  const End socket = socket_end(level);
  NftRule control = protocol(IPPROTO_UDP);
  writer.rule(at("in_net_to", level),
              std::move(begins_with_magic(control).go_to(at("in_control", level))));
  writer.rule(at("in_net_to", level), std::move(of_flow(kToken).go_to(at("in_flow", level))));
  write_control(writer, at("in_control", level), socket);
  write_flow(writer, at("in_flow", level), socket, false);
}

void write_datagrams_of_host(Writer& writer) {
  const auto ask_about_host = [](NftRule rule, std::uint32_t flags) {
    rule.immediate(0, NftBytes::u32(kHost | flags)).set_meta(NFT_META_PRIORITY, 0).go_to("ask");
    return rule;
  };
  // What the verifier let go on as nothing of its flows, below.
  NftRule control_of_exempt = of_flow(kExempt);
  writer.rule("in_net_host", std::move(begins_with_magic(control_of_exempt).drop()));
  for (const char* chain : {"out_net_host", "in_net_host"}) {
    writer.rule(chain, std::move(of_flow(kExempt).accept()));
  }
  // Where nobody listens the kernel says so.
  for (const Direction& direction : kDirections) {
    NftRule out = of_flow(kToken);
    writer.rule("out_net_host", ask_about_host(std::move(in_direction(out, direction)),
                                               direction.flag | handshake::kTakenOver));
    NftRule in = of_flow(kToken);
    writer.rule("in_net_host", ask_about_host(std::move(in_direction(any_socket(in), direction)),
                                              direction.flag | handshake::kTakenOver));
  }
  // The ends of a workload's flow that conntrack may have forgotten while the far end has not: the
  // verifier remembers it, and ends it there first.
  for (const std::uint8_t nfproto : {std::uint8_t{NFPROTO_IPV4}, std::uint8_t{NFPROTO_IPV6}}) {
    NftRule forgotten = protocol(IPPROTO_UDP);
    in_direction(flow_lacks(forgotten, kToken), kDirections[0]);
    ends_of(forgotten, nfproto)
        .in(clients(nfproto).name, 0)
        .immediate(kWords, FlowLabel::bits(kToken).nft())
        .set_ct(NFT_CT_LABELS, kWords);
    writer.rule("out_net_host",
                ask_about_host(std::move(forgotten), handshake::kFresh | handshake::kTakenOver));
  }
  // An answer to a flow that NAT on OUTPUT has turned elsewhere: its source is not yet what the
  // socket is connected to, so that rules do not find the socket, and cannot tell whose it is.
  NftRule turned = of_flow(kToken);
  in_direction(turned, kDirections[1])
      .ct(NFT_CT_STATUS, 0)
      .mask(0, NftBytes::u32(IPS_DST_NAT))
      .not_equal(0, NftBytes::u32(0))
      .drop()
      .comment("of a connected socket whose flow NAT on OUTPUT has turned elsewhere");
  writer.rule("in_net_host", std::move(turned));
  NftRule control = protocol(IPPROTO_UDP);
  writer.rule("in_net_host", std::move(any_socket(begins_with_magic(control)).drop()));
}

void write_datagrams(Writer& writer) {
  // A far end that refuses a datagram of an authorised flow does not know it any more.
  struct Refusal {
    std::uint8_t protocol, type, code;
  };
  for (const Refusal& refusal : {Refusal{IPPROTO_ICMP, 3, 13}, Refusal{IPPROTO_ICMPV6, 1, 1}}) {
    const std::array<std::uint8_t, 2> words = {refusal.type, refusal.code};
    NftRule rule = protocol(refusal.protocol);
    rule.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, 0).equal(0, NftBytes().add_raw(words));
    rule.ct(NFT_CT_STATE, 0).mask(0, NftBytes::u32(kStateRelated)).not_equal(0, NftBytes::u32(0));
    rule.ct(NFT_CT_PROTOCOL, 0).equal(0, NftBytes::u8(IPPROTO_UDP));
    flow_has(flow_has(rule, kToken), kAuthorised)
        .immediate(kWords, FlowLabel::bits(kRenewal).nft())
        .set_ct(NFT_CT_LABELS, kWords);
    writer.rule("input", std::move(rule));
  }
  for (const Direction& direction : kDirections) {
    NftRule label;
    label.meta(NFT_META_PRIORITY, 0)
        .mask(0, NftBytes::u32(handshake::kNumberMask))
        .not_equal(0, NftBytes::u32(0));
    in_direction(label, direction);
    label_by_priority(label, direction.number == 0, kToken);
    writer.rule("output_control", std::move(label));
  }
  NftRule go;
  writer.rule("output_control",
              std::move(go.immediate(0, NftBytes::u32(0)).set_meta(NFT_META_PRIORITY, 0).accept()));

  NftRule let;
  writer.rule("ruled_in_let", std::move(let.immediate(0, NftBytes::u32(0))
                                            .set_meta(NFT_META_PRIORITY, 0)
                                            .go_to(at("in_again", kMaxLevel))));
  for (std::uint32_t level = writer.last_level(); level <= kMaxLevel; level++) {
    const End socket = socket_end(level);
    NftRule enrolled;
    socket.number(enrolled, kNumberRegister);
    writer.rule(at("in_again", level), std::move(enrolled.go_to(at("in_again_to", level))));
    writer.rule(at("in_again", level),
                std::move(level > writer.last_level() ? NftRule().go_to(at("in_again", level - 1))
                                                      : NftRule().drop()));
    for (const Direction& direction : kDirections) {
      NftRule own;
      writer.rule(
          at("in_again_to", level),
          std::move(
              is_its_own(in_direction(own, direction), socket, direction.number == 1).accept()));
    }
    writer.rule(at("in_again_to", level), std::move(NftRule().drop()));
  }
}

void add_datagram_chains(kernel::NftBatch& batch, const Layout& layout) {
  batch.add_chain("output_control");
  batch.add_chain("ruled_in_let");
  for (std::uint32_t level = layout.owned ? 0 : 1; level <= kMaxLevel; level++) {
    for (const char* name : {"out_settled", "in_settled", "out_flow", "in_flow", "in_control",
                             "in_again", "in_again_to"}) {
      batch.add_chain(at(name, level));
    }
  }
}

}  // namespace trireme::enforcer
