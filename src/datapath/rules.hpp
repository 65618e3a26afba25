// SPDX-License-Identifier: Apache-2.0
// Building blocks of the rules of table inet trireme: matches, the two endpoints of a packet, and
// the lookups that judge it.
#pragma once

#include <netinet/in.h>
// Must follow netinet/in.h: the kernel's headers then leave out what it already defines.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>

#include "trireme/abi/flow_label.hpp"
#include "trireme/datapath/table.hpp"

namespace trireme::datapath {

// Conntrack state bits in nf_tables registers (NF_CT_STATE_BIT in
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
/// What rules report: TCP, UDP, and all other protocols (0). Only the first two have ports. In the
/// place of a port, others have something that can differ in each packet: a checksum, an id.
inline constexpr std::array<std::uint8_t, 3> kReported = {IPPROTO_TCP, IPPROTO_UDP, 0};
[[nodiscard]] kernel::NftRule reported(std::uint8_t number);
kernel::NftRule& tcp_flags(kernel::NftRule& rule, std::uint8_t mask);
/// A TCP segment with SYN and without ACK.
[[nodiscard]] kernel::NftRule connection_request();
/// A TCP segment other than a connection request; includes SYN-ACK.
[[nodiscard]] kernel::NftRule segment();
/// A TCP segment without SYN.
[[nodiscard]] kernel::NftRule within_connection();
/// The label as an operand of rules: four registers.
[[nodiscard]] kernel::NftBytes label_bytes(const abi::FlowLabel& label);
/// The flow's label has at least one of these bits; flow_lacks(): none of them.
kernel::NftRule& flow_has(kernel::NftRule& rule, std::uint32_t bits);
kernel::NftRule& flow_lacks(kernel::NftRule& rule, std::uint32_t bits);
kernel::NftRule& reply_direction(kernel::NftRule& rule);
/// The packet's socket has a cgroup: it is a listener or a connection, neither TIME_WAIT nor a
/// half-open request. any_socket() matches those too.
kernel::NftRule& full_socket(kernel::NftRule& rule);
kernel::NftRule& any_socket(kernel::NftRule& rule);
[[nodiscard]] kernel::NftRule of_family(std::uint8_t nfproto);
/// within_connection() of one family (NFPROTO_*).
[[nodiscard]] kernel::NftRule within_connection_of(std::uint8_t nfproto);
/// A packet that arrived on lo.
[[nodiscard]] kernel::NftRule on_lo();
/// A UDP packet whose priority has these high 8 bits (a code of abi/abi.hpp).
[[nodiscard]] kernel::NftRule of_priority(std::uint32_t code);
/// clients() is the set of UDP clients of that family. ends_of() loads its key into registers 0 and
/// up: source address, source port, destination address, destination port.
[[nodiscard]] const kernel::NftSet& clients(std::uint8_t nfproto);
kernel::NftRule& ends_of(kernel::NftRule& rule, std::uint8_t nfproto);
/// A packet whose priority has this number in its low 24 bits. On lo that is the stamp, if there is
/// one. This match also accepts packets without a stamp; the gate refuses those to workloads.
kernel::NftRule& sent_by(kernel::NftRule& rule, std::uint32_t number);
/// A UDP datagram of the token protocol, which begins with its magic.
kernel::NftRule& begins_with_magic(kernel::NftRule& rule);

// --- the two endpoints of a packet ---

/// Register for a number that a rule compares or uses as a key. NftRule::map() leaves the number in
/// this register and in the one before it: compare and use as a key this one, change and store the
/// other one (nft 1.0.6 lists them by different rules).
inline constexpr std::uint32_t kNumberRegister = 7;

/// One endpoint of a packet, identified by a number or by the class of its address. `socket`: the
/// workload of its socket. `priority`: the number in the packet's priority, whether it is a stamp
/// or not. `host`: an unlabeled process of this host, by its address. `world`: any other endpoint
/// without labels, by its address.
struct End {
  enum class Kind { socket, priority, host, world } kind = Kind::socket;
  std::uint32_t level = 0;   // socket: level of its cgroup; 0: the owner of the namespace
  bool of_source = false;    // host, world: the packet's source address, else its destination
  std::uint8_t nfproto = 0;  // host, world
  bool named = false;        // host, world: matches addresses with a DNS name, else without

  [[nodiscard]] bool numbered() const { return kind == Kind::socket || kind == Kind::priority; }
  /// Each loads the register; if the lookup fails, the rule does not match.
  void number(kernel::NftRule& rule, std::uint32_t reg) const;
  void group(kernel::NftRule& rule, std::uint32_t reg) const;
  void class_of(kernel::NftRule& rule, std::uint32_t reg) const;
  [[nodiscard]] std::string text() const;
};

[[nodiscard]] End socket_end(std::uint32_t level);
[[nodiscard]] End priority_end();
[[nodiscard]] End host_end(std::uint8_t nfproto, bool of_source, bool named = false);
[[nodiscard]] End world_end(std::uint8_t nfproto, bool of_source, bool named = false);

/// First of the four registers of a label. Load the number into both words of its endpoint, then
/// call make_source() or make_destination().
inline constexpr std::uint32_t kWords = 8;
/// Makes the label's words 0 and 1 from the number that both registers contain: the source.
kernel::NftRule& make_source(kernel::NftRule& rule, std::uint32_t flags);
/// Makes the label's words 2 and 3 from the number that both registers contain: the destination.
kernel::NftRule& make_destination(kernel::NftRule& rule, std::uint32_t flags);
/// Stores the number in the packet's priority as the source or the destination of the flow.
kernel::NftRule& label_by_priority(kernel::NftRule& rule, bool is_source, std::uint32_t flags);
/// Writes the number in kNumberRegister to the packet's priority, for the verifier, with `flags` of
/// abi/abi.hpp. Does not match numbers in quarantine.
kernel::NftRule& put_number(kernel::NftRule& rule, std::uint32_t flags);
/// Loads the endpoint's number, writes it to the priority and sends the packet to the verifier.
kernel::NftRule& ask_about(kernel::NftRule& rule, const End& workload, std::uint32_t flags);

/// How much of what rules report each owner can use up.
struct Share {
  std::uint32_t per_second = 0;
  std::uint32_t burst = 0;
};
/// Ends the rule if the owner of the packet's report has used up its share. Register `source` has
/// the number of the source, the next one that of the destination; the one before is overwritten. A
/// source with a number is an owner. Of sources without one, which others can invent, all those of
/// one destination are.
kernel::NftRule& within_share(kernel::NftRule& rule, const kernel::NftSet& shares,
                              std::uint32_t source, bool numbered, Share share);
/// The same for the reports of all owners, in whatever rules. Overwrites register `source` too.
kernel::NftRule& within_all(kernel::NftRule& rule, const kernel::NftSet& shares,
                            std::uint32_t source, Share share);

/// Stores both endpoints' numbers and abi::kAuthorized in the flow's label.
void write_labels(kernel::NftRule& rule, const End& source, const End& destination);
/// Judges a packet in its own direction, by its destination port.
[[nodiscard]] kernel::NftRule forward(kernel::NftRule rule, const End& source,
                                      const End& destination);
/// Judges a reply as the flow that it belongs to: from the packet's destination to its source.
[[nodiscard]] kernel::NftRule backward(kernel::NftRule rule, const End& source,
                                       const End& destination);
/// Accepts what may be a reply, judged by its source port. Whether there was a request is checked
/// elsewhere: by the gate on lo, and by TCP.
[[nodiscard]] kernel::NftRule perhaps_backward(kernel::NftRule rule, const End& source,
                                               const End& destination);
/// Like perhaps_backward(), for a segment that arrives for the destination's socket: the verifier
/// checks whether the connection exists.
[[nodiscard]] kernel::NftRule stray_backward(kernel::NftRule rule, const End& source,
                                             const End& destination);
/// Matches if both endpoints have the same group and the baseline allows it.
[[nodiscard]] kernel::NftRule same_group(const End& source, const End& destination);

}  // namespace trireme::datapath
