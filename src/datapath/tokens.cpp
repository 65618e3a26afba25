// SPDX-License-Identifier: Apache-2.0
// Rules that send packets to the verifier and apply its rulings: docs/datapath.md, "Tokens".
#include "trireme/abi/abi.hpp"
#include "writer.hpp"

namespace trireme::datapath {

using abi::Ruling;
using kernel::NftBytes;
using kernel::NftRule;
using kernel::NftVerdict;

namespace {

constexpr const char* kIn = "ruled_in";
constexpr const char* kOut = "ruled_out";

std::string queue_chain(std::size_t queue) {
  return "ask_" + std::to_string(queue);
}

/// Segments of token flows that are not authorized, and every SYN-ACK of token flows.
void write_unauthorized(Writer& writer) {
  NftRule ours;  // PROOF, sent by the verifier. Who else could send it: docs/threat-model.md
  ours.meta(NFT_META_PRIORITY, 0)
      .equal(0, NftBytes::u32(abi::kProofPriority))
      .tcp_option(abi::kProofKind)
      .accept();
  writer.rule("output_token", std::move(ours));
  // Clear the priority: the verifier must not read a value that the sender has set.
  const auto to_verifier = [](NftRule& rule) -> NftRule&& {
    return std::move(
        rule.immediate(0, NftBytes::u32(0)).set_meta(NFT_META_PRIORITY, 0).go_to("ask"));
  };
  NftRule leaves;
  writer.rule("output_token", to_verifier(leaves));

  NftRule answer = protocol(IPPROTO_TCP);
  tcp_flags(answer, kSyn).not_equal(0, NftBytes::u8(0));
  writer.rule("input_token", to_verifier(answer));
  NftRule proof;
  proof.tcp_option(abi::kProofKind);
  writer.rule("input_token", to_verifier(proof));
  NftRule data;  // at least one byte: without it the load ends the rule
  data.payload(NFT_PAYLOAD_INNER_HEADER, 0, 1, 0).at_most(0, NftBytes::u8(0xff));
  writer.rule("input_token", to_verifier(data));
  // A server that still has an older connection with these ports answers a SYN with an
  // acknowledgement (RFC 9293, section 3.5.1): let it pass, so that the client can reset it.
  NftRule unexpected = protocol(IPPROTO_TCP);
  tcp_flags(unexpected, kFin | kAck).equal(0, NftBytes::u8(kAck));
  writer.rule("input_token", std::move(reply_direction(unexpected).accept()));
  writer.rule("input_token",
              std::move(NftRule().drop().comment("an acknowledgement that arrives before PROOF")));
}

void write_queues(Writer& writer) {
  NftRule unchanged;
  unchanged.meta(NFT_META_PRIORITY, 0)
      .mask(0, NftBytes::u32(~abi::kAnyNat))
      .set_meta(NFT_META_PRIORITY, 0);
  writer.rule("ask", std::move(unchanged));
  NftRule changed;
  changed.ct(NFT_CT_STATUS, 0)
      .mask(0, NftBytes::u32(IPS_SRC_NAT | IPS_DST_NAT))
      .not_equal(0, NftBytes::u32(0))
      .meta(NFT_META_PRIORITY, 0)
      .mask_toggle(0, NftBytes::u32(~abi::kAnyNat), NftBytes::u32(abi::kAnyNat))
      .set_meta(NFT_META_PRIORITY, 0);
  writer.rule("ask", std::move(changed));
  if (writer.layout().queues > 0) {
    NftRule choose;
    choose.symmetric_hash(0, static_cast<std::uint32_t>(writer.layout().queues))
        .vmap(sets().hashes.name, 0);
    writer.rule("ask", std::move(choose));
  }
  writer.rule("ask", std::move(NftRule().drop()));
  for (std::size_t i = 0; i < writer.layout().queues; i++) {
    NftRule queue;
    queue.queue(writer.layout().mechanism, static_cast<std::uint16_t>(abi::kFirstQueue + i));
    writer.rule(queue_chain(i), std::move(queue));
  }
}

/// Strays: stores the workload's number, which is in the packet's priority, in the flow's label if
/// the packet has a flow, and sends the packet to the verifier.
void write_strays(Writer& writer) {
  for (const bool outgoing : {true, false}) {
    const std::string chain = outgoing ? "out_stray" : "in_stray";
    for (const bool original : {true, false}) {
      NftRule rule;
      rule.ct(NFT_CT_DIRECTION, 0).equal(0, NftBytes::u8(original ? 0 : 1));
      const bool is_source = outgoing == original;
      label_by_priority(rule, is_source, abi::kToken | abi::kResumed).go_to("ask");
      writer.rule(chain, std::move(rule));
    }
    writer.rule(chain, std::move(NftRule().go_to("ask")));
  }
}

/// Adds the endpoints of a UDP client whose flow is proved to the set of clients, for
/// write_datagrams_of_host().
void remember_client(Writer& writer, const std::string& chain) {
  for (const std::uint8_t nfproto : {std::uint8_t{NFPROTO_IPV4}, std::uint8_t{NFPROTO_IPV6}}) {
    NftRule client = protocol(IPPROTO_UDP);
    client.ct(NFT_CT_DIRECTION, 0).equal(0, NftBytes::u8(0));
    writer.rule(chain, std::move(ends_of(client, nfproto).add_to(clients(nfproto).name, 0)));
  }
}

/// Stores the number of the remote identity, which is in the packet's priority, in the flow's
/// label, with `flags`. The remote identity is the source of packets on input, the destination on
/// output.
void write_authorize(Writer& writer, const std::string& chain, bool input, std::uint32_t flags) {
  const bool is_meet = (flags & abi::kNear) != 0;
  for (const bool original : {true, false}) {
    NftRule rule;
    rule.ct(NFT_CT_DIRECTION, 0).equal(0, NftBytes::u8(original ? 0 : 1));
    label_by_priority(rule, input == original, flags);
    writer.rule(chain, std::move(rule));
  }
  NftRule done;
  done.immediate(0, NftBytes::u32(0)).set_meta(NFT_META_PRIORITY, 0);
  writer.rule(chain, std::move(done));
  if ((flags & abi::kAudited) == 0) {
    writer.sample(chain);
  }
  if (!input) {
    remember_client(writer, chain);
  } else if (!is_meet) {
    // While the datagram waited in the queue, its socket may have been closed and the port taken by
    // another: judge it by the current socket.
    writer.rule(chain, std::move(protocol(IPPROTO_UDP).go_to(at("in_again", abi::kMaxLevel))));
  }
  NftRule authorized;
  writer.rule(chain, std::move(flow_has(authorized, abi::kAuthorized).accept()));
  writer.rule(chain, std::move(NftRule().go_to("refuse")));
}

/// Applies the verifier's rulings, in the later base chains of the same hooks. Rulings are accepted
/// only on flows with abi::kToken, which go to the verifier.
void write_rulings(Writer& writer, const std::string& base, const std::string& ruled,
                   const kernel::NftSet& rulings, bool input) {
  NftRule reserved;
  reserved.meta(NFT_META_PRIORITY, 0)
      .mask(0, NftBytes::u32(abi::kReserved))
      .equal(0, NftBytes::u32(abi::kReserved));
  writer.rule(base, std::move(reserved.go_to(ruled)));
  // A reset does not go to the verifier, so the priority on it was set by its sender: ignore it.
  NftRule reset = protocol(IPPROTO_TCP);
  writer.rule(ruled, std::move(tcp_flags(reset, kRst).not_equal(0, NftBytes::u8(0)).accept()));
  NftRule which;
  flow_has(which, abi::kToken)
      .meta(NFT_META_PRIORITY, 0)
      .mask(0, NftBytes::u32(abi::kCodeMask))
      .vmap(rulings.name, 0);
  writer.rule(ruled, std::move(which));
  NftRule unknown;
  writer.rule(ruled, std::move(flow_has(unknown, abi::kToken).drop()));
  // Do not touch priorities on packets that trireme does not handle. A ruling on a segment within a
  // connection applies even if its flow has no label because it is invalid, untracked, or older
  // than the table.
  NftRule others = within_connection();
  writer.rule(ruled, std::move(flow_has(others, abi::kAuthorized | abi::kExempt).accept()));
  NftRule refused = within_connection();
  refused.meta(NFT_META_PRIORITY, 0)
      .mask(0, NftBytes::u32(abi::kCodeMask))
      .equal(0, NftBytes::u32(static_cast<std::uint32_t>(abi::Ruling::refuse)));
  writer.rule(ruled, std::move(refused.go_to("ruled_refuse")));
  writer.rule(ruled, std::move(within_connection().go_to("ruled_pass")));
  write_authorize(writer, ruled + "_authorize", input, abi::kAuthorized);
  write_authorize(writer, ruled + "_audit", input, abi::kAuthorized | abi::kAudited);
  if (input) {
    write_authorize(writer, ruled + "_meet", input, abi::kAuthorized | abi::kNear);
  }
}

}  // namespace

NftRule& make_source(NftRule& rule, std::uint32_t flags) {
  return rule.shift_left(kWords, abi::kFlagsWidth)
      .mask_toggle(kWords, NftBytes::u32(~0U << abi::kFlagsWidth),
                   NftBytes::u32(~0U << abi::kFlagsWidth | flags))
      .immediate(kWords + 2, NftBytes::u32(0).add_u32(0));
}

NftRule& label_by_priority(NftRule& rule, bool is_source, std::uint32_t flags) {
  for (const std::uint32_t reg :
       {is_source ? kWords : kWords + 2, is_source ? kWords + 1 : kWords + 3}) {
    rule.meta(NFT_META_PRIORITY, reg).mask(reg, NftBytes::u32(abi::kNumberMask));
  }
  return (is_source ? make_source(rule, flags) : make_destination(rule, flags))
      .set_ct(NFT_CT_LABELS, kWords);
}

NftRule& make_destination(NftRule& rule, std::uint32_t flags) {
  return rule
      .mask_toggle(kWords + 3, NftBytes::u32(abi::kNumberMask), NftBytes::u32(abi::kNumberMask))
      .immediate(kWords, NftBytes::u32(flags).add_u32(0));
}

void Writer::ask_for_datagrams(const std::string& chain, NftRule request, const End& workload,
                               bool workload_is_source, std::uint32_t flags) {
  workload.number(request, workload_is_source ? kWords + 1 : kWords + 3);
  (workload_is_source ? make_source(request, abi::kToken) : make_destination(request, abi::kToken))
      .set_ct(NFT_CT_LABELS, kWords);
  ask_about(request, workload, flags);
  rule(chain, std::move(request));
}

NftRule& ask_about(NftRule& rule, const End& workload, std::uint32_t flags) {
  workload.number(rule, kNumberRegister);
  return put_number(rule, flags).go_to("ask");
}

NftRule& put_number(NftRule& rule, std::uint32_t flags) {
  // The verifier does not handle packets of quarantined workloads.
  rule.not_equal(kNumberRegister, NftBytes::u32(abi::kQuarantine));
  if (flags != 0) {
    rule.mask_toggle(kNumberRegister - 1, NftBytes::u32(abi::kNumberMask), NftBytes::u32(flags));
  }
  return rule.set_meta(NFT_META_PRIORITY, kNumberRegister - 1);
}

void Writer::ask(const std::string& chain, NftRule request, const End& workload,
                 bool workload_is_source, bool translated) {
  // The lookup fails for a quarantined workload, which has no group: its requests are not queued.
  workload.group(request, kWords + 1);
  workload.number(request, workload_is_source ? kWords + 1 : kWords + 3);
  (workload_is_source ? make_source(request, abi::kToken) : make_destination(request, abi::kToken))
      .set_ct(NFT_CT_LABELS, kWords);
  // A flow that cannot bear a label could never be authorized: do not queue the request, so that
  // the following rules judge it by its addresses.
  workload.number(flow_has(request, abi::kToken), kNumberRegister);
  if (translated) {
    request.mask_toggle(kNumberRegister - 1, NftBytes::u32(abi::kNumberMask),
                        NftBytes::u32(abi::kDestinationNat));
  }
  request.set_meta(NFT_META_PRIORITY, kNumberRegister - 1).go_to("ask");
  rule(chain, std::move(request));
}

void Writer::ask_again(const std::string& chain, NftRule request, const End& workload) {
  workload.group(request, kWords + 1);
  request.immediate(kWords, label_bytes(abi::FlowLabel::bits(abi::kToken)))
      .set_ct(NFT_CT_LABELS, kWords);
  ask_about(request, workload, abi::kDecided);
  rule(chain, std::move(request));
}

void Writer::ask_about_strays(const std::string& chain, const End& workload, bool outgoing) {
  for (const std::uint8_t nfproto : {std::uint8_t{NFPROTO_IPV4}, std::uint8_t{NFPROTO_IPV6}}) {
    NftRule stray = within_connection();
    stray.meta(NFT_META_NFPROTO, 0).equal(0, NftBytes::u8(nfproto));
    const bool v4 = nfproto == NFPROTO_IPV4;
    const std::uint32_t offset = v4 ? (outgoing ? 16 : 12) : (outgoing ? 24 : 8);
    stray.payload(NFT_PAYLOAD_NETWORK_HEADER, offset, v4 ? 4 : 16, 0)
        .in(v4 ? sets().speakers4.name : sets().speakers6.name, 0);
    workload.number(stray, kNumberRegister);
    rule(chain,
         std::move(put_number(stray, abi::kStray).go_to(outgoing ? "out_stray" : "in_stray")));
  }
}

void add_token_chains(kernel::NftBatch& batch, const Layout& layout) {
  for (const char* name :
       {"output_token", "input_token", "ask", kIn, kOut, "ruled_in_authorize", "ruled_in_audit",
        "ruled_out_authorize", "ruled_out_audit", "ruled_pass", "ruled_refuse", "ruled_exempt",
        "ruled_in_meet", "ruled_out_let", "out_stray", "in_stray"}) {
    batch.add_chain(name);
  }
  for (std::size_t i = 0; i < layout.queues; i++) {
    batch.add_chain(queue_chain(i));
  }
}

void write_tokens(Writer& writer) {
  write_unauthorized(writer);
  write_strays(writer);
  write_queues(writer);
  write_rulings(writer, "input_ruled", kIn, sets().rulings_in, true);
  write_rulings(writer, "output_ruled", kOut, sets().rulings_out, false);
  const auto reset_priority = [] {
    return std::move(NftRule().immediate(0, NftBytes::u32(0)).set_meta(NFT_META_PRIORITY, 0));
  };
  writer.rule("ruled_pass", std::move(reset_priority().accept()));
  NftRule exempt;
  exempt.immediate(kWords, label_bytes(abi::FlowLabel::bits(abi::kExempt)))
      .set_ct(NFT_CT_LABELS, kWords);
  writer.rule("ruled_exempt", std::move(exempt.go_to("ruled_pass")));
  remember_client(writer, "ruled_out_let");
  writer.rule("ruled_out_let", std::move(NftRule().go_to("ruled_pass")));
  writer.rule("ruled_refuse", reset_priority());
  writer.rule("ruled_refuse", std::move(NftRule().go_to("refuse")));
}

void write_token_elements(kernel::NftBatch& batch, const Layout& layout) {
  std::vector<kernel::NftElement> hashes;
  for (std::size_t i = 0; i < layout.queues; i++) {
    hashes.push_back({.key = NftBytes::u32(static_cast<std::uint32_t>(i)),
                      .verdict = NftVerdict{NftVerdict::Code::go_to, queue_chain(i)}});
  }
  batch.add_elements(sets().hashes, hashes);
  for (const auto& [set, ruled] :
       {std::pair{&sets().rulings_in, kIn}, {&sets().rulings_out, kOut}}) {
    const auto element = [](std::uint32_t ruling, const std::string& chain) {
      return kernel::NftElement{.key = NftBytes::u32(ruling),
                                .verdict = NftVerdict{NftVerdict::Code::go_to, chain}};
    };
    std::vector rulings = {
        element(static_cast<std::uint32_t>(abi::Ruling::pass), "ruled_pass"),
        element(static_cast<std::uint32_t>(abi::Ruling::authorize),
                std::string(ruled) + "_authorize"),
        element(static_cast<std::uint32_t>(abi::Ruling::audit), std::string(ruled) + "_audit"),
        element(static_cast<std::uint32_t>(abi::Ruling::refuse), "ruled_refuse"),
        element(static_cast<std::uint32_t>(abi::Ruling::exempt), "ruled_exempt"),
        element(static_cast<std::uint32_t>(abi::Ruling::let),
                set == &sets().rulings_in ? "ruled_in_let" : "ruled_out_let"),
        element(abi::kProofPriority, "ruled_pass")};
    if (set == &sets().rulings_in) {
      rulings.push_back(element(static_cast<std::uint32_t>(abi::Ruling::meet), "ruled_in_meet"));
    }
    batch.add_elements(*set, rulings);
  }
  std::vector<kernel::NftElement>
      neighbors;  // MLD (RFC 2710, RFC 3810), router and neighbor discovery (RFC 4861)
  for (const auto type :
       std::to_array<std::uint8_t>({130, 131, 132, 133, 134, 135, 136, 137, 143})) {
    neighbors.push_back({.key = NftBytes::u8(type)});
  }
  batch.add_elements(sets().neighbors, neighbors);
}

}  // namespace trireme::datapath
