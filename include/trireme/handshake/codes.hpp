// SPDX-License-Identifier: Apache-2.0
// What the verifier and the ruleset say to each other through a packet's priority (skb->priority),
// which both can read and write.
#pragma once

#include <cstdint>

namespace trireme::handshake {

/// To the verifier: the number of the workload whose socket sends or would receive the packet, in
/// the low 24 bits.
inline constexpr std::uint32_t kNumberMask = 0x00ffffff;
/// With it: NAT has changed the packet's destination on OUTPUT.
inline constexpr std::uint32_t kTranslated = 0x01000000;
/// With it, of UDP: the flow has another's number, and is not this socket's.
inline constexpr std::uint32_t kTakenOver = 0x02000000;
/// Of UDP: the first datagram of a flow that conntrack knows. Of TCP: a segment within a connection
/// that conntrack knows nothing of.
inline constexpr std::uint32_t kFresh = 0x04000000;
/// Of UDP: the flow is authorised, but the far end said that it does not know it.
inline constexpr std::uint32_t kRenew = 0x08000000;
/// Of UDP: in the direction of replies.
inline constexpr std::uint32_t kAnswers = 0x10000000;
/// With it, of TCP: a request on a flow that is authorised already.
inline constexpr std::uint32_t kDecided = 0x20000000;
/// With it: NAT of this network namespace has changed an end of the flow.
inline constexpr std::uint32_t kChanged = 0x40000000;

/// From the verifier, in the high 8 bits; priorities of kReserved and above are nobody else's, and
/// taken off other packets.
inline constexpr std::uint32_t kReserved = 0xf0000000;
inline constexpr std::uint32_t kRulingMask = 0xff000000;
enum class Ruling : std::uint32_t {
  pass = 0xf0000000,       // goes on; its flow is not authorised by it
  authorise = 0xf1000000,  // and so does its flow from here on; low 24 bits: the number of the peer
                           // elsewhere, 0 for one without labels
  audit = 0xf2000000,   // the same for a flow that policy would refuse, were it not in audit mode
  refuse = 0xf3000000,  // as policy says: reset or silence
  exempt = 0xf7000000,  // UDP: goes on, and so does its flow: that of a process that is no workload
  let = 0xf6000000,   // UDP: goes on to the flow's own socket; its flow is not authorised by it yet
  meet = 0xf8000000,  // authorise, of a flow whose both ends are on this host: what answers a
                      // request passes as well, and a datagram is MEET, which nobody gets
};
/// On packets that the verifier sends itself: PROOF.
inline constexpr std::uint32_t kProofPriority = 0xf4000000;
/// UDP's messages; low 24 bits: the number of the workload at this end, 0: the flow is to have no
/// label.
inline constexpr std::uint32_t kControlPriority = 0xf5000000;

/// Bits of the first word of a flow's conntrack label that the verifier takes away: its verdicts,
/// the order to renew it, all of them.
inline constexpr std::uint32_t kVerdictsOfFlow = 0x0f;
inline constexpr std::uint32_t kRenewalOfFlow = 0x20;
inline constexpr std::uint32_t kOfFlow = 0xff;

}  // namespace trireme::handshake
