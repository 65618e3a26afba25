// SPDX-License-Identifier: Apache-2.0
// Why a packet of a handshake was refused or dropped.
#pragma once

#include <array>
#include <cstdint>

namespace trireme::handshake {

enum class Reason : std::uint8_t {
  none,
  // Policy and credentials.
  policy,          // policy refuses the labels at both ends
  no_proof,        // the peer answered without a token, and policy does not allow it as one without
                   // labels
  denied_by_peer,  // the peer's host refuses it, and says why
  no_answer,       // the peer did not answer; over UDP: and policy does not allow it as one without
                   // labels
  unknown_type,    // credentials::Distrust, one by one
  bad_credential,
  untrusted,
  expired,
  usage,
  revoked,
  label_constraint,
  trust_failed,
  // What stands in the way at this end.
  unknown_workload,   // the workload has ended
  no_credential,      // [trust] names none, and the peer is elsewhere
  own_expired,        // this host's own certificate is not valid now
  token_too_large,    // labels and credential do not fit the SYN
  signed_segments,    // TCP MD5 or AO: nothing can be added
  unknown_handshake,  // nobody here began it: trireme was restarted, or it took too long
  simultaneous_open,
  // What peers did wrong, or somebody between.
  malformed_packet,
  malformed_token,
  version,
  other_address,  // the server's host names another address than the one that was asked for
  forged_reply,
  forged_proof,
  unproved_data,  // data came ahead of PROOF, or without; TCP repeats it
  conflict,       // another SYN for a handshake under way
  taken_over,     // UDP: somebody else's flow, whose ports are in use again
  // Bounds.
  busy,     // too many unknown credentials at a time
  crowded,  // too many handshakes of one source, or identities of one peer
};
inline constexpr std::size_t kReasons = static_cast<std::size_t>(Reason::crowded) + 1;

/// "no_proof": as metrics and JSON have it.
[[nodiscard]] const char* text(Reason reason);
/// "the peer offered no proof": for people.
[[nodiscard]] const char* sentence(Reason reason);

}  // namespace trireme::handshake
