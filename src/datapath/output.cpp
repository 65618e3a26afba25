// SPDX-License-Identifier: Apache-2.0
#include "trireme/abi/abi.hpp"
#include "writer.hpp"

namespace trireme::datapath {

using kernel::NftBytes;
using kernel::NftRule;

void write_prerouting(Writer& writer) {
  // A frame that AF_PACKET injected on lo can have any priority, even a forged stamp. Unlike
  // packets of sockets it has no route, so clear the priority of packets without a route. (A packet
  // with a route matches one of the two values of "rt ipsec".)
  NftRule elsewhere;
  writer.rule(
      "prerouting_lo",
      std::move(elsewhere.meta(NFT_META_IIF, 0).not_equal(0, NftBytes::u32(kLoopback)).accept()));
  for (const std::uint8_t is_ipsec : {std::uint8_t{0}, std::uint8_t{1}}) {
    NftRule routed;
    writer.rule("prerouting_lo",
                std::move(routed.route_is_ipsec(0).equal(0, NftBytes::u8(is_ipsec)).accept()));
  }
  writer.rule("prerouting_lo",
              std::move(NftRule().immediate(0, NftBytes::u32(0)).set_meta(NFT_META_PRIORITY, 0)));

  NftRule local;  // the gate judges it at the listener
  writer.rule("prerouting",
              std::move(local.meta(NFT_META_IIF, 0).equal(0, NftBytes::u32(kLoopback)).accept()));
  NftRule other;
  writer.rule(
      "prerouting",
      std::move(other.meta(NFT_META_L4PROTO, 0).not_equal(0, NftBytes::u8(IPPROTO_TCP)).accept()));
  const auto bare_request = [] {
    NftRule rule = protocol(IPPROTO_TCP);
    tcp_flags(rule, kFin | kSyn | kRst | kAck).equal(0, NftBytes::u8(kSyn));
    return rule;
  };
  NftRule found = bare_request();
  full_socket(found).accept();
  writer.rule("prerouting", std::move(found));
  // If a request meets a TIME_WAIT socket and there is a listener, tproxy's lookup ends the
  // TIME_WAIT socket, so that INPUT finds the listener and judges by it. The lookup uses the
  // packet's own address and port, so tproxy never assigns a listener (IP_TRANSPARENT) that the
  // packet would not have reached anyway.
  NftRule reopen4 = bare_request();
  any_socket(reopen4).meta(NFT_META_NFPROTO, 0).equal(0, NftBytes::u8(NFPROTO_IPV4));
  reopen4.payload(NFT_PAYLOAD_NETWORK_HEADER, 16, 4, 0)
      .payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 1);
  writer.rule("prerouting", std::move(reopen4.tproxy(NFPROTO_IPV4, 0, 1)));
  NftRule reopen6 = bare_request();
  any_socket(reopen6).meta(NFT_META_NFPROTO, 0).equal(0, NftBytes::u8(NFPROTO_IPV6));
  reopen6.payload(NFT_PAYLOAD_NETWORK_HEADER, 24, 16, 0)
      .payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 4);
  writer.rule("prerouting", std::move(reopen6.tproxy(NFPROTO_IPV6, 0, 4)));
}

namespace {

/// A TCP connection request to a speaker. `translated`: NAT changed the destination, which the
/// verifier must know to answer in the name of the original one.
NftRule request_to_speaker(std::uint8_t nfproto, bool translated) {
  NftRule rule = connection_request();
  rule.ct(NFT_CT_STATUS, 0).mask(0, NftBytes::u32(IPS_DST_NAT));
  if (translated) {
    rule.not_equal(0, NftBytes::u32(0));
  } else {
    rule.equal(0, NftBytes::u32(0));
  }
  rule.meta(NFT_META_NFPROTO, 0).equal(0, NftBytes::u8(nfproto));
  const bool v4 = nfproto == NFPROTO_IPV4;
  rule.payload(NFT_PAYLOAD_NETWORK_HEADER, v4 ? 16 : 24, v4 ? 4 : 16, 0)
      .in(v4 ? sets().speakers4.name : sets().speakers6.name, 0);
  return rule;
}

}  // namespace

void write_output(Writer& writer) {
  // Packets to this host: the gate stamps them after the last hook, and INPUT judges them.
  NftRule local;
  local.meta(NFT_META_OIF, 0)
      .equal(0, NftBytes::u32(kLoopback))
      .ct(NFT_CT_STATUS, 0)
      .mask(0, NftBytes::u32(IPS_NAT_MASK))
      .equal(0, NftBytes::u32(0));
  writer.rule("output", std::move(local.accept()));
  writer.first_rules("output");
  writer.without_lookup("output");
  NftRule ours = of_priority(abi::kControlPriority);
  writer.rule("output_datagram", std::move(begins_with_magic(ours).go_to("output_control")));
  for (const char* chain : {"output", "output_datagram"}) {
    // NAT on OUTPUT reroutes a packet, but `meta oif` still names the old interface, in either
    // direction between lo and other devices. Such packets need a lookup of their destination.
    NftRule changed;
    changed.ct(NFT_CT_STATUS, 0)
        .mask(0, NftBytes::u32(IPS_NAT_MASK))
        .not_equal(0, NftBytes::u32(0))
        .go_to("output_nat");
    writer.rule(chain, std::move(changed));
    // Packets on lo without a conntrack entry: `ct status` in the first rule of `output` does not
    // match them.
    NftRule untracked;
    writer.rule(
        chain,
        std::move(untracked.meta(NFT_META_OIF, 0).equal(0, NftBytes::u32(kLoopback)).accept()));
    writer.rule(chain, std::move(NftRule().go_to("output_net")));
  }
  NftRule to_us;
  writer.rule("output_nat",
              std::move(to_us.fib_destination_type(0).equal(0, NftBytes::u32(RTN_LOCAL)).accept()));
  writer.rule("output_nat", std::move(NftRule().go_to("output_net")));
  writer.rule("output_net",
              std::move(NftRule().meta(NFT_META_NFPROTO, 0).vmap(sets().enter_out_net.name, 0)));
  for (std::uint32_t level = writer.last_level(); level <= abi::kMaxLevel; level++) {
    write_settled(writer, at("out_net", level), level, true);
    writer.dispatch("out_net", level, "out_net_from", "out_net_host");
    const std::string chain = at("out_net_from", level);
    const End source = socket_end(level);
    write_datagrams_out(writer, level);
    writer.replies(chain, at("out_net_reply", level));
    for (const std::uint8_t nfproto : {std::uint8_t{NFPROTO_IPV4}, std::uint8_t{NFPROTO_IPV6}}) {
      for (const bool translated : {false, true}) {
        writer.ask(chain, request_to_speaker(nfproto, translated), source, true, translated);
      }
    }
    writer.twice([&](std::uint8_t nfproto, bool named) {
      writer.rule(at("out_net_reply", level),
                  backward(of_family(nfproto), source, world_end(nfproto, false, named)));
      writer.rule(chain, forward(of_family(nfproto), source, world_end(nfproto, false, named)));
      // Conntrack may have forgotten the connection and taken a reply for its first packet.
      writer.rule(chain, perhaps_backward(within_connection_of(nfproto), source,
                                          world_end(nfproto, false, named)));
    });
    writer.ask_about_strays(chain, source, true);
    writer.refusals(chain, source, world_end(NFPROTO_IPV4, false));
  }
}

}  // namespace trireme::datapath
