// SPDX-License-Identifier: Apache-2.0
// UDP between enforcement points: docs/datapath.md, "Tokens in datagrams".
//
// A datagram of an authorized flow passes if the number of the packet's socket is the one in the
// flow's label. All other datagrams of token flows go to the verifier, with the socket's number and
// flags in the packet's priority.
#include "trireme/abi/abi.hpp"
#include "writer.hpp"

namespace trireme::datapath {

using kernel::NftBytes;
using kernel::NftRule;
using kernel::NftVerdict;

namespace {

struct Direction {
  std::uint8_t number;  // as in conntrack: 0 original, 1 reply
  std::uint32_t flag;   // in the priority, for the verifier
};
constexpr std::array<Direction, 2> kDirections = {{{0, 0}, {1, abi::kReplies}}};

NftRule of_flow(std::uint32_t bits) {
  NftRule rule = protocol(IPPROTO_UDP);
  flow_has(rule, bits);
  return rule;
}

NftRule& in_direction(NftRule& rule, const Direction& direction) {
  return rule.ct(NFT_CT_DIRECTION, 0).equal(0, NftBytes::u8(direction.number));
}

/// Matches if the socket's number is the one in the flow's label for this endpoint.
NftRule& is_its_own(NftRule& rule, const End& socket, bool is_source) {
  const std::uint32_t word = kWords + (is_source ? 1 : 2);
  // The first load changes nothing for the kernel. It is there for nft 1.0.6, which lists a
  // register in the middle of a label by what was loaded into it before.
  rule.meta(NFT_META_CPU, word).ct(NFT_CT_LABELS, kWords);
  socket.number(rule, word - 1);
  return rule.in(sets().selves.name, word - 1);
}

/// Matches a token flow that is authorized and, for outgoing packets, need not be renewed.
NftRule& is_settled(NftRule& rule, bool outgoing) {
  const std::uint32_t settled = abi::kToken | abi::kAuthorized;
  const std::uint32_t bits = outgoing ? settled | abi::kRenewal : settled;
  return rule.ct(NFT_CT_LABELS, 0)
      .mask(0, label_bytes(abi::FlowLabel::bits(bits)))
      .equal(0, label_bytes(abi::FlowLabel::bits(settled)));
}

/// Sends the datagrams of a token flow that write_settled() has not accepted to the verifier.
void write_flow(Writer& writer, const std::string& chain, const End& socket, bool outgoing) {
  for (const Direction& direction : kDirections) {
    const bool is_source = outgoing == (direction.number == 0);
    if (outgoing && is_source) {
      NftRule renewed;
      in_direction(flow_has(renewed, abi::kRenewal), direction);
      writer.rule(chain, std::move(ask_about(
                             is_its_own(flow_has(renewed, abi::kAuthorized), socket, is_source),
                             socket, abi::kRenew)));
    }
    NftRule unsettled;
    writer.rule(chain, std::move(ask_about(
                           is_its_own(in_direction(unsettled, direction), socket, is_source),
                           socket, direction.flag)));
    NftRule taken_over;
    writer.rule(chain, std::move(ask_about(in_direction(taken_over, direction), socket,
                                           direction.flag | abi::kTakenOver)));
  }
  writer.rule(chain, std::move(NftRule().drop()));
}

/// Messages of the peer's verifier. They are never delivered to an application.
void write_control(Writer& writer, const std::string& chain, const End& socket) {
  for (const Direction& direction : kDirections) {
    const bool is_source = direction.number == 1;
    NftRule own;
    in_direction(flow_has(own, abi::kToken), direction);
    writer.rule(chain,
                std::move(ask_about(is_its_own(own, socket, is_source), socket, direction.flag)));
    // The flow belongs to another socket, or was authorized by address: rules cannot clear a bit.
    NftRule other;
    in_direction(flow_has(other, abi::kToken | abi::kAuthorized), direction);
    writer.rule(chain, std::move(ask_about(other, socket, direction.flag | abi::kTakenOver)));
  }
  NftRule first;
  in_direction(first, kDirections[0]);
  writer.ask_for_datagrams(chain, std::move(first), socket, false, abi::kFresh);
  writer.rule(chain, std::move(NftRule().drop()));
}

/// The first datagram of a flow to a speaker's unicast address.
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
  if (!outgoing) {  // messages of the peer's verifier are not delivered to an application
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
  writer.rule(at("out_net_from", level),
              std::move(of_flow(abi::kToken).go_to(at("out_flow", level))));
  for (const std::uint8_t nfproto : {std::uint8_t{NFPROTO_IPV4}, std::uint8_t{NFPROTO_IPV6}}) {
    for (const bool translated : {false, true}) {
      writer.ask_for_datagrams(at("out_net_from", level), first_to_speaker(nfproto, translated),
                               socket, true, abi::kFresh | (translated ? abi::kDestinationNat : 0));
    }
  }
  write_flow(writer, at("out_flow", level), socket, true);
}

void write_datagrams_in(Writer& writer, std::uint32_t level) {
  const End socket = socket_end(level);
  NftRule control = protocol(IPPROTO_UDP);
  writer.rule(at("in_net_to", level),
              std::move(begins_with_magic(control).go_to(at("in_control", level))));
  writer.rule(at("in_net_to", level), std::move(of_flow(abi::kToken).go_to(at("in_flow", level))));
  write_control(writer, at("in_control", level), socket);
  write_flow(writer, at("in_flow", level), socket, false);
}

void write_datagrams_of_host(Writer& writer) {
  const auto ask_about_host = [](NftRule rule, std::uint32_t flags) {
    rule.immediate(0, NftBytes::u32(abi::kHost | flags))
        .set_meta(NFT_META_PRIORITY, 0)
        .go_to("ask");
    return rule;
  };
  // Flows that the verifier has ruled exempt (below) pass, except messages of the token protocol.
  NftRule control_of_exempt = of_flow(abi::kExempt);
  writer.rule("in_net_host", std::move(begins_with_magic(control_of_exempt).drop()));
  for (const char* chain : {"out_net_host", "in_net_host"}) {
    writer.rule(chain, std::move(of_flow(abi::kExempt).accept()));
  }
  // On INPUT only if there is a socket: otherwise the kernel answers that the port is closed.
  for (const Direction& direction : kDirections) {
    NftRule out = of_flow(abi::kToken);
    writer.rule("out_net_host", ask_about_host(std::move(in_direction(out, direction)),
                                               direction.flag | abi::kTakenOver));
    NftRule in = of_flow(abi::kToken);
    writer.rule("in_net_host", ask_about_host(std::move(in_direction(any_socket(in), direction)),
                                              direction.flag | abi::kTakenOver));
  }
  // An unlabeled process reuses the ports of a workload's proved flow that conntrack may have
  // forgotten and the remote host still knows: the verifier ends that flow at the remote host
  // first.
  for (const std::uint8_t nfproto : {std::uint8_t{NFPROTO_IPV4}, std::uint8_t{NFPROTO_IPV6}}) {
    NftRule forgotten = protocol(IPPROTO_UDP);
    in_direction(flow_lacks(forgotten, abi::kToken), kDirections[0]);
    ends_of(forgotten, nfproto)
        .in(clients(nfproto).name, 0)
        .immediate(kWords, label_bytes(abi::FlowLabel::bits(abi::kToken)))
        .set_ct(NFT_CT_LABELS, kWords);
    writer.rule("out_net_host",
                ask_about_host(std::move(forgotten), abi::kFresh | abi::kTakenOver));
  }
  // A reply in a flow whose destination NAT on OUTPUT has changed. INPUT runs before NAT restores
  // the source address, so rules do not find the connected socket and do not know its owner.
  NftRule turned = of_flow(abi::kToken);
  in_direction(turned, kDirections[1])
      .ct(NFT_CT_STATUS, 0)
      .mask(0, NftBytes::u32(IPS_DST_NAT))
      .not_equal(0, NftBytes::u32(0))
      .drop()
      .comment("reply to a connected socket: NAT on OUTPUT changed its destination");
  writer.rule("in_net_host", std::move(turned));
  NftRule control = protocol(IPPROTO_UDP);
  writer.rule("in_net_host", std::move(any_socket(begins_with_magic(control)).drop()));
}

void write_datagrams(Writer& writer) {
  // An ICMP error "administratively prohibited" for a datagram of an authorized flow means that the
  // remote host no longer knows the flow: mark it for renewal.
  struct Refusal {
    std::uint8_t protocol, type, code;
  };
  for (const Refusal& refusal : {Refusal{IPPROTO_ICMP, 3, 13}, Refusal{IPPROTO_ICMPV6, 1, 1}}) {
    const std::array<std::uint8_t, 2> words = {refusal.type, refusal.code};
    NftRule rule = protocol(refusal.protocol);
    rule.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, 0).equal(0, NftBytes().add_raw(words));
    rule.ct(NFT_CT_STATE, 0).mask(0, NftBytes::u32(kStateRelated)).not_equal(0, NftBytes::u32(0));
    rule.ct(NFT_CT_PROTOCOL, 0).equal(0, NftBytes::u8(IPPROTO_UDP));
    flow_has(flow_has(rule, abi::kToken), abi::kAuthorized)
        .immediate(kWords, label_bytes(abi::FlowLabel::bits(abi::kRenewal)))
        .set_ct(NFT_CT_LABELS, kWords);
    writer.rule("input", std::move(rule));
  }
  for (const Direction& direction : kDirections) {
    NftRule label;
    label.meta(NFT_META_PRIORITY, 0)
        .mask(0, NftBytes::u32(abi::kNumberMask))
        .not_equal(0, NftBytes::u32(0));
    in_direction(label, direction);
    label_by_priority(label, direction.number == 0, abi::kToken);
    writer.rule("output_control", std::move(label));
  }
  NftRule go;
  writer.rule("output_control",
              std::move(go.immediate(0, NftBytes::u32(0)).set_meta(NFT_META_PRIORITY, 0).accept()));

  NftRule let;
  writer.rule("ruled_in_let", std::move(let.immediate(0, NftBytes::u32(0))
                                            .set_meta(NFT_META_PRIORITY, 0)
                                            .go_to(at("in_again", abi::kMaxLevel))));
  for (std::uint32_t level = writer.last_level(); level <= abi::kMaxLevel; level++) {
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
  for (std::uint32_t level = layout.owned ? 0 : 1; level <= abi::kMaxLevel; level++) {
    for (const char* name : {"out_settled", "in_settled", "out_flow", "in_flow", "in_control",
                             "in_again", "in_again_to"}) {
      batch.add_chain(at(name, level));
    }
  }
}

}  // namespace trireme::datapath
