// SPDX-License-Identifier: Apache-2.0
#include "ruleset_writer.hpp"

#include "trireme/handshake/codes.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::enforcer {

using kernel::NftBytes;
using kernel::NftRule;

std::string at(const std::string& chain, std::uint32_t level) {
  return chain + "_" + std::to_string(level);
}

void Writer::most(const std::string& chain) {
  NftRule authorised = within_connection();
  rule(chain, std::move(flow_has(authorised, kAuthorised | kExempt).accept()));
  rule(chain, std::move(protocol(IPPROTO_UDP).go_to(chain + "_datagram")));
}

void Writer::riders(const std::string& chain) {
  if (chain == "input") {
    NftRule says_why = protocol(IPPROTO_TCP);  // REFUSAL, which the verifier takes off the reset
    flow_has(tcp_flags(says_why, kRst).not_equal(0, NftBytes::u8(0)), kToken)
        .payload(NFT_PAYLOAD_INNER_HEADER, 0, wire::kMagic.size(), 0)
        .equal(0, NftBytes().add_raw(wire::kMagic))
        .go_to("ask");
    rule(chain, std::move(says_why));
  }
  NftRule reset = protocol(IPPROTO_TCP);  // carries no data, and tells a refused client at once
  tcp_flags(reset, kRst).not_equal(0, NftBytes::u8(0)).accept();
  rule(chain, std::move(reset));
  NftRule near = segment();  // a SYN-ACK: its connection was authorised with the request
  rule(chain, std::move(flow_has(flow_has(near, kNear), kAuthorised).accept()));
  NftRule token = segment();
  rule(chain, std::move(flow_has(token, kToken).go_to(chain + "_token")));
  NftRule answer =
      segment();  // a SYN-ACK: those of token flows, authorised ones too, carry a token
  rule(chain, std::move(flow_has(answer, kAuthorised | kExempt).accept()));
  NftRule related;
  related.ct(NFT_CT_STATE, 0)
      .mask(0, NftBytes::u32(kStateRelated))
      .not_equal(0, NftBytes::u32(0))
      .jump("related");
  rule(chain, std::move(related));
  if (layout_.owned) {
    // The kernel's own words on behalf of the namespace, which no policy is about: neighbours,
    // routers, group membership.
    NftRule neighbours = protocol(IPPROTO_ICMPV6);
    neighbours.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, 0)
        .in(sets().neighbours.name, 0)
        .accept();
    rule(chain, std::move(neighbours));
    rule(chain, std::move(protocol(IPPROTO_IGMP).accept()));
  }
}

void Writer::dispatch(const std::string& chain, std::uint32_t level, const std::string& handler,
                      const std::string& none) {
  NftRule enrolled;
  socket_end(level).number(enrolled, kNumberRegister);
  enrolled.not_equal(kNumberRegister, NftBytes::u32(0))
      .go_to(at(handler, level))
      .comment(level == 0 ? "the namespace has an owner"
                          : "the socket's cgroup is enrolled at level " + std::to_string(level));
  rule(at(chain, level), std::move(enrolled));
  rule(at(chain, level),
       std::move(NftRule().go_to(level > last_level() ? at(chain, level - 1) : none)));
}

void Writer::replies(const std::string& chain, const std::string& to) {
  NftRule tcp = segment();
  reply_direction(tcp).jump(to);
  rule(chain, std::move(tcp));
  NftRule other;
  other.meta(NFT_META_L4PROTO, 0).not_equal(0, NftBytes::u8(IPPROTO_TCP));
  flow_has(reply_direction(other), kAuthorised).jump(to);
  rule(chain, std::move(other));
}

void Writer::refusals(const std::string& chain, const End& source, const End& destination) {
  // Audit mode: as an audited deny, so that each flow is told, and by what would have decided; its
  // answers are told with it. Never where an end is quarantined.
  const auto audited = [&](std::uint8_t direction) {
    NftRule rule;
    rule.meta(NFT_META_NFPROTO, 0)
        .in(sets().auditing.name, 0)
        .ct(NFT_CT_DIRECTION, 0)
        .equal(0, NftBytes::u8(direction));
    for (const End& end : {source, destination}) {
      if (end.numbered()) {
        end.number(rule, kNumberRegister);
        rule.not_equal(kNumberRegister, NftBytes::u32(kQuarantine));
      }
    }
    return rule;
  };
  NftRule told = audited(0);
  write_labels(told, source, destination);
  rule(chain, std::move(flow_has(told, kAuthorised)
                            .go_to("allow_audit")
                            .comment("audit: number of " + source.text() + ", number of " +
                                     destination.text())));
  // Of a flow that lost its bits, or that is older than its workload, an answer may come first: it
  // is told as the flow that it answers.
  NftRule first = audited(1);
  write_labels(flow_lacks(first, kAuthorised), destination, source);
  rule(chain, std::move(flow_has(first, kAuthorised)
                            .go_to("allow_audit")
                            .comment("audit: first an answer of " + source.text() + " to " +
                                     destination.text())));
  rule(chain, std::move(audited(1).go_to("refuse").comment("audit: answers")));
  // While sets are exchanged what is not found may be there all the same: see
  // Enforcer::begin_exchange().
  rule(chain, std::move(NftRule()
                            .meta(NFT_META_NFPROTO, 0)
                            .not_in(sets().steady.name, 0)
                            .drop()
                            .comment("sets are being exchanged: TCP repeats it")));
  NftRule log;
  const auto load = [&log](const End& end, std::uint32_t reg) {
    if (end.numbered()) {
      end.number(log, reg);
    } else {
      log.immediate(reg, NftBytes::u32(end.kind == End::Kind::local ? kHost : kNoNumber));
    }
  };
  constexpr std::uint32_t key = 9;
  load(destination, key + 1);
  load(source, key);
  log.meta(NFT_META_L4PROTO, key + 2).payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, key + 3);
  log.not_in(sets().refused.name, key).add_to(sets().refused.name, key).log(kLogGroup, "deny");
  log.comment("once in a while: number of " + source.text() + ", number of " + destination.text());
  rule(chain, std::move(log));
  for (const End& end : {source, destination}) {
    if (end.numbered()) {
      NftRule quarantined;
      end.number(quarantined, kNumberRegister);
      quarantined.equal(kNumberRegister, NftBytes::u32(kQuarantine))
          .drop()
          .comment("quarantined: " + end.text());
      rule(chain, std::move(quarantined));
    }
  }
  rule(chain, std::move(NftRule().go_to("refuse")));
}

void Writer::exempt(const std::string& chain) {
  if (chain == "in_net_host" && layout_.queues > 0) {
    // Of a workload's half-open request rules see no cgroup. It is completed on the flow of its
    // SYN; what conntrack knows otherwise is looked at.
    NftRule unknown = within_connection();
    rule(chain,
         std::move(flow_lacks(unknown, kAuthorised | kExempt | kToken).jump("in_net_again")));
    NftRule invalid = within_connection();
    rule(chain, std::move(invalid.ct(NFT_CT_STATE, 0)
                              .mask(0, NftBytes::u32(kStateInvalid))
                              .not_equal(0, NftBytes::u32(0))
                              .jump("in_net_again")));
    NftRule found;
    rule("in_net_again",
         std::move(full_socket(found).verdict({kernel::NftVerdict::Code::ret, {}})));
    NftRule half_open;
    rule("in_net_again", std::move(any_socket(half_open)
                                       .immediate(0, NftBytes::u32(kHost | handshake::kFresh))
                                       .set_meta(NFT_META_PRIORITY, 0)
                                       .go_to("ask")));
  }
  if (chain == "out_net_host") {
    // The ports of a workload's handshake, used again by a process that is none: the verifier lets
    // its packets be.
    NftRule again = connection_request();
    flow_has(again, kToken)
        .immediate(0, NftBytes::u32(kHost))
        .set_meta(NFT_META_PRIORITY, 0)
        .go_to("ask");
    rule(chain, std::move(again));
  }
  NftRule remember = connection_request();
  full_socket(flow_lacks(remember, kAuthorised | kExempt))
      .immediate(8, FlowLabel::bits(kExempt).nft())
      .set_ct(NFT_CT_LABELS, 8);
  rule(chain, std::move(remember));
  rule(chain, std::move(NftRule().accept()));
}

}  // namespace trireme::enforcer
