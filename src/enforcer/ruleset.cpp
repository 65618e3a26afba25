#include "trireme/enforcer/ruleset.hpp"

#include <netinet/in.h>
// The kernel's headers define what netinet/in.h has not.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>

#include "trireme/enforcer/flow_label.hpp"

namespace trireme::enforcer {

using kernel::NftBatch;
using kernel::NftBytes;
using kernel::NftRule;
using kernel::NftVerdict;

namespace {

// Conntrack state bits as nf_tables shows them (NF_CT_STATE_BIT in linux/netfilter/nf_conntrack_common.h).
constexpr std::uint32_t kStateInvalid = 1;
constexpr std::uint32_t kStateRelated = 4;

constexpr std::uint32_t kLoopback = 1;  // ifindex of lo, in every network namespace
constexpr std::uint8_t kFin = 1;
constexpr std::uint8_t kSyn = 2;
constexpr std::uint8_t kRst = 4;
constexpr std::uint8_t kAck = 16;

const NftBytes& label_mask(std::uint32_t bits) {
  thread_local NftBytes bytes;
  bytes = FlowLabel::bits(bits).nft();
  return bytes;
}

std::string at(const std::string& chain, std::uint32_t level) {
  return chain + "_" + std::to_string(level);
}

// --- matches ---

NftRule protocol(std::uint8_t number) {
  NftRule rule;
  rule.meta(NFT_META_L4PROTO, 0).equal(0, NftBytes::u8(number));
  return rule;
}

NftRule& tcp_flags(NftRule& rule, std::uint8_t mask) {
  return rule.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1, 0).mask(0, NftBytes::u8(mask));
}

/// A TCP segment that asks for a connection.
NftRule connection_request() {
  NftRule rule = protocol(IPPROTO_TCP);
  tcp_flags(rule, kSyn | kAck).equal(0, NftBytes::u8(kSyn));
  return rule;
}

/// A TCP segment of a connection that exists or is being answered.
NftRule segment() {
  NftRule rule = protocol(IPPROTO_TCP);
  tcp_flags(rule, kSyn | kAck).not_equal(0, NftBytes::u8(kSyn));
  return rule;
}

NftRule& flow_has(NftRule& rule, std::uint32_t bits) {
  return rule.ct(NFT_CT_LABELS, 0).mask(0, label_mask(bits)).not_equal(0, FlowLabel{}.nft());
}

NftRule& flow_lacks(NftRule& rule, std::uint32_t bits) {
  return rule.ct(NFT_CT_LABELS, 0).mask(0, label_mask(bits)).equal(0, FlowLabel{}.nft());
}

NftRule& reply_direction(NftRule& rule) {
  return rule.ct(NFT_CT_DIRECTION, 0).equal(0, NftBytes::u8(1));
}

/// A socket with a cgroup: a listener or a connection, neither TIME_WAIT nor a request.
NftRule& full_socket(NftRule& rule) {
  return rule.socket(NFT_SOCKET_MARK, 0).mask(0, NftBytes::u32(0)).equal(0, NftBytes::u32(0));
}

NftRule& any_socket(NftRule& rule) {
  return rule.socket(NFT_SOCKET_TRANSPARENT, 0).at_most(0, NftBytes::u8(1));
}

NftRule of_family(std::uint8_t nfproto) {
  NftRule rule;
  rule.meta(NFT_META_NFPROTO, 0).equal(0, NftBytes::u8(nfproto));
  return rule;
}

// --- the two ends of a packet ---

// Registers of a judging rule. A look-up fills the register that it is named after and the one before it, so keys are filled from the back.
constexpr std::uint32_t kSourceId = 1;  // class or group
constexpr std::uint32_t kDestinationId = 2;
constexpr std::uint32_t kSocketKey = 4;  // 4..5: a cgroup id
constexpr std::uint32_t kNumber = 7;
constexpr std::uint32_t kAddressKey = 4;  // 4..7: an address
constexpr std::uint32_t kLabel = 8;       // 8..11
constexpr std::uint32_t kProfile = 9;
constexpr std::uint32_t kPortClass = 10;
constexpr std::uint32_t kPortKey = 12;  // 12..13: protocol, port
constexpr std::uint32_t kOutcome = 15;

/// One end of a packet: a number, from its socket's cgroup or from the priority that it got on OUTPUT; or a class by its address.
struct End {
  enum class Kind { socket, priority, local, remote } kind;
  std::uint32_t level = 0;   // socket
  bool of_source = false;    // local, remote: which address
  std::uint8_t nfproto = 0;  // local, remote

  [[nodiscard]] bool numbered() const { return kind == Kind::socket || kind == Kind::priority; }

  void number(NftRule& rule, std::uint32_t reg) const {
    if (kind == Kind::socket) {
      rule.socket_level(level, kSocketKey).map(sets().workloads.name, kSocketKey, reg);
    } else {
      rule.meta(NFT_META_PRIORITY, reg);
    }
  }

  void group(NftRule& rule, std::uint32_t reg) const {
    number(rule, kNumber);
    rule.map(sets().groups.name, kNumber, reg);
  }

  void class_of(NftRule& rule, std::uint32_t reg) const {
    if (numbered()) {
      number(rule, kNumber);
      rule.map(sets().classes.name, kNumber, reg);
      return;
    }
    const bool v4 = nfproto == NFPROTO_IPV4;
    const std::uint32_t offset = v4 ? (of_source ? 12 : 16) : (of_source ? 8 : 24);
    const auto& set = kind == Kind::local ? (v4 ? sets().local4 : sets().local6) : (v4 ? sets().remote4 : sets().remote6);
    rule.payload(NFT_PAYLOAD_NETWORK_HEADER, offset, v4 ? 4 : 16, kAddressKey).map(set.name, kAddressKey, reg);
  }

  [[nodiscard]] std::string text() const {
    switch (kind) {
      case Kind::socket:
        return "socket";
      case Kind::priority:
        return "priority";
      case Kind::local:
        return "local address";
      case Kind::remote:
        break;
    }
    return "remote address";
  }
};

End socket_end(std::uint32_t level) {
  return {.kind = End::Kind::socket, .level = level};
}
End priority_end() {
  return {.kind = End::Kind::priority};
}
End local_end(std::uint8_t nfproto, bool of_source) {
  return {.kind = End::Kind::local, .of_source = of_source, .nfproto = nfproto};
}
End remote_end(std::uint8_t nfproto, bool of_source) {
  return {.kind = End::Kind::remote, .of_source = of_source, .nfproto = nfproto};
}

void write_labels(NftRule& rule, const End& source, const End& destination) {
  const auto write = [&rule](const End& end, const kernel::NftSet& labels, const FlowLabel& host) {
    if (end.numbered()) {
      end.number(rule, kNumber);
      rule.map_bytes(labels.name, kNumber, kLabel).set_ct(NFT_CT_LABELS, kLabel);
    } else if (end.kind == End::Kind::local) {
      rule.immediate(kLabel, host.nft()).set_ct(NFT_CT_LABELS, kLabel);
    }
  };
  write(source, sets().source, FlowLabel::source(kHost, kAuthorised));
  write(destination, sets().destination, FlowLabel::destination(kHost, kAuthorised));
}

/// profile = pairs[source class . destination class]; outcome = outcomes[profile . ports[protocol . port]]; ends at any miss.
void judge(NftRule& rule, const End& source, const End& destination, bool reply) {
  destination.class_of(rule, kDestinationId);
  source.class_of(rule, kSourceId);
  rule.meta(NFT_META_L4PROTO, kPortKey);
  if (reply) {
    rule.ct_reply(NFT_CT_PROTO_SRC, kPortKey + 1);  // the real port that the flow was sent to, after any DNAT
  } else {
    rule.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, kPortKey + 1);
  }
  rule.map(sets().ports.name, kPortKey, kPortClass);
  rule.map(sets().pairs.name, kSourceId, kProfile);
  rule.map(sets().outcomes.name, kProfile, kOutcome);
}

/// A packet judged in its own direction.
NftRule forward(NftRule rule, const End& source, const End& destination) {
  judge(rule, source, destination, false);
  write_labels(rule, source, destination);
  rule.vmap(sets().ends.name, kOutcome).comment("outcome by class: " + source.text() + " to " + destination.text());
  return rule;
}

/// A reply: judged as the flow that it answers, sent by the one who receives this packet.
NftRule backward(NftRule rule, const End& source, const End& destination) {
  judge(rule, destination, source, true);
  rule.vmap(sets().ends.name, kOutcome).comment("outcome by class: reply of " + source.text() + " to " + destination.text());
  return rule;
}

NftRule same_group(const End& source, const End& destination) {
  NftRule rule;
  destination.group(rule, kDestinationId);
  source.group(rule, kSourceId);
  rule.in(sets().same.name, kSourceId).comment("same group: " + source.text() + " and " + destination.text());
  return rule;
}

// --- chains ---

class Writer {
 public:
  explicit Writer(NftBatch& batch) : batch_(batch) {}

  void rule(const std::string& chain, NftRule&& rule) { batch_.add_rule(chain, rule); }

  /// What every packet meets first, on OUTPUT and on INPUT.
  void riders(const std::string& chain) {
    NftRule authorised = segment();
    flow_has(authorised, kAuthorised | kExempt).accept();
    rule(chain, std::move(authorised));
    NftRule reset = protocol(IPPROTO_TCP);  // carries no data, and tells a refused client at once
    tcp_flags(reset, kRst).not_equal(0, NftBytes::u8(0)).accept();
    rule(chain, std::move(reset));
    NftRule related;
    related.ct(NFT_CT_STATE, 0).mask(0, NftBytes::u32(kStateRelated)).not_equal(0, NftBytes::u32(0)).jump("related");
    rule(chain, std::move(related));
  }

  /// Calls `rules` for both families, twice over. Identifiers of two policies are disjoint, so a packet that a commit overtakes between two
  /// look-ups misses; its second look meets the new policy alone. Nothing is allowed by half a policy, and nothing is refused by one.
  template <typename Rules>
  void twice(const Rules& rules) {
    for (int look = 0; look < 2; look++) {
      rules(std::uint8_t{NFPROTO_IPV4});
      rules(std::uint8_t{NFPROTO_IPV6});
    }
  }

  /// Replies of UDP flows that were authorised, and segments of TCP flows that carry no bit yet.
  void replies(const std::string& chain, const std::string& to) {
    NftRule tcp = segment();
    reply_direction(tcp).jump(to);
    rule(chain, std::move(tcp));
    NftRule other;
    other.meta(NFT_META_L4PROTO, 0).not_equal(0, NftBytes::u8(IPPROTO_TCP));
    flow_has(reply_direction(other), kAuthorised).jump(to);
    rule(chain, std::move(other));
  }

  /// Logs a refusal once, drops silently where an end is quarantined, refuses otherwise.
  void refusals(const std::string& chain, const End& source, const End& destination) {
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
        end.number(quarantined, kNumber);
        quarantined.equal(kNumber, NftBytes::u32(kQuarantine)).drop().comment("quarantined: " + end.text());
        rule(chain, std::move(quarantined));
      }
    }
    rule(chain, std::move(NftRule().go_to("refuse")));
  }

  /// No workload at either end: remembered, so that the rest of the connection passes at once.
  void exempt(const std::string& chain) {
    NftRule remember = connection_request();
    full_socket(flow_lacks(remember, kAuthorised | kExempt)).immediate(8, FlowLabel::bits(kExempt).nft()).set_ct(NFT_CT_LABELS, 8);
    rule(chain, std::move(remember));
    rule(chain, std::move(NftRule().accept()));
  }

 private:
  NftBatch& batch_;
};

/// Goes to `handler` where the packet's socket belongs to a cgroup enrolled at `level`, else on to the next level up.
void dispatch(Writer& writer, const std::string& chain, std::uint32_t level, const std::string& handler, const std::string& none) {
  NftRule enrolled;
  socket_end(level).number(enrolled, kNumber);
  enrolled.not_equal(kNumber, NftBytes::u32(0))
      .go_to(at(handler, level))
      .comment("the socket's cgroup is enrolled at level " + std::to_string(level));
  writer.rule(at(chain, level), std::move(enrolled));
  writer.rule(at(chain, level), std::move(NftRule().go_to(level > 1 ? at(chain, level - 1) : none)));
}

void write_prerouting(Writer& writer) {
  // A frame put on lo below our OUTPUT (AF_PACKET) has met no conntrack yet, and could carry any priority.
  NftRule injected;
  injected.meta(NFT_META_IIF, 0).equal(0, NftBytes::u32(kLoopback));
  injected.ct(NFT_CT_STATE, 0).mask(0, NftBytes::u32(kStateInvalid)).not_equal(0, NftBytes::u32(0));
  injected.immediate(0, NftBytes::u32(kHost)).set_meta(NFT_META_PRIORITY, 0);
  writer.rule("prerouting_lo", std::move(injected));

  const auto bare_request = [] {
    NftRule rule = protocol(IPPROTO_TCP);
    tcp_flags(rule, kFin | kSyn | kRst | kAck).equal(0, NftBytes::u8(kSyn));
    return rule;
  };
  NftRule found = bare_request();
  full_socket(found).accept();
  writer.rule("prerouting", std::move(found));
  // tproxy's look-up ends a TIME_WAIT socket that a request meets, if somebody listens there; the listener is then found on INPUT and
  // judged. No listener of that kind (IP_TRANSPARENT) is ever assigned that the packet would not have met anyway: address and port are its
  // own.
  NftRule reopen4 = bare_request();
  any_socket(reopen4).meta(NFT_META_NFPROTO, 0).equal(0, NftBytes::u8(NFPROTO_IPV4));
  reopen4.payload(NFT_PAYLOAD_NETWORK_HEADER, 16, 4, 0).payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 1);
  writer.rule("prerouting", std::move(reopen4.tproxy(NFPROTO_IPV4, 0, 1)));
  NftRule reopen6 = bare_request();
  any_socket(reopen6).meta(NFT_META_NFPROTO, 0).equal(0, NftBytes::u8(NFPROTO_IPV6));
  reopen6.payload(NFT_PAYLOAD_NETWORK_HEADER, 24, 16, 0).payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 4);
  writer.rule("prerouting", std::move(reopen6.tproxy(NFPROTO_IPV6, 0, 4)));
}

void write_output(Writer& writer) {
  writer.riders("output");
  // NAT on OUTPUT routes a packet anew, but `meta oif` goes on naming the interface of before: a local address sent elsewhere, or the
  // other way round.
  NftRule translated;
  translated.ct(NFT_CT_STATUS, 0).mask(0, NftBytes::u32(IPS_NAT_MASK)).not_equal(0, NftBytes::u32(0)).go_to("output_nat");
  writer.rule("output", std::move(translated));
  NftRule loopback;
  writer.rule("output", std::move(loopback.meta(NFT_META_OIF, 0).equal(0, NftBytes::u32(kLoopback)).go_to("output_lo")));
  writer.rule("output", std::move(NftRule().go_to("output_net")));
  NftRule to_us;
  writer.rule("output_nat", std::move(to_us.fib_destination_type(0).equal(0, NftBytes::u32(RTN_LOCAL)).go_to("output_lo")));
  writer.rule("output_nat", std::move(NftRule().go_to("output_net")));
  writer.rule("output_lo", std::move(NftRule().immediate(0, NftBytes::u32(kHost)).set_meta(NFT_META_PRIORITY, 0)));
  writer.rule("output_lo", std::move(NftRule().meta(NFT_META_NFPROTO, 0).vmap(sets().enter_out_lo.name, 0)));
  writer.rule("output_net", std::move(NftRule().meta(NFT_META_NFPROTO, 0).vmap(sets().enter_out_net.name, 0)));
  for (std::uint32_t level = 1; level <= kMaxLevel; level++) {
    NftRule stamp;  // on lo the source's number travels in the packet's priority
    socket_end(level).number(stamp, kNumber);
    writer.rule(at("out_lo", level), std::move(stamp.set_meta(NFT_META_PRIORITY, kNumber - 1).accept()));
    writer.rule(at("out_lo", level), std::move(level > 1 ? NftRule().go_to(at("out_lo", level - 1)) : NftRule().accept()));

    dispatch(writer, "out_net", level, "out_net_from", "out_net_host");
    const std::string chain = at("out_net_from", level);
    const End source = socket_end(level);
    writer.replies(chain, at("out_net_reply", level));
    writer.twice([&](std::uint8_t nfproto) {
      writer.rule(at("out_net_reply", level), backward(of_family(nfproto), source, remote_end(nfproto, false)));
      writer.rule(chain, forward(of_family(nfproto), source, remote_end(nfproto, false)));
    });
    writer.refusals(chain, source, remote_end(NFPROTO_IPV4, false));
  }
  writer.exempt("out_net_host");
}

void write_input_to_workload(Writer& writer, std::uint32_t level) {
  const End destination = socket_end(level);
  const std::string local = at("in_lo_to", level);
  const std::string remote = at("in_net_to", level);
  const std::string local_reply = at("in_lo_reply", level);
  const std::string remote_reply = at("in_net_reply", level);

  writer.replies(local, local_reply);
  writer.replies(remote, remote_reply);
  writer.twice([&](std::uint8_t nfproto) {
    if (nfproto == NFPROTO_IPV4) {
      NftRule same = same_group(priority_end(), destination);
      write_labels(same, priority_end(), destination);
      writer.rule(local, std::move(same.go_to("allow")));
      writer.rule(local, forward(NftRule(), priority_end(), destination));
      writer.rule(local_reply, std::move(same_group(priority_end(), destination).go_to("allow")));
      writer.rule(local_reply, backward(NftRule(), priority_end(), destination));
    }
    const auto from_host = [nfproto] {
      NftRule rule = of_family(nfproto);
      rule.meta(NFT_META_PRIORITY, 0).equal(0, NftBytes::u32(kHost));
      return rule;
    };
    writer.rule(local, forward(from_host(), local_end(nfproto, true), destination));
    writer.rule(local_reply, backward(from_host(), local_end(nfproto, true), destination));
    writer.rule(remote, forward(of_family(nfproto), remote_end(nfproto, true), destination));
    writer.rule(remote_reply, backward(of_family(nfproto), remote_end(nfproto, true), destination));
  });
  writer.refusals(local, priority_end(), destination);
  writer.refusals(remote, remote_end(NFPROTO_IPV4, true), destination);
}

/// From anybody on this host to a socket that is no workload's, or to none.
void write_input_to_host(Writer& writer) {
  NftRule again = connection_request();  // a repeated or taken-over request of an allowed flow
  writer.rule("in_lo_host", std::move(flow_has(again, kAuthorised).jump("in_lo_again")));
  NftRule found;
  writer.rule("in_lo_again", std::move(full_socket(found).verdict({NftVerdict::Code::ret, {}})));
  NftRule half_open;  // the listener has a request from this flow already and repeats its SYN-ACK by itself
  writer.rule("in_lo_again", std::move(any_socket(half_open).drop()));
  for (const std::uint32_t number : {kHost, kNoNumber}) {
    NftRule plain;
    plain.meta(NFT_META_PRIORITY, 0).equal(0, NftBytes::u32(number));
    writer.rule("in_lo_host", std::move(plain.go_to("in_lo_plain")));
  }
  writer.exempt("in_lo_plain");
  NftRule quarantined;
  quarantined.meta(NFT_META_PRIORITY, 0).equal(0, NftBytes::u32(kQuarantine));
  writer.rule("in_lo_host", std::move(quarantined.go_to("in_lo_to_host")));
  NftRule somebody;
  writer.rule("in_lo_host", std::move(any_socket(somebody).go_to("in_lo_to_host")));
  for (const std::uint8_t number : {std::uint8_t{IPPROTO_TCP}, std::uint8_t{IPPROTO_UDP}}) {
    writer.rule("in_lo_host", std::move(protocol(number).accept()));  // nobody listens: the kernel says so
  }
  writer.rule("in_lo_host", std::move(NftRule().go_to("in_lo_to_host")));

  writer.replies("in_lo_to_host", "in_lo_host_reply");
  writer.twice([&](std::uint8_t nfproto) {
    writer.rule("in_lo_to_host", forward(of_family(nfproto), priority_end(), local_end(nfproto, false)));
    writer.rule("in_lo_host_reply", backward(of_family(nfproto), priority_end(), local_end(nfproto, false)));
  });
  writer.refusals("in_lo_to_host", priority_end(), local_end(NFPROTO_IPV4, false));
}

void write_input(Writer& writer) {
  writer.riders("input");
  NftRule loopback;
  loopback.meta(NFT_META_IIF, 0).equal(0, NftBytes::u32(kLoopback));
  writer.rule("input", std::move(loopback.meta(NFT_META_NFPROTO, 0).vmap(sets().enter_in_lo.name, 0)));
  writer.rule("input", std::move(NftRule().meta(NFT_META_NFPROTO, 0).vmap(sets().enter_in_net.name, 0)));
  for (std::uint32_t level = 1; level <= kMaxLevel; level++) {
    dispatch(writer, "in_lo", level, "in_lo_to", "in_lo_host");
    dispatch(writer, "in_net", level, "in_net_to", "in_net_host");
    write_input_to_workload(writer, level);
  }
  write_input_to_host(writer);
  writer.exempt("in_net_host");
}

void write_ends(Writer& writer) {
  for (const std::uint8_t number : {std::uint8_t{IPPROTO_ICMP}, std::uint8_t{IPPROTO_ICMPV6}}) {
    writer.rule("related", std::move(protocol(number).accept()));
  }
  NftRule authorised;
  writer.rule("allow", std::move(flow_has(authorised, kAuthorised).accept()));
  // The flow cannot carry the bit: it is older than the table, or untracked. A connection could not go on; a datagram is judged each time.
  writer.rule("allow", std::move(connection_request().go_to("refuse")));
  writer.rule("allow", std::move(NftRule().accept()));

  const auto log_once = [&writer](const std::string& chain, const std::string& prefix, std::uint32_t bits) {
    NftRule log;
    flow_lacks(log, kLogged).log(kLogGroup, prefix).immediate(8, FlowLabel::bits(bits).nft()).set_ct(NFT_CT_LABELS, 8);
    writer.rule(chain, std::move(log));
    writer.rule(chain, std::move(NftRule().go_to("allow")));
  };
  log_once("allow_log", "allow", kLogged);
  log_once("allow_audit", "audit", kLogged | kAudited);

  writer.rule("refuse", std::move(NftRule().meta(NFT_META_NFPROTO, 0).vmap(sets().refusal.name, 0)));
  writer.rule("refuse", std::move(NftRule().drop()));
  writer.rule(kReject, std::move(protocol(IPPROTO_TCP).reject_tcp_reset()));
  writer.rule(kReject, std::move(NftRule().reject_admin_prohibited()));
  writer.rule(kSilent, std::move(NftRule().drop()));
  writer.rule(kAudit, std::move(NftRule().immediate(8, FlowLabel::bits(kAuthorised | kAudited).nft()).set_ct(NFT_CT_LABELS, 8).accept()));
}

void add_chains(NftBatch& batch) {
  batch.add_chain("prerouting_lo", kernel::NftBaseChain{NF_INET_PRE_ROUTING, -300});  // before conntrack
  batch.add_chain("prerouting", kernel::NftBaseChain{NF_INET_PRE_ROUTING, -90});      // after DNAT
  batch.add_chain("output", kernel::NftBaseChain{NF_INET_LOCAL_OUT, -50});            // after DNAT
  batch.add_chain("input", kernel::NftBaseChain{NF_INET_LOCAL_IN, -50});              // before SNAT
  for (const char* name :
       {"related", "allow", "allow_log", "allow_audit", "refuse", kReject, kSilent, kAudit, "output_nat", "output_lo", "output_net",
        "out_net_host", "in_net_host", "in_lo_host", "in_lo_again", "in_lo_plain", "in_lo_to_host", "in_lo_host_reply"}) {
    batch.add_chain(name);
  }
  for (std::uint32_t level = 1; level <= kMaxLevel; level++) {
    for (const char* name : {"out_lo", "out_net", "out_net_from", "out_net_reply", "in_lo", "in_lo_to", "in_lo_reply", "in_net",
                             "in_net_to", "in_net_reply"}) {
      batch.add_chain(at(name, level));
    }
  }
}

}  // namespace

void write_ruleset(NftBatch& batch) {
  // Added first so that the deletion cannot fail: the three together replace whatever was there.
  batch.add_table();
  batch.delete_table();
  batch.add_table("owned by trireme; see trirectl(1)");
  add_chains(batch);
  for (const kernel::NftSet* set : sets().all()) {
    batch.add_set(*set);
  }
  Writer writer(batch);
  write_prerouting(writer);
  write_output(writer);
  write_input(writer);
  write_ends(writer);

  using policy::Outcome;
  const auto end = [](Outcome outcome, const char* chain) {
    return kernel::NftElement{.key = NftBytes::u32(static_cast<std::uint32_t>(outcome)),
                              .verdict = NftVerdict{NftVerdict::Code::go_to, chain}};
  };
  const std::array ends = {end(Outcome::allow, "allow"), end(Outcome::allow_log, "allow_log"), end(Outcome::audit, "allow_audit")};
  batch.add_elements(sets().ends, ends);
}

void write_depth(NftBatch& batch, std::uint32_t level) {
  const auto write = [&](const kernel::NftSet& set, const std::string& chain) {
    std::vector<kernel::NftElement> elements;
    for (const std::uint8_t nfproto : {NFPROTO_IPV4, NFPROTO_IPV6}) {
      elements.push_back({.key = NftBytes::u8(nfproto), .verdict = NftVerdict{NftVerdict::Code::go_to, at(chain, level)}});
    }
    batch.add_elements(set, elements);
  };
  write(sets().enter_out_lo, "out_lo");
  write(sets().enter_out_net, "out_net");
  write(sets().enter_in_lo, "in_lo");
  write(sets().enter_in_net, "in_net");
}

}  // namespace trireme::enforcer
