// SPDX-License-Identifier: Apache-2.0
#include "trireme/handshake/reason.hpp"

namespace trireme::handshake {
namespace {

struct Words {
  const char* name;
  const char* sentence;
};

constexpr std::array<Words, kReasons> kWords = {{
    {"none", ""},
    {"policy", "policy refuses it"},
    {"no_proof", "the peer offered no proof of labels"},
    {"denied_by_peer", ""},
    {"no_answer",
     "the peer did not answer the handshake: it refuses, has no trireme, or the way there loses "
     "it"},
    {"unknown_type", "the peer's kind of credential is not one of this host's [trust]"},
    {"bad_credential", "the peer's credential is malformed"},
    {"untrusted", "no CA or secret of this host's [trust] vouches for the peer"},
    {"expired", "the peer's certificate has expired, or is not valid yet"},
    {"usage", "the peer's certificate was not made to identify a host"},
    {"revoked", "the peer's certificate is revoked"},
    {"label_constraint", "the peer's certificate does not vouch for the labels it claims"},
    {"trust_failed", "the peer's credential could not be verified"},
    {"unknown_workload", "the workload has ended"},
    {"no_credential", "this host has no [trust] credential for peers elsewhere"},
    {"own_expired", "this host's own certificate has expired, or is not valid yet"},
    {"token_too_large", "labels and credential do not fit the handshake"},
    {"signed_segments", "TCP MD5 or AO signs the segments, so that no token can be added"},
    {"unknown_handshake",
     "nobody here knows the handshake: trireme was restarted, or it took too long"},
    {"simultaneous_open", "both ends open the connection at once"},
    {"malformed_packet", "the packet is malformed"},
    {"malformed_token", "the token is malformed"},
    {"version", "the peer speaks another version of the protocol"},
    {"other_address",
     "the server is not where it was asked for: an address is translated on the way ([host] nat "
     "declares it), or somebody passes on what others say"},
    {"forged_reply",
     "the server's token does not hold: its holder does not have the credential, or somebody "
     "changed it"},
    {"forged_proof",
     "the client's proof does not hold: its holder does not have the credential, somebody changed "
     "it, or the client's address is translated on the way ([host] nat declares it)"},
    {"unproved_data", "data came ahead of the client's proof"},
    {"conflict", "another handshake is under way between the same ports"},
    {"taken_over", "the flow between these ports is another's: they were in use a moment ago"},
    {"busy", "too many unknown credentials at a time"},
    {"crowded", "too many handshakes or identities of one peer"},
}};

}  // namespace

const char* text(Reason reason) {
  return kWords.at(static_cast<std::size_t>(reason)).name;
}

const char* sentence(Reason reason) {
  return kWords.at(static_cast<std::size_t>(reason)).sentence;
}

}  // namespace trireme::handshake
