// SPDX-License-Identifier: Apache-2.0
#include "writer.hpp"

#include "trireme/abi/abi.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::datapath {

using kernel::NftBytes;
using kernel::NftRule;

std::string at(const std::string& chain, std::uint32_t level) {
  return chain + "_" + std::to_string(level);
}

void Writer::first_rules(const std::string& chain) {
  NftRule authorized = within_connection();
  rule(chain, std::move(flow_has(authorized, abi::kAuthorized | abi::kExempt).accept()));
  rule(chain, std::move(protocol(IPPROTO_UDP).go_to(chain + "_datagram")));
}

void Writer::without_lookup(const std::string& chain) {
  if (chain == "input") {
    NftRule says_why = protocol(IPPROTO_TCP);  // REFUSAL, which the verifier removes from the reset
    flow_has(tcp_flags(says_why, kRst).not_equal(0, NftBytes::u8(0)), abi::kToken)
        .payload(NFT_PAYLOAD_INNER_HEADER, 0, abi::kMagic.size(), 0)
        .equal(0, NftBytes().add_raw(abi::kMagic))
        .go_to("ask");
    rule(chain, std::move(says_why));
  }
  // A reset carries no data, and informs a refused client at once.
  NftRule reset = protocol(IPPROTO_TCP);
  tcp_flags(reset, kRst).not_equal(0, NftBytes::u8(0)).accept();
  rule(chain, std::move(reset));
  NftRule near = segment();  // a SYN-ACK: its connection was authorized with the request
  rule(chain, std::move(flow_has(flow_has(near, abi::kNear), abi::kAuthorized).accept()));
  NftRule token = segment();
  rule(chain, std::move(flow_has(token, abi::kToken).go_to(chain + "_token")));
  // A SYN-ACK of a flow without tokens. (All SYN-ACKs of token flows carry a token.)
  NftRule answer = segment();
  rule(chain, std::move(flow_has(answer, abi::kAuthorized | abi::kExempt).accept()));
  NftRule related;
  related.ct(NFT_CT_STATE, 0)
      .mask(0, NftBytes::u32(kStateRelated))
      .not_equal(0, NftBytes::u32(0))
      .jump("related");
  rule(chain, std::move(related));
  if (layout_.owned) {
    // The kernel's own traffic in the namespace is not subject to policy: neighbor and router
    // discovery, group membership.
    NftRule neighbors = protocol(IPPROTO_ICMPV6);
    neighbors.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, 0).in(sets().neighbors.name, 0).accept();
    rule(chain, std::move(neighbors));
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
  flow_has(reply_direction(other), abi::kAuthorized).jump(to);
  rule(chain, std::move(other));
}

namespace {

/// Refusals of an owner that are logged, at most: 100 of the 4,096 that `refused` holds in 5 s.
constexpr Share kRefusedShare = {.per_second = 10, .burst = 50};

void load_number(NftRule& rule, const End& end, std::uint32_t reg) {
  if (end.numbered()) {
    end.number(rule, reg);
  } else {
    rule.immediate(reg, NftBytes::u32(end.kind == End::Kind::host ? abi::kHost : abi::kNoNumber));
  }
}

/// Logs each kind once while its element in `refused` lives, within the share of its owner.
void log_refusal(NftRule& log, const End& source, const End& destination, bool has_ports) {
  constexpr std::uint32_t key = 9;
  load_number(log, destination, key + 1);
  load_number(log, source, key);
  log.meta(NFT_META_L4PROTO, key + 2);
  if (has_ports) {
    log.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, key + 3);
  } else {
    log.immediate(key + 3, NftBytes::u32(0));
  }
  log.not_in(sets().refused.name, key);
  within_share(log, sets().refused_shares, key, source.numbered(), kRefusedShare)
      .add_to(sets().refused.name, key)
      .log(abi::kLogGroup, "deny")
      .comment("logged once in 5 s: number of " + source.text() + ", number of " +
               destination.text());
}

}  // namespace

void Writer::refusals(const std::string& chain, const End& source, const End& destination) {
  // In audit mode, handle a refusal as an audited deny, so that each flow is logged with the
  // decision that enforcing would make. Replies are logged with their flow. Never if an endpoint is
  // quarantined.
  const auto audited = [&](std::uint8_t direction) {
    NftRule rule;
    rule.meta(NFT_META_NFPROTO, 0)
        .in(sets().auditing.name, 0)
        .ct(NFT_CT_DIRECTION, 0)
        .equal(0, NftBytes::u8(direction));
    for (const End& end : {source, destination}) {
      if (end.numbered()) {
        end.number(rule, kNumberRegister);
        rule.not_equal(kNumberRegister, NftBytes::u32(abi::kQuarantine));
      }
    }
    return rule;
  };
  NftRule request = audited(0);
  write_labels(request, source, destination);
  rule(chain, std::move(flow_has(request, abi::kAuthorized)
                            .go_to("allow_audit")
                            .comment("audit: number of " + source.text() + ", number of " +
                                     destination.text())));
  // If a flow lost its bits or is older than its workload, a reply may come first: log it as the
  // flow that it belongs to.
  NftRule first = audited(1);
  write_labels(flow_lacks(first, abi::kAuthorized), destination, source);
  rule(chain, std::move(flow_has(first, abi::kAuthorized)
                            .go_to("allow_audit")
                            .comment("audit: reply seen first: " + source.text() + " to " +
                                     destination.text())));
  rule(chain, std::move(audited(1).go_to("refuse").comment("audit: replies")));
  // While sets are exchanged, a failed lookup does not mean that there is no element: see
  // Enforcer::begin_exchange().
  rule(chain, std::move(NftRule()
                            .meta(NFT_META_NFPROTO, 0)
                            .not_in(sets().steady.name, 0)
                            .drop()
                            .comment("sets are being exchanged: TCP retransmits")));
  for (const std::uint8_t number : kReported) {
    NftRule log = reported(number);
    log_refusal(log, source, destination, number != 0);
    rule(chain, std::move(log));
  }
  for (const End& end : {source, destination}) {
    if (end.numbered()) {
      NftRule quarantined;
      end.number(quarantined, kNumberRegister);
      quarantined.equal(kNumberRegister, NftBytes::u32(abi::kQuarantine))
          .drop()
          .comment("quarantined: " + end.text());
      rule(chain, std::move(quarantined));
    }
  }
  rule(chain, std::move(NftRule().go_to("refuse")));
}

void Writer::sample(const std::string& chain) {
  NftRule flow;
  rule(chain, std::move(flow_has(flow_lacks(flow, abi::kLogged), abi::kAuthorized).jump("sample")));
}

void Writer::exempt(const std::string& chain) {
  if (chain == "in_net_host" && layout_.queues > 0) {
    // Rules see no cgroup for a workload's half-open request. Segments on the flow of its SYN
    // complete it. A segment that is invalid, or whose flow has no verdict, could complete it as
    // well and goes to the verifier.
    NftRule unknown = within_connection();
    rule(chain, std::move(flow_lacks(unknown, abi::kAuthorized | abi::kExempt | abi::kToken)
                              .jump("in_net_again")));
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
                                       .immediate(0, NftBytes::u32(abi::kHost | abi::kStray))
                                       .set_meta(NFT_META_PRIORITY, 0)
                                       .go_to("ask")));
  }
  if (chain == "out_net_host") {
    // A non-workload process reuses the ports of a pending workload handshake: ask the verifier,
    // which releases the flow.
    NftRule again = connection_request();
    flow_has(again, abi::kToken)
        .immediate(0, NftBytes::u32(abi::kHost))
        .set_meta(NFT_META_PRIORITY, 0)
        .go_to("ask");
    rule(chain, std::move(again));
  }
  NftRule remember = connection_request();
  full_socket(flow_lacks(remember, abi::kAuthorized | abi::kExempt))
      .immediate(8, label_bytes(abi::FlowLabel::bits(abi::kExempt)))
      .set_ct(NFT_CT_LABELS, 8);
  rule(chain, std::move(remember));
  rule(chain, std::move(NftRule().accept()));
}

}  // namespace trireme::datapath
