// SPDX-License-Identifier: Apache-2.0
#include "rules.hpp"

#include "trireme/abi/abi.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::datapath {

using kernel::NftBytes;
using kernel::NftRule;

namespace {

const NftBytes& label_mask(std::uint32_t bits) {
  thread_local NftBytes bytes;
  bytes = label_bytes(abi::FlowLabel::bits(bits));
  return bytes;
}

// Registers of a rule that judges. Each lookup overwrites its own register and the one before it,
// so the parts of a key are loaded from the last to the first.
constexpr std::uint32_t kSourceId = 1;  // class or group
constexpr std::uint32_t kDestinationId = 2;
constexpr std::uint32_t kSocketKey = 4;  // 4..5: a cgroup id
constexpr std::uint32_t kNumber = kNumberRegister;
constexpr std::uint32_t kAddressKey = 4;  // 4..7: an address
constexpr std::uint32_t kLabel = 8;       // 8..11
constexpr std::uint32_t kProfile = 9;
constexpr std::uint32_t kPortClass = 10;
constexpr std::uint32_t kPortKey = 12;  // 12..13: protocol, port
constexpr std::uint32_t kOutcome = 15;

constexpr std::uint32_t kAnyDestination = ~0U;  // in a set of shares; is no number

}  // namespace

// --- matches ---

NftRule protocol(std::uint8_t number) {
  NftRule rule;
  rule.meta(NFT_META_L4PROTO, 0).equal(0, NftBytes::u8(number));
  return rule;
}

NftRule reported(std::uint8_t number) {
  if (number != 0) {
    return protocol(number);
  }
  NftRule rule;
  rule.meta(NFT_META_L4PROTO, 0)
      .not_equal(0, NftBytes::u8(IPPROTO_TCP))
      .not_equal(0, NftBytes::u8(IPPROTO_UDP));
  return rule;
}

NftRule& tcp_flags(NftRule& rule, std::uint8_t mask) {
  return rule.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1, 0).mask(0, NftBytes::u8(mask));
}

NftRule connection_request() {
  NftRule rule = protocol(IPPROTO_TCP);
  tcp_flags(rule, kSyn | kAck).equal(0, NftBytes::u8(kSyn));
  return rule;
}

NftRule segment() {
  NftRule rule = protocol(IPPROTO_TCP);
  tcp_flags(rule, kSyn | kAck).not_equal(0, NftBytes::u8(kSyn));
  return rule;
}

NftRule within_connection() {
  NftRule rule = protocol(IPPROTO_TCP);
  tcp_flags(rule, kSyn).equal(0, NftBytes::u8(0));
  return rule;
}

NftBytes label_bytes(const abi::FlowLabel& label) {
  NftBytes bytes;
  for (const std::uint32_t word : label.words) {
    bytes.add_u32(word);
  }
  return bytes;
}

NftRule& flow_has(NftRule& rule, std::uint32_t bits) {
  return rule.ct(NFT_CT_LABELS, 0)
      .mask(0, label_mask(bits))
      .not_equal(0, label_bytes(abi::FlowLabel{}));
}

NftRule& flow_lacks(NftRule& rule, std::uint32_t bits) {
  return rule.ct(NFT_CT_LABELS, 0)
      .mask(0, label_mask(bits))
      .equal(0, label_bytes(abi::FlowLabel{}));
}

NftRule& reply_direction(NftRule& rule) {
  return rule.ct(NFT_CT_DIRECTION, 0).equal(0, NftBytes::u8(1));
}

// The load is the test: `socket mark` ends the rule for TIME_WAIT and half-open sockets (only full
// sockets have a mark), `socket transparent` ends it only if there is no socket.
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

NftRule within_connection_of(std::uint8_t nfproto) {
  NftRule rule = within_connection();
  rule.meta(NFT_META_NFPROTO, 0).equal(0, NftBytes::u8(nfproto));
  return rule;
}

NftRule on_lo() {
  NftRule rule;
  rule.meta(NFT_META_IIF, 0).equal(0, NftBytes::u32(kLoopback));
  return rule;
}

NftRule of_priority(std::uint32_t code) {
  NftRule rule = protocol(IPPROTO_UDP);
  rule.meta(NFT_META_PRIORITY, 0)
      .mask(0, NftBytes::u32(abi::kCodeMask))
      .equal(0, NftBytes::u32(code));
  return rule;
}

const kernel::NftSet& clients(std::uint8_t nfproto) {
  return nfproto == NFPROTO_IPV4 ? sets().clients4 : sets().clients6;
}

NftRule& ends_of(NftRule& rule, std::uint8_t nfproto) {
  const bool v4 = nfproto == NFPROTO_IPV4;
  const std::uint32_t size = v4 ? 4 : 16;
  const std::uint32_t words = size / 4;
  return rule.meta(NFT_META_NFPROTO, 0)
      .equal(0, NftBytes::u8(nfproto))
      .payload(NFT_PAYLOAD_NETWORK_HEADER, v4 ? 12 : 8, size, 0)
      .payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, words)
      .payload(NFT_PAYLOAD_NETWORK_HEADER, v4 ? 16 : 24, size, words + 1)
      .payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 2 * words + 1);
}

NftRule& sent_by(NftRule& rule, std::uint32_t number) {
  return rule.meta(NFT_META_PRIORITY, 0)
      .mask(0, NftBytes::u32(abi::kNumberMask))
      .equal(0, NftBytes::u32(number));
}

NftRule& begins_with_magic(NftRule& rule) {
  return rule.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 8, abi::kMagic.size(), 0)
      .equal(0, NftBytes().add_raw(abi::kMagic));
}

// --- the two endpoints of a packet ---

void End::number(NftRule& rule, std::uint32_t reg) const {
  if (kind == Kind::socket && level == 0) {
    rule.meta(NFT_META_NFPROTO, kSocketKey).map(sets().owner.name, kSocketKey, reg);
  } else if (kind == Kind::socket) {
    rule.socket_level(level, kSocketKey).map(sets().workloads.name, kSocketKey, reg);
  } else {
    rule.meta(NFT_META_PRIORITY, reg).mask(reg, NftBytes::u32(abi::kNumberMask));
  }
}

void End::group(NftRule& rule, std::uint32_t reg) const {
  number(rule, kNumber);
  rule.map(sets().groups.name, kNumber, reg);
}

void End::class_of(NftRule& rule, std::uint32_t reg) const {
  if (numbered()) {
    number(rule, kNumber);
    rule.map(sets().classes.name, kNumber, reg);
    return;
  }
  const bool v4 = nfproto == NFPROTO_IPV4;
  const std::uint32_t offset = v4 ? (of_source ? 12 : 16) : (of_source ? 8 : 24);
  rule.payload(NFT_PAYLOAD_NETWORK_HEADER, offset, v4 ? 4 : 16, kAddressKey);
  const Sets& all = sets();
  if (named) {
    const auto& set = kind == Kind::host ? (v4 ? all.local_named4 : all.local_named6)
                                         : (v4 ? all.remote_named4 : all.remote_named6);
    rule.map(set.name, kAddressKey, reg);
    return;
  }
  const auto& set =
      kind == Kind::host ? (v4 ? all.local4 : all.local6) : (v4 ? all.remote4 : all.remote6);
  rule.not_in((v4 ? all.named4 : all.named6).name, kAddressKey).map(set.name, kAddressKey, reg);
}

std::string End::text() const {
  switch (kind) {
    case Kind::socket:
      return level == 0 ? "owner" : "socket";
    case Kind::priority:
      return "priority";
    case Kind::host:
      return named ? "named local address" : "local address";
    case Kind::world:
      break;
  }
  return named ? "named remote address" : "remote address";
}

End socket_end(std::uint32_t level) {
  return {.kind = End::Kind::socket, .level = level};
}
End priority_end() {
  return {.kind = End::Kind::priority};
}
End host_end(std::uint8_t nfproto, bool of_source, bool named) {
  return {.kind = End::Kind::host, .of_source = of_source, .nfproto = nfproto, .named = named};
}
End world_end(std::uint8_t nfproto, bool of_source, bool named) {
  return {.kind = End::Kind::world, .of_source = of_source, .nfproto = nfproto, .named = named};
}

NftRule& within_share(NftRule& rule, const kernel::NftSet& shares, std::uint32_t source,
                      bool numbered, Share share) {
  if (numbered) {
    rule.immediate(source - 1, NftBytes::u32(kAnyDestination));
  }
  return rule.limit_each(shares.name, numbered ? source - 1 : source, share.per_second,
                         share.burst);
}

NftRule& within_all(NftRule& rule, const kernel::NftSet& shares, std::uint32_t source,
                    Share share) {
  return rule.immediate(source - 1, NftBytes::u32(kAnyDestination))
      .immediate(source, NftBytes::u32(abi::kNoNumber))
      .limit_each(shares.name, source - 1, share.per_second, share.burst);
}

void write_labels(NftRule& rule, const End& source, const End& destination) {
  const auto write = [&rule](const End& end, const kernel::NftSet& labels,
                             const abi::FlowLabel& host) {
    if (end.numbered()) {
      end.number(rule, kNumber);
      rule.map_bytes(labels.name, kNumber, kLabel).set_ct(NFT_CT_LABELS, kLabel);
    } else if (end.kind == End::Kind::host) {
      rule.immediate(kLabel, label_bytes(host)).set_ct(NFT_CT_LABELS, kLabel);
    }
  };
  write(source, sets().source, abi::FlowLabel::source(abi::kHost, abi::kAuthorized));
  write(destination, sets().destination, abi::FlowLabel::destination(abi::kHost, abi::kAuthorized));
}

namespace {

/// Where to find the destination port of the flow.
enum class Service : std::uint8_t {
  destination,  // the packet's destination port
  tracked,      // the packet is a reply: from conntrack, after any DNAT
  source,       // the packet's source port
};

/// profile = pairs[source class . destination class];
/// outcome = outcomes[profile . ports[protocol . port]].
/// The rule does not match if any lookup fails.
void judge(NftRule& rule, const End& source, const End& destination, Service service) {
  destination.class_of(rule, kDestinationId);
  source.class_of(rule, kSourceId);
  rule.meta(NFT_META_L4PROTO, kPortKey);
  if (service == Service::tracked) {
    rule.ct_reply(NFT_CT_PROTO_SRC, kPortKey + 1);
  } else {
    rule.payload(NFT_PAYLOAD_TRANSPORT_HEADER, service == Service::source ? 0 : 2, 2, kPortKey + 1);
  }
  rule.map(sets().ports.name, kPortKey, kPortClass);
  rule.map(sets().pairs.name, kSourceId, kProfile);
  rule.map(sets().outcomes.name, kProfile, kOutcome);
}

}  // namespace

NftRule forward(NftRule rule, const End& source, const End& destination) {
  judge(rule, source, destination, Service::destination);
  write_labels(rule, source, destination);
  rule.vmap(sets().ends.name, kOutcome)
      .comment("outcome by class: " + source.text() + " to " + destination.text());
  return rule;
}

NftRule backward(NftRule rule, const End& source, const End& destination) {
  judge(rule, destination, source, Service::tracked);
  rule.vmap(sets().ends.name, kOutcome)
      .comment("outcome by class: reply of " + source.text() + " to " + destination.text());
  return rule;
}

NftRule perhaps_backward(NftRule rule, const End& source, const End& destination) {
  judge(rule, destination, source, Service::source);
  rule.accept().comment("may be a reply of " + source.text() + " to " + destination.text());
  return rule;
}

NftRule stray_backward(NftRule rule, const End& source, const End& destination) {
  judge(rule, destination, source, Service::source);
  destination.number(rule, kNumberRegister);
  put_number(rule, abi::kStray).go_to("in_stray");
  rule.comment("may be a reply of " + source.text() + " to " + destination.text());
  return rule;
}

NftRule same_group(const End& source, const End& destination) {
  NftRule rule;
  destination.group(rule, kDestinationId);
  source.group(rule, kSourceId);
  rule.in(sets().same.name, kSourceId)
      .comment("same group: " + source.text() + " and " + destination.text());
  return rule;
}

}  // namespace trireme::datapath
