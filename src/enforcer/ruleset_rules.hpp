// SPDX-License-Identifier: Apache-2.0
// What rules of table inet trireme are made of: matches, the two ends of a packet, and the
// questions asked about them.
#pragma once

#include <netinet/in.h>
// The kernel's headers define what netinet/in.h has not.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>

#include "trireme/enforcer/flow_label.hpp"
#include "trireme/enforcer/ruleset.hpp"

namespace trireme::enforcer {

// Conntrack state bits as nf_tables shows them (NF_CT_STATE_BIT in
// linux/netfilter/nf_conntrack_common.h).
inline constexpr std::uint32_t kStateInvalid = 1;
inline constexpr std::uint32_t kStateEstablished = 2;
inline constexpr std::uint32_t kStateRelated = 4;

inline constexpr std::uint32_t kLoopback = 1;  // ifindex of lo, in every network namespace
inline constexpr std::uint8_t kFin = 1;
inline constexpr std::uint8_t kSyn = 2;
inline constexpr std::uint8_t kRst = 4;
inline constexpr std::uint8_t kAck = 16;

// --- matches ---

[[nodiscard]] kernel::NftRule protocol(std::uint8_t number);
kernel::NftRule& tcp_flags(kernel::NftRule& rule, std::uint8_t mask);
/// A TCP segment that asks for a connection.
[[nodiscard]] kernel::NftRule connection_request();
/// A TCP segment of a connection that exists or is being answered.
[[nodiscard]] kernel::NftRule segment();
/// A TCP segment without SYN: of a connection that has begun.
[[nodiscard]] kernel::NftRule within_connection();
kernel::NftRule& flow_has(kernel::NftRule& rule, std::uint32_t bits);
kernel::NftRule& flow_lacks(kernel::NftRule& rule, std::uint32_t bits);
kernel::NftRule& reply_direction(kernel::NftRule& rule);
/// A socket with a cgroup: a listener or a connection, neither TIME_WAIT nor a request.
kernel::NftRule& full_socket(kernel::NftRule& rule);
kernel::NftRule& any_socket(kernel::NftRule& rule);
[[nodiscard]] kernel::NftRule of_family(std::uint8_t nfproto);
/// within_connection() of one family (NFPROTO_*).
[[nodiscard]] kernel::NftRule within_connection_of(std::uint8_t nfproto);
/// What came by lo.
[[nodiscard]] kernel::NftRule on_lo();
/// A UDP packet whose priority has these high 8 bits.
[[nodiscard]] kernel::NftRule of_priority(std::uint32_t code);
/// The set of UDP clients of that family, and the key in it, from register 0 on: source, its port,
/// destination, its port.
[[nodiscard]] const kernel::NftSet& clients(std::uint8_t nfproto);
kernel::NftRule& ends_of(kernel::NftRule& rule, std::uint8_t nfproto);
/// A packet on lo that this number sent.
kernel::NftRule& sent_by(kernel::NftRule& rule, std::uint32_t number);
/// A UDP datagram of the token protocol.
kernel::NftRule& begins_with_magic(kernel::NftRule& rule);

// --- the two ends of a packet ---

/// Register for a number that a rule looks at or looks something up by; the one before it is
/// overwritten too.
inline constexpr std::uint32_t kNumberRegister = 7;

/// One end of a packet: a number, from its socket's cgroup or from the priority that it got on
/// OUTPUT; or a class by its address.
struct End {
  enum class Kind { socket, priority, local, remote } kind = Kind::socket;
  std::uint32_t level = 0;   // socket; 0: whoever has the namespace
  bool of_source = false;    // local, remote: which address
  std::uint8_t nfproto = 0;  // local, remote
  bool named = false;        // local, remote: an address that has a name; else, one that has none

  [[nodiscard]] bool numbered() const { return kind == Kind::socket || kind == Kind::priority; }
  /// Each loads the register, or ends the rule where nothing is known.
  void number(kernel::NftRule& rule, std::uint32_t reg) const;
  void group(kernel::NftRule& rule, std::uint32_t reg) const;
  void class_of(kernel::NftRule& rule, std::uint32_t reg) const;
  [[nodiscard]] std::string text() const;
};

[[nodiscard]] End socket_end(std::uint32_t level);
[[nodiscard]] End priority_end();
[[nodiscard]] End local_end(std::uint8_t nfproto, bool of_source, bool named = false);
[[nodiscard]] End remote_end(std::uint8_t nfproto, bool of_source, bool named = false);

/// Registers of a label's four words; a number is put into both words of its end before the label
/// is made of it.
inline constexpr std::uint32_t kWords = 8;
/// Words 0 and 1 of a label whose source is the number in both registers.
kernel::NftRule& make_source(kernel::NftRule& rule, std::uint32_t flags);
/// Words 2 and 3 of a label whose destination is the number in both registers.
kernel::NftRule& make_destination(kernel::NftRule& rule, std::uint32_t flags);
/// Stores the number that is in the packet's priority as the source or the destination of the flow.
kernel::NftRule& label_by_priority(kernel::NftRule& rule, bool is_source, std::uint32_t flags);
/// Puts the number in kNumberRegister, and the register before it, into the packet's priority, for
/// the verifier; `flags`: handshake/codes.hpp.
kernel::NftRule& tell_number(kernel::NftRule& rule, std::uint32_t flags);
/// The same with the end's number, and asks.
kernel::NftRule& ask_about(kernel::NftRule& rule, const End& workload, std::uint32_t flags);

/// Stores both ends' numbers and the authorisation in the flow.
void write_labels(kernel::NftRule& rule, const End& source, const End& destination);
/// A packet judged in its own direction.
[[nodiscard]] kernel::NftRule forward(kernel::NftRule rule, const End& source,
                                      const End& destination);
/// A reply: judged as the flow that it answers, sent by the one who receives this packet.
[[nodiscard]] kernel::NftRule backward(kernel::NftRule rule, const End& source,
                                       const End& destination);
/// What may be a reply, by the port that it comes from. Whether the receiver has asked is for the
/// gate to say, on lo, and for TCP.
[[nodiscard]] kernel::NftRule perhaps_backward(kernel::NftRule rule, const End& source,
                                               const End& destination);
/// The same of a segment that comes in for the destination's socket, where the verifier is asked
/// whether there is a connection.
[[nodiscard]] kernel::NftRule stray_backward(kernel::NftRule rule, const End& source,
                                             const End& destination);
[[nodiscard]] kernel::NftRule same_group(const End& source, const End& destination);

}  // namespace trireme::enforcer
