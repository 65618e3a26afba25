// SPDX-License-Identifier: Apache-2.0
#include <linux/if_packet.h>

#include "trireme/wire/token.hpp"
#include "writer.hpp"

namespace trireme::datapath {

using kernel::NftBytes;
using kernel::NftRule;
using kernel::NftVerdict;

namespace {

/// A TCP connection request whose data begin with a token's magic.
NftRule request_with_token() {
  NftRule rule = connection_request();
  rule.payload(NFT_PAYLOAD_INNER_HEADER, 0, abi::kMagic.size(), 0)
      .equal(0, NftBytes().add_raw(abi::kMagic));
  return rule;
}

void write_input_to_workload(Writer& writer, std::uint32_t level) {
  const End destination = socket_end(level);
  const std::string local = at("in_lo_to", level);
  const std::string remote = at("in_net_to", level);
  const std::string remote_reply = at("in_net_reply", level);

  write_datagrams_in(writer, level);
  writer.replies(remote, remote_reply);
  // A request with a token on a flow that already has a verdict goes to the verifier: rules cannot
  // clear the bit, which would let the new connection pass without PROOF.
  NftRule decided = request_with_token();
  writer.ask_again(remote, std::move(flow_has(decided, abi::kAuthorized | abi::kExempt)),
                   destination);
  writer.ask(remote, request_with_token(), destination, false, false);
  writer.twice([&](std::uint8_t nfproto, bool named) {
    if (nfproto == NFPROTO_IPV4 && named) {  // once per repetition: independent of address
      NftRule same = same_group(priority_end(), destination);
      write_labels(same, priority_end(), destination);
      writer.rule(local, std::move(same.go_to("allow")));
      writer.rule(local, forward(NftRule(), priority_end(), destination));
      writer.rule(local, perhaps_backward(protocol(IPPROTO_UDP), priority_end(), destination));
    }
    const auto from_host = [nfproto](NftRule rule) {
      rule.meta(NFT_META_NFPROTO, 0).equal(0, NftBytes::u8(nfproto));
      sent_by(rule, abi::kHost);
      return rule;
    };
    const End host = host_end(nfproto, true, named);
    writer.rule(local, forward(from_host(NftRule()), host, destination));
    writer.rule(local, perhaps_backward(from_host(protocol(IPPROTO_UDP)), host, destination));
    writer.rule(remote, forward(of_family(nfproto), world_end(nfproto, true, named), destination));
    // Conntrack may have forgotten the connection and taken a reply for its first packet. The
    // verifier checks that the connection exists, because the segment could otherwise complete a
    // half-open request.
    writer.rule(remote, stray_backward(within_connection_of(nfproto),
                                       world_end(nfproto, true, named), destination));
    writer.rule(remote_reply,
                backward(of_family(nfproto), world_end(nfproto, true, named), destination));
  });
  writer.refusals(local, priority_end(), destination);
  writer.ask_about_strays(remote, destination, false);
  writer.refusals(remote, world_end(NFPROTO_IPV4, true), destination);
}

/// Packets on lo to a socket of an unlabeled process, or to no socket.
void write_input_to_host(Writer& writer) {
  // Packets without a stamp, and those of @host, pass.
  NftRule unstamped;
  unstamped.meta(NFT_META_PRIORITY, 0)
      .mask(0, NftBytes::u32(~abi::kNumberMask))
      .not_equal(0, NftBytes::u32(abi::kStamp));
  writer.rule("in_lo_host", std::move(unstamped.accept()));
  NftRule plain;
  writer.rule("in_lo_host", std::move(sent_by(plain, abi::kHost).accept()));
  if (writer.layout().owned) {
    // Docker's resolver in a container's network namespace; the gate has the same exception.
    const std::array<std::uint8_t, 4> address = {127, 0, 0, 11};
    NftRule resolver = of_family(NFPROTO_IPV4);
    resolver.payload(NFT_PAYLOAD_NETWORK_HEADER, 16, 4, 0).equal(0, NftBytes().add_raw(address));
    writer.rule("in_lo_host", std::move(resolver.accept()));
  }
  // A TIME_WAIT socket or a half-open request has no cgroup. TCP passes the segment to the
  // listener, where the gate judges it.
  writer.rule("in_lo_host", std::move(connection_request().jump("in_lo_again")));
  NftRule found;
  writer.rule("in_lo_again", std::move(full_socket(found).verdict({NftVerdict::Code::ret, {}})));
  NftRule half_open;
  writer.rule("in_lo_again", std::move(any_socket(half_open).accept()));
  NftRule quarantined;
  sent_by(quarantined, abi::kQuarantine);
  writer.rule("in_lo_host", std::move(quarantined.go_to("in_lo_to_host")));
  NftRule with_socket;
  writer.rule("in_lo_host", std::move(any_socket(with_socket).go_to("in_lo_to_host")));
  for (const std::uint8_t number : {std::uint8_t{IPPROTO_TCP}, std::uint8_t{IPPROTO_UDP}}) {
    // No socket listens: the kernel answers.
    writer.rule("in_lo_host", std::move(protocol(number).accept()));
  }
  writer.rule("in_lo_host", std::move(NftRule().go_to("in_lo_to_host")));

  writer.twice([&](std::uint8_t nfproto, bool named) {
    const End host = host_end(nfproto, false, named);
    writer.rule("in_lo_to_host", forward(of_family(nfproto), priority_end(), host));
    NftRule datagram = of_family(nfproto);
    datagram.meta(NFT_META_L4PROTO, 0).equal(0, NftBytes::u8(IPPROTO_UDP));
    writer.rule("in_lo_to_host", perhaps_backward(std::move(datagram), priority_end(), host));
  });
  writer.refusals("in_lo_to_host", priority_end(), host_end(NFPROTO_IPV4, false));
}

/// Packets that the kernel may deliver to many sockets, of which rules find only one.
std::array<NftRule, 3> to_many() {
  NftRule by_link;
  by_link.meta(NFT_META_PKTTYPE, 0).not_equal(0, NftBytes::u8(PACKET_HOST));
  NftRule by_address4 = of_family(NFPROTO_IPV4);  // 224.0.0.0/4 and 255.255.255.255
  by_address4.payload(NFT_PAYLOAD_NETWORK_HEADER, 16, 1, 0)
      .mask(0, NftBytes::u8(0xe0))
      .equal(0, NftBytes::u8(0xe0));
  NftRule by_address6 = of_family(NFPROTO_IPV6);  // ff00::/8
  by_address6.payload(NFT_PAYLOAD_NETWORK_HEADER, 24, 1, 0).equal(0, NftBytes::u8(0xff));
  return {std::move(by_link), std::move(by_address4), std::move(by_address6)};
}

/// The gate judges such packets at each socket. It takes the sockets of a container without a
/// cgroup of its own for @host's, so rules refuse these packets to the owner of a namespace, as the
/// gate does to other workloads.
void write_input_of_multicast(Writer& writer, const char* chain) {
  for (NftRule& many : to_many()) {
    if (writer.layout().owned) {
      writer.rule(chain, std::move(many.go_to("in_many")));
    } else {
      writer.rule(chain, std::move(many.accept()));
    }
  }
}

/// Refuses datagrams from other devices to the owner of the namespace; the gate judges all others.
void write_input_to_owner(Writer& writer) {
  if (!writer.layout().owned) {
    return;
  }
  writer.rule("in_many", std::move(on_lo().accept()));
  for (const std::uint8_t number : {std::uint8_t{IPPROTO_UDP}, std::uint8_t{IPPROTO_UDPLITE}}) {
    NftRule datagram = protocol(number);
    socket_end(0).number(datagram, kNumberRegister);
    writer.rule(
        "in_many",
        std::move(datagram.not_equal(kNumberRegister, NftBytes::u32(0)).go_to("in_many_to_owner")));
  }
  writer.rule("in_many", std::move(NftRule().accept()));
  writer.refusals("in_many_to_owner", world_end(NFPROTO_IPV4, true), socket_end(0));
}

/// Accepts what only the gate judges: on lo, segments of connections and datagrams of flows that
/// have had a reply. Rules check what begins a flow, to make a refusal visible.
void write_input_under_way(Writer& writer) {
  NftRule under_way = on_lo();
  under_way.meta(NFT_META_L4PROTO, 0).equal(0, NftBytes::u8(IPPROTO_TCP));
  writer.rule(
      "input",
      std::move(tcp_flags(under_way, kSyn | kAck).not_equal(0, NftBytes::u8(kSyn)).accept()));
  NftRule answered = on_lo();
  answered.meta(NFT_META_L4PROTO, 0).equal(0, NftBytes::u8(IPPROTO_UDP));
  writer.rule("input", std::move(answered.ct(NFT_CT_STATE, 0)
                                     .mask(0, NftBytes::u32(kStateEstablished))
                                     .not_equal(0, NftBytes::u32(0))
                                     .accept()));
}

}  // namespace

void write_input(Writer& writer) {
  write_input_under_way(writer);
  writer.first_rules("input");
  write_datagrams(writer);
  writer.without_lookup("input");
  for (const char* chain : {"input", "input_datagram"}) {
    write_input_of_multicast(writer, chain);
    NftRule loopback;
    loopback.meta(NFT_META_IIF, 0).equal(0, NftBytes::u32(kLoopback));
    writer.rule(chain,
                std::move(loopback.meta(NFT_META_NFPROTO, 0).vmap(sets().enter_in_lo.name, 0)));
    writer.rule(chain,
                std::move(NftRule().meta(NFT_META_NFPROTO, 0).vmap(sets().enter_in_net.name, 0)));
  }
  for (std::uint32_t level = writer.last_level(); level <= abi::kMaxLevel; level++) {
    if (level == 0) {  // in no workload's cgroup: the gate treats the socket as @host's
      writer.rule(at("in_lo", level), std::move(NftRule().go_to("in_lo_host")));
    } else {
      writer.dispatch("in_lo", level, "in_lo_to", "in_lo_host");
    }
    write_settled(writer, at("in_net", level), level, false);
    writer.dispatch("in_net", level, "in_net_to", "in_net_host");
    write_input_to_workload(writer, level);
  }
  write_input_to_host(writer);
  write_input_to_owner(writer);
  write_datagrams_of_host(writer);
  writer.exempt("out_net_host");
  writer.exempt("in_net_host");
}

}  // namespace trireme::datapath
