// SPDX-License-Identifier: Apache-2.0
// The reasons for which a packet of a handshake is refused or dropped.
#pragma once

#include <array>
#include <cstdint>

namespace trireme::handshake {

enum class Reason : std::uint8_t {
  none,
  // Policy and credentials.
  policy,          // policy denies the flow between these label sets
  no_proof,        // the peer answered without a token, and policy does not allow a peer without
                   // labels
  denied_by_peer,  // the peer's host refuses the flow, and says why
  no_answer,       // the peer did not answer; UDP: and policy does not allow a peer without labels
  unknown_type,    // this and the next seven: the values of credentials::Distrust
  bad_credential,
  untrusted,
  expired,
  usage,
  revoked,
  label_constraint,
  trust_failed,
  // Obstacles on this host.
  unknown_workload,   // the workload has ended
  no_credential,      // [trust] has no credential, and the peer is on a remote host
  own_expired,        // this host's own certificate is not valid now
  token_too_large,    // labels and credential do not fit the handshake
  signed_segments,    // TCP MD5 or TCP-AO: a token cannot be added
  unknown_handshake,  // not in the table: trireme was restarted, or the handshake timed out
  simultaneous_open,
  // Faults of the peer, or of someone on the path.
  malformed_packet,
  malformed_token,
  version,
  other_address,  // the server's host names another endpoint than the client asked for
  forged_reply,
  forged_proof,
  unproved_data,  // data arrived before PROOF, or without it; TCP repeats it
  conflict,       // another SYN during a handshake
  taken_over,     // UDP: the flow belongs to another process that used its ports before
  // Bounds.
  busy,     // too many unknown credentials at the same time
  crowded,  // too many handshakes of one source, or identities of one peer
};
inline constexpr std::size_t kReasons = static_cast<std::size_t>(Reason::crowded) + 1;

/// The name for programs, as in metrics and JSON: "no_proof".
[[nodiscard]] const char* text(Reason reason);
/// The text for people: "the peer offered no proof of labels". Empty if the event's detail has all.
[[nodiscard]] const char* sentence(Reason reason);

}  // namespace trireme::handshake
