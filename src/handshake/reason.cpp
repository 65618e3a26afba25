// SPDX-License-Identifier: Apache-2.0
#include "trireme/handshake/reason.hpp"

namespace trireme::handshake {
namespace {

struct Texts {
  const char* name;
  const char* sentence;
};

constexpr std::array<Texts, kReasons> kTexts = {{
    {"none", ""},
    {"policy", "denied by policy"},
    {"no_proof", "the peer offered no proof of labels"},
    {"denied_by_peer", ""},
    {"no_answer",
     "the peer did not answer the handshake: it refuses, does not run trireme, or packets are lost "
     "on the path"},
    {"unknown_type", "this host's [trust] has no credential of the peer's type"},
    {"bad_credential", "the peer's credential is malformed"},
    {"untrusted", "no CA or secret of this host's [trust] vouches for the peer"},
    {"expired", "the peer's certificate has expired, or is not valid yet"},
    {"usage", "the peer's certificate was not issued to identify a host"},
    {"revoked", "the peer's certificate is revoked"},
    {"label_constraint", "a host's certificate does not vouch for the labels it claims"},
    {"trust_failed", "the peer's credential could not be verified"},
    {"unknown_workload", "the workload has ended"},
    {"no_credential",
     "this host has no credential for remote hosts; set one in [trust] of identity.toml"},
    {"own_expired", "this host's own certificate has expired, or is not valid yet"},
    {"token_too_large", "labels and credential do not fit the handshake"},
    {"signed_segments", "the connection is signed (TCP MD5 or TCP-AO), so no token can be added"},
    {"unknown_handshake",
     "this handshake is not known here: trireme was restarted, or the handshake timed out"},
    {"simultaneous_open", "both ends opened the connection at the same time"},
    {"malformed_packet", "the packet is malformed"},
    {"malformed_token", "the token is malformed"},
    {"version", "the peer uses another version of the token protocol"},
    {"other_address",
     "the server's address is not the one that was asked for: NAT on the path changes an address "
     "(declare it in [host] nat), or someone relays the handshake"},
    {"forged_reply",
     "the server's token is not valid: its sender does not hold the credential, or the token was "
     "changed on the path"},
    {"forged_proof",
     "the client's proof is not valid: its sender does not hold the credential, the proof was "
     "changed on the path, or NAT on the path changes the client's address (declare it in [host] "
     "nat)"},
    {"unproved_data", "data arrived before the client's proof"},
    {"conflict", "another handshake is in progress between the same ports"},
    {"taken_over",
     "the flow between these ports belongs to another process that used them a moment ago"},
    {"busy", "too many unknown credentials at the same time"},
    {"crowded", "too many handshakes or identities of one peer"},
}};

}  // namespace

const char* text(Reason reason) {
  return kTexts.at(static_cast<std::size_t>(reason)).name;
}

const char* sentence(Reason reason) {
  return kTexts.at(static_cast<std::size_t>(reason)).sentence;
}

}  // namespace trireme::handshake
