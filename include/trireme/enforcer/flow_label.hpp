// SPDX-License-Identifier: Apache-2.0
// What a flow's conntrack label (128 bits) says: verdict bits, and the numbers of both ends for
// revocation and the flow log.
//
// The kernel only ORs labels. A number is therefore stored with its complement: two different
// numbers ORed together give neither, and decode() reports a conflict instead of a third party's
// number. Rules compute the words from a number in a register, so each part of it begins a word:
// bits 0-7 are flags, the rest of word 0 the complement of the source, word 1 the source, word 2
// the destination, word 3 its complement; 24 bits each.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "trireme/handshake/codes.hpp"
#include "trireme/kernel/nft.hpp"
#include "trireme/policy/compile.hpp"

namespace trireme::enforcer {

/// Conntrack label bits 0..7.
enum FlowBit : std::uint32_t {
  kAuthorised = 1U << 0U,  // judged and allowed, touches a workload
  kExempt = 1U << 1U,      // judged: touches no workload
  kAudited = 1U << 2U,     // would have been refused
  kLogged = 1U << 3U,      // its log line is written
  kToken = 1U << 4U,  // its ends exchange tokens: packets go to the verifier until it is authorised
  kRenewal = 1U << 5U,  // UDP: the far end does not know it; the next datagram goes to the
                        // verifier, which takes the bit away
  kResumed = 1U << 6U,  // TCP: conntrack knows it from within, and perhaps by an answer first
  kNear = 1U << 7U,     // both ends are on this host; authorised with its request
};

/// Verdicts: a flow without them is judged. kToken stays with a flow, so that the verifier hears of
/// what goes on in it.
inline constexpr std::uint32_t kVerdictBits = kAuthorised | kExempt | kAudited | kLogged;
inline constexpr std::uint32_t kFlowBits = kVerdictBits | kToken | kRenewal | kResumed | kNear;
static_assert(kVerdictBits == handshake::kVerdictsOfFlow && kRenewal == handshake::kRenewalOfFlow &&
              kFlowBits == handshake::kOfFlow);
inline constexpr unsigned kFlagsWidth = 8;  // bits of word 0 that are no number's

/// Numbers that are no workload's.
inline constexpr policy::Number kNoNumber = 0;    // a peer elsewhere
inline constexpr policy::Number kHost = 1;        // a process of this host that is no workload
inline constexpr policy::Number kQuarantine = 2;  // everything to and from it is dropped

/// Four 32-bit words in host order, as nf_tables registers and the conntrack entry hold them.
struct FlowLabel {
  std::array<std::uint32_t, 4> words{};

  [[nodiscard]] static FlowLabel bits(std::uint32_t flags);
  [[nodiscard]] static FlowLabel source(policy::Number number, std::uint32_t flags);
  [[nodiscard]] static FlowLabel destination(policy::Number number, std::uint32_t flags);
  [[nodiscard]] kernel::NftBytes nft() const;

  [[nodiscard]] std::uint32_t flags() const { return words[0] & ((1U << kFlagsWidth) - 1U); }
  /// kNoNumber where nothing was stored; nullopt where two writers disagreed.
  [[nodiscard]] std::optional<policy::Number> source() const;
  [[nodiscard]] std::optional<policy::Number> destination() const;
};

}  // namespace trireme::enforcer
