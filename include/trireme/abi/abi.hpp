// SPDX-License-Identifier: Apache-2.0
// What the rules of table inet trireme, the gate's BPF programs and the daemon agree on: reserved
// numbers, codes in a packet's priority, bits of a flow's conntrack label, and the numbers of
// queues and log groups. This room is the only place where they are defined; a change here changes
// all three.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "trireme/abi/gate.h"

namespace trireme::abi {

// --- names in the kernel ---

/// The table, of family inet.
inline constexpr const char* kTable = "trireme";
/// Group of the log messages (nfnetlink_log) that the daemon reads.
inline constexpr std::uint16_t kLogGroup = 7434;
/// The queue of the verifier's first thread; the other threads' follow.
inline constexpr std::uint16_t kFirstQueue = 7434;
/// Threads of the verifier, at most.
inline constexpr std::size_t kMostThreads = 4;
/// The queue of the answers of name servers.
inline constexpr std::uint16_t kAnswerQueue = kFirstQueue + kMostThreads;
/// Deepest cgroup that can be enrolled, counted from the root of the hierarchy.
inline constexpr std::uint32_t kMaxLevel = 8;

// --- numbers: 24 bits that stand for a workload or a remote identity ---

using Number = std::uint32_t;

/// Not known: a peer elsewhere that has proved no labels, or a packet without a stamp.
inline constexpr Number kNoNumber = TRIREME_NOBODY;
/// A process of this host that is not a workload.
inline constexpr Number kHost = TRIREME_HOST;
/// Everything to and from it is dropped.
inline constexpr Number kQuarantine = TRIREME_QUARANTINE;
/// In the gate only: quarantined by the tracing program trireme_born when the cgroup was created;
/// the daemon has not decided yet.
inline constexpr Number kBorn = TRIREME_BORN;
/// In the gate only: the workload's cgroup is gone. In quarantine, except that connections closed
/// before that still deliver what was written, and that those whose own direction is closed end.
inline constexpr Number kEnded = TRIREME_ENDED;
/// Whether packets of a socket with this number are dropped whatever policy says, but for what
/// kEnded excepts.
[[nodiscard]] constexpr bool is_blocked(Number number) {
  return number == kQuarantine || number == kBorn || number == kEnded;
}
/// The first and the last that a workload or a remote identity can have.
inline constexpr Number kFirstNumber = TRIREME_FIRST_NUMBER;
inline constexpr Number kLastNumber = (1U << 24U) - 1U;

// --- skb->priority: the high byte is a code, the low 24 bits are a number ---

inline constexpr std::uint32_t kNumberMask = 0x00ffffff;
inline constexpr std::uint32_t kCodeMask = 0xff000000;

/// The gate's stamp on a packet on lo; the number is the sender's.
inline constexpr std::uint32_t kStamp = TRIREME_STAMP;
static_assert(TRIREME_STAMP_MASK == kCodeMask);

/// Flags of a packet that goes to the verifier; the number is that of the workload whose socket
/// sends or would receive it.
/// NAT has changed the packet's destination on OUTPUT.
inline constexpr std::uint32_t kDestinationNat = 0x01000000;
/// UDP: the flow has another's number, and is not this socket's.
inline constexpr std::uint32_t kTakenOver = 0x02000000;
/// UDP: the first datagram of a flow that conntrack knows.
inline constexpr std::uint32_t kFresh = 0x04000000;
/// TCP: a stray (docs/glossary.md). The same bit: the protocol tells them apart.
inline constexpr std::uint32_t kStray = kFresh;
/// UDP: the flow is authorized, but the remote host has reported that it does not know it.
inline constexpr std::uint32_t kRenew = 0x08000000;
/// UDP: in the direction of replies.
inline constexpr std::uint32_t kReplies = 0x10000000;
/// TCP: a request on a flow that is authorized already.
inline constexpr std::uint32_t kDecided = 0x20000000;
/// NAT of this network namespace has changed an end of the flow.
inline constexpr std::uint32_t kAnyNat = 0x40000000;

/// Codes from the verifier. A packet that did not go to the verifier can have such a priority as
/// well. Rules read it on flows with kToken only, and on segments within a connection whose flow
/// has no verdict: there its priority is cleared, or the segment is refused.
inline constexpr std::uint32_t kReserved = 0xf0000000;
enum class Ruling : std::uint32_t {
  pass = 0xf0000000,       // accepted; does not authorize its flow
  authorize = 0xf1000000,  // accepted, and its flow is authorized; the number is that of the peer
                           // elsewhere, kNoNumber for one without labels
  audit = 0xf2000000,      // like authorize, for a flow that only audit mode lets pass
  refuse = 0xf3000000,     // reset or dropped, as policy says
  exempt = 0xf7000000,     // UDP: accepted with its flow, which is no workload's
  let = 0xf6000000,   // UDP: accepted for the flow's own socket; does not authorize its flow yet
  meet = 0xf8000000,  // like authorize, for a flow between two network namespaces of this host:
                      // the answer to a request passes as well, and a datagram is MEET, which no
                      // socket receives
};
/// Packets that the verifier sends itself. kProofPriority: segments (PROOF, a SYN-ACK again,
/// REFUSAL in a reset); rules accept PROOF by it, the others take the path of their kind.
/// kControlPriority: messages of UDP; the number is the workload's at this end; kNoNumber: the flow
/// gets no label.
inline constexpr std::uint32_t kProofPriority = 0xf4000000;
inline constexpr std::uint32_t kControlPriority = 0xf5000000;

// --- conntrack label of a flow, bits 0 to 7 (the rest: flow_label.hpp) ---

enum FlowBit : std::uint32_t {
  kAuthorized = 1U << 0U,  // evaluated and allowed; an end is a workload
  kExempt = 1U << 1U,      // evaluated; no end is a workload
  kAudited = 1U << 2U,     // denied by policy, and passed in audit mode
  kLogged = 1U << 3U,      // its log line is written, or it is allowed and was seen as a sample
  kToken = 1U << 4U,    // its ends exchange tokens: until it is authorized, its packets go to the
                        // verifier
  kRenewal = 1U << 5U,  // UDP: the remote host does not know it; the next datagram goes to the
                        // verifier, which clears the bit
  kResumed = 1U << 6U,  // TCP: conntrack saw it first in the middle, perhaps by an answer
  kNear = 1U << 7U,     // both ends are on this host, in different network namespaces; authorized
                        // with its request
};
/// A segment of a flow without any of these is evaluated. (Requests and datagrams always are.)
inline constexpr std::uint32_t kVerdictBits = kAuthorized | kExempt | kAudited | kLogged;
inline constexpr std::uint32_t kFlowBits = kVerdictBits | kToken | kRenewal | kResumed | kNear;
/// Bits of the label's first word that are flags; a number's complement is above them.
inline constexpr unsigned kFlagsWidth = 8;

// --- what rules recognize in packets ---

/// The first bytes of every message of the token protocol.
inline constexpr std::array<std::uint8_t, 8> kMagic = {0x89, 'T', 'R', 'I', 'R', 'E', 'M', 'E'};
/// PROOF's TCP option: its kind (RFC 4727), and its experiment identifier (RFC 6994).
inline constexpr std::uint8_t kProofKind = 253;
inline constexpr std::uint16_t kProofExid = 0x5433;

}  // namespace trireme::abi
