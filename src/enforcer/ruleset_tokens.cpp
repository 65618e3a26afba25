// SPDX-License-Identifier: Apache-2.0
// The way to the verifier and back: docs/datapath.md, "Tokens".
#include "ruleset_writer.hpp"
#include "trireme/handshake/codes.hpp"
#include "trireme/verifier/verifier.hpp"

namespace trireme::enforcer {

using handshake::Ruling;
using kernel::NftBytes;
using kernel::NftRule;
using kernel::NftVerdict;

namespace {

constexpr std::uint8_t kProofOption = 253;
constexpr const char* kIn = "ruled_in";
constexpr const char* kOut = "ruled_out";

std::string queue_chain(std::size_t queue) {
  return "ask_" + std::to_string(queue);
}

/// Segments of token flows that are not authorised, and every SYN-ACK of them.
void write_unauthorised(Writer& writer) {
  NftRule ours;  // PROOF, which the verifier sends itself; see threat-model.md on who else could
  ours.meta(NFT_META_PRIORITY, 0)
      .equal(0, NftBytes::u32(handshake::kProofPriority))
      .tcp_option(kProofOption)
      .accept();
  writer.rule("output_token", std::move(ours));
  // What the verifier reads there is rules' own, not the sender's.
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
  proof.tcp_option(kProofOption);
  writer.rule("input_token", to_verifier(proof));
  NftRule data;
  data.payload(NFT_PAYLOAD_INNER_HEADER, 0, 1, 0).at_most(0, NftBytes::u8(0xff));
  writer.rule("input_token", to_verifier(data));
  NftRule unexpected = protocol(IPPROTO_TCP);  // RFC 9293, section 3.5.1: a server that knows
                                               // another connection answers a SYN so
  tcp_flags(unexpected, kFin | kAck).equal(0, NftBytes::u8(kAck));
  writer.rule("input_token", std::move(reply_direction(unexpected).accept()));
  writer.rule(
      "input_token",
      std::move(NftRule().drop().comment("an acknowledgement ahead of PROOF says nothing")));
}

void write_queues(Writer& writer) {
  NftRule unchanged;
  unchanged.meta(NFT_META_PRIORITY, 0)
      .mask(0, NftBytes::u32(~handshake::kChanged))
      .set_meta(NFT_META_PRIORITY, 0);
  writer.rule("ask", std::move(unchanged));
  NftRule changed;
  changed.ct(NFT_CT_STATUS, 0)
      .mask(0, NftBytes::u32(IPS_SRC_NAT | IPS_DST_NAT))
      .not_equal(0, NftBytes::u32(0))
      .meta(NFT_META_PRIORITY, 0)
      .mask_toggle(0, NftBytes::u32(~handshake::kChanged), NftBytes::u32(handshake::kChanged))
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
    queue.queue(writer.layout().mechanism, static_cast<std::uint16_t>(verifier::kFirstQueue + i));
    writer.rule(queue_chain(i), std::move(queue));
  }
}

/// Of connections that conntrack knows nothing of: the workload's number, which is in the packet's
/// priority, goes into the flow's label, where there is a flow.
void write_strays(Writer& writer) {
  for (const bool outgoing : {true, false}) {
    const std::string chain = outgoing ? "out_stray" : "in_stray";
    for (const bool original : {true, false}) {
      NftRule rule;
      rule.ct(NFT_CT_DIRECTION, 0).equal(0, NftBytes::u8(original ? 0 : 1));
      const bool is_source = outgoing == original;
      label_by_priority(rule, is_source, kToken | kResumed).go_to("ask");
      writer.rule(chain, std::move(rule));
    }
    writer.rule(chain, std::move(NftRule().go_to("ask")));
  }
}

/// The ends of a UDP client whose flow is proved: see write_datagrams_of_host().
void remember_client(Writer& writer, const std::string& chain) {
  for (const std::uint8_t nfproto : {std::uint8_t{NFPROTO_IPV4}, std::uint8_t{NFPROTO_IPV6}}) {
    NftRule client = protocol(IPPROTO_UDP);
    client.ct(NFT_CT_DIRECTION, 0).equal(0, NftBytes::u8(0));
    writer.rule(chain, std::move(ends_of(client, nfproto).add_to(clients(nfproto).name, 0)));
  }
}

/// The number of the peer elsewhere goes into the flow's label: it is the source of what comes in
/// and of what is answered.
void write_authorise(Writer& writer, const std::string& chain, bool input, std::uint32_t flags) {
  const bool is_meet = (flags & kNear) != 0;
  for (const bool original : {true, false}) {
    NftRule rule;
    rule.ct(NFT_CT_DIRECTION, 0).equal(0, NftBytes::u8(original ? 0 : 1));
    label_by_priority(rule, input == original, flags);
    writer.rule(chain, std::move(rule));
  }
  NftRule done;
  done.immediate(0, NftBytes::u32(0)).set_meta(NFT_META_PRIORITY, 0);
  writer.rule(chain, std::move(done));
  if (!input) {
    remember_client(writer, chain);
  } else if (!is_meet) {
    // While it waited its socket may have closed, and another have taken the port: judged by the
    // one that is there now.
    writer.rule(chain, std::move(protocol(IPPROTO_UDP).go_to(at("in_again", kMaxLevel))));
  }
  NftRule authorised;
  writer.rule(chain, std::move(flow_has(authorised, kAuthorised).accept()));
  writer.rule(chain, std::move(NftRule().go_to("refuse")));
}

/// What comes back from the verifier, in later base chains of the same hooks. Only flows that it
/// was asked about can.
void write_rulings(Writer& writer, const std::string& base, const std::string& ruled,
                   const kernel::NftSet& rulings, bool input) {
  NftRule reserved;
  reserved.meta(NFT_META_PRIORITY, 0)
      .mask(0, NftBytes::u32(handshake::kReserved))
      .equal(0, NftBytes::u32(handshake::kReserved));
  writer.rule(base, std::move(reserved.go_to(ruled)));
  NftRule reset =
      protocol(IPPROTO_TCP);  // passes without a question: the ruling on it is its sender's own
  writer.rule(ruled, std::move(tcp_flags(reset, kRst).not_equal(0, NftBytes::u8(0)).accept()));
  NftRule which;
  flow_has(which, kToken)
      .meta(NFT_META_PRIORITY, 0)
      .mask(0, NftBytes::u32(handshake::kRulingMask))
      .vmap(rulings.name, 0);
  writer.rule(ruled, std::move(which));
  NftRule unknown;
  writer.rule(ruled, std::move(flow_has(unknown, kToken).drop()));
  // Others' priorities are theirs. Of a segment within a connection the ruling holds though its
  // flow may bear no label: it is invalid, untracked, or older than the table.
  NftRule others = within_connection();
  writer.rule(ruled, std::move(flow_has(others, kAuthorised | kExempt).accept()));
  NftRule refused = within_connection();
  refused.meta(NFT_META_PRIORITY, 0)
      .mask(0, NftBytes::u32(handshake::kRulingMask))
      .equal(0, NftBytes::u32(static_cast<std::uint32_t>(Ruling::refuse)));
  writer.rule(ruled, std::move(refused.go_to("ruled_refuse")));
  writer.rule(ruled, std::move(within_connection().go_to("ruled_pass")));
  write_authorise(writer, ruled + "_authorise", input, kAuthorised);
  write_authorise(writer, ruled + "_audit", input, kAuthorised | kAudited);
  if (input) {
    write_authorise(writer, ruled + "_meet", input, kAuthorised | kNear);
  }
}

}  // namespace

NftRule& make_source(NftRule& rule, std::uint32_t flags) {
  return rule.shift_left(kWords, kFlagsWidth)
      .mask_toggle(kWords, NftBytes::u32(~0U << kFlagsWidth),
                   NftBytes::u32(~0U << kFlagsWidth | flags))
      .immediate(kWords + 2, NftBytes::u32(0).add_u32(0));
}

NftRule& label_by_priority(NftRule& rule, bool is_source, std::uint32_t flags) {
  for (const std::uint32_t reg :
       {is_source ? kWords : kWords + 2, is_source ? kWords + 1 : kWords + 3}) {
    rule.meta(NFT_META_PRIORITY, reg).mask(reg, NftBytes::u32(handshake::kNumberMask));
  }
  return (is_source ? make_source(rule, flags) : make_destination(rule, flags))
      .set_ct(NFT_CT_LABELS, kWords);
}

NftRule& make_destination(NftRule& rule, std::uint32_t flags) {
  return rule
      .mask_toggle(kWords + 3, NftBytes::u32(handshake::kNumberMask),
                   NftBytes::u32(handshake::kNumberMask))
      .immediate(kWords, NftBytes::u32(flags).add_u32(0));
}

void Writer::ask_for_datagrams(const std::string& chain, NftRule request, const End& workload,
                               bool workload_is_source, std::uint32_t flags) {
  workload.number(request, workload_is_source ? kWords + 1 : kWords + 3);
  (workload_is_source ? make_source(request, kToken) : make_destination(request, kToken))
      .set_ct(NFT_CT_LABELS, kWords);
  ask_about(request, workload, flags);
  rule(chain, std::move(request));
}

NftRule& ask_about(NftRule& rule, const End& workload, std::uint32_t flags) {
  workload.number(rule, kNumberRegister);
  return tell_number(rule, flags).go_to("ask");
}

NftRule& tell_number(NftRule& rule, std::uint32_t flags) {
  // A quarantined one is nobody whom anything is asked about.
  rule.not_equal(kNumberRegister, NftBytes::u32(kQuarantine));
  if (flags != 0) {
    rule.mask_toggle(kNumberRegister - 1, NftBytes::u32(handshake::kNumberMask),
                     NftBytes::u32(flags));
  }
  return rule.set_meta(NFT_META_PRIORITY, kNumberRegister - 1);
}

void Writer::ask(const std::string& chain, NftRule request, const End& workload,
                 bool workload_is_source, bool translated) {
  workload.group(request, kWords + 1);  // a quarantined one has none: no questions are asked for it
  workload.number(request, workload_is_source ? kWords + 1 : kWords + 3);
  (workload_is_source ? make_source(request, kToken) : make_destination(request, kToken))
      .set_ct(NFT_CT_LABELS, kWords);
  // A flow that bears no label could be authorised by nothing: judged as one without tokens.
  workload.number(flow_has(request, kToken), kNumberRegister);
  if (translated) {
    request.mask_toggle(kNumberRegister - 1, NftBytes::u32(handshake::kNumberMask),
                        NftBytes::u32(handshake::kTranslated));
  }
  request.set_meta(NFT_META_PRIORITY, kNumberRegister - 1).go_to("ask");
  rule(chain, std::move(request));
}

void Writer::ask_again(const std::string& chain, NftRule request, const End& workload) {
  workload.group(request, kWords + 1);
  request.immediate(kWords, FlowLabel::bits(kToken).nft()).set_ct(NFT_CT_LABELS, kWords);
  ask_about(request, workload, handshake::kDecided);
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
         std::move(
             tell_number(stray, handshake::kFresh).go_to(outgoing ? "out_stray" : "in_stray")));
  }
}

void add_token_chains(kernel::NftBatch& batch, const Layout& layout) {
  for (const char* name :
       {"output_token", "input_token", "ask", kIn, kOut, "ruled_in_authorise", "ruled_in_audit",
        "ruled_out_authorise", "ruled_out_audit", "ruled_pass", "ruled_refuse", "ruled_exempt",
        "ruled_in_meet", "ruled_out_let", "out_stray", "in_stray"}) {
    batch.add_chain(name);
  }
  for (std::size_t i = 0; i < layout.queues; i++) {
    batch.add_chain(queue_chain(i));
  }
}

void write_tokens(Writer& writer) {
  write_unauthorised(writer);
  write_strays(writer);
  write_queues(writer);
  write_rulings(writer, "input_ruled", kIn, sets().rulings_in, true);
  write_rulings(writer, "output_ruled", kOut, sets().rulings_out, false);
  const auto reset_priority = [] {
    return std::move(NftRule().immediate(0, NftBytes::u32(0)).set_meta(NFT_META_PRIORITY, 0));
  };
  writer.rule("ruled_pass", std::move(reset_priority().accept()));
  NftRule exempt;
  exempt.immediate(kWords, FlowLabel::bits(kExempt).nft()).set_ct(NFT_CT_LABELS, kWords);
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
        element(static_cast<std::uint32_t>(Ruling::pass), "ruled_pass"),
        element(static_cast<std::uint32_t>(Ruling::authorise), std::string(ruled) + "_authorise"),
        element(static_cast<std::uint32_t>(Ruling::audit), std::string(ruled) + "_audit"),
        element(static_cast<std::uint32_t>(Ruling::refuse), "ruled_refuse"),
        element(static_cast<std::uint32_t>(Ruling::exempt), "ruled_exempt"),
        element(static_cast<std::uint32_t>(Ruling::let),
                set == &sets().rulings_in ? "ruled_in_let" : "ruled_out_let"),
        element(handshake::kProofPriority, "ruled_pass")};
    if (set == &sets().rulings_in) {
      rulings.push_back(element(static_cast<std::uint32_t>(Ruling::meet), "ruled_in_meet"));
    }
    batch.add_elements(*set, rulings);
  }
  std::vector<kernel::NftElement>
      neighbours;  // MLD (RFC 2710, RFC 3810), router and neighbour discovery (RFC 4861)
  for (const auto type :
       std::to_array<std::uint8_t>({130, 131, 132, 133, 134, 135, 136, 137, 143})) {
    neighbours.push_back({.key = NftBytes::u8(type)});
  }
  batch.add_elements(sets().neighbours, neighbours);
}

}  // namespace trireme::enforcer
