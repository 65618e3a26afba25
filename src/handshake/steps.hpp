// SPDX-License-Identifier: Apache-2.0
// The steps of a handshake that TCP and UDP share: checking tokens and making them. Packets and
// policy are handled elsewhere.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "binding.hpp"
#include "conversation.hpp"
#include "surroundings.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::handshake {

/// "the token takes 1300 bytes, ...". All sizes are in bytes; `room` is what is available.
[[nodiscard]] std::string too_large(std::size_t token, std::size_t labels, std::size_t room);
/// Says what is wrong with a message that cannot be read: "peer 10.0.0.2 speaks version 1: upgrade
/// it".
[[nodiscard]] std::string unreadable(wire::BadToken bad, const policy::Address& peer,
                                     Bytes message);

// The client.

/// Reason::none if this host can begin a handshake with that address for the workload; otherwise
/// why not.
[[nodiscard]] Reason may_ask(const policy::Address& remote, const LocalIdentity& local,
                             const Surroundings& around, const Now& now);
/// Begins a handshake for `local`: draws the nonce of HELLO. False: the random number generator
/// failed.
[[nodiscard]] bool make_hello(Conversation& conversation, std::uint8_t flags,
                              std::shared_ptr<const LocalIdentity> local,
                              const Surroundings& around);
/// HELLO, with the same bytes on each call. Valid as long as the conversation.
[[nodiscard]] wire::Token hello_token(const Conversation& conversation, std::uint8_t flags);
/// The result of checking a REPLY. With Reason::forged_reply, it may not be from the server at all,
/// and the valid one may still arrive.
struct ServerClaim {
  Reason refusal = Reason::none;
  std::string detail;
  KnownPeer* peer = nullptr;  // valid until the next call of check_reply()
  PairKeys* keys = nullptr;   // valid until the next call of check_reply()
  Bytes labels;               // a part of `text`
};
/// Verifies the peer's credential and opens the sealed text into `text`, which must have the size
/// of the sealed text. REPLY is sealed with the secret of this host's credential and the server's.
[[nodiscard]] ServerClaim check_reply(Conversation& conversation, const wire::Token& reply,
                                      std::span<std::uint8_t> text, const Surroundings& around,
                                      const Now& now);
/// Checks that a valid REPLY is about this flow. If so, computes PROOF (and READY, for UDP) in the
/// conversation; if not, sets claim.refusal.
void bind_reply(ServerClaim& claim, Conversation& conversation, const wire::Token& reply,
                Bytes text, const Translation& flow, const Surroundings& around);
/// The identity with these labels, with a number. Null with `reason` set: it is refused.
[[nodiscard]] std::shared_ptr<const RemoteIdentity> identify(KnownPeer& peer, Bytes labels,
                                                             IdentityBook& book, Reason& reason);

// The server.

/// The result of checking the credential and labels of a HELLO. If `silent`, the packet is dropped
/// without a refusal: an honest client repeats its HELLO.
struct Claim {
  Reason refusal = Reason::none;
  bool silent = false;
  std::string detail;
  std::shared_ptr<const credentials::Peer> peer;
  std::shared_ptr<const RemoteIdentity> remote;
};
[[nodiscard]] Claim check_hello(const wire::Token& hello, const policy::Address& source,
                                const Surroundings& around, const Now& now);
/// Begins the handshake on the server's side.
void accept_hello(Conversation& conversation, const wire::Token& hello, const Claim& claim,
                  std::shared_ptr<const LocalIdentity> local, const Surroundings& around);
/// Call once before the first REPLY, when conntrack knows the flow. False: the random number
/// generator failed.
[[nodiscard]] bool prepare_reply(Conversation& conversation, const Translation& flow,
                                 const Surroundings& around);
/// REPLY to HELLO, with the same bytes on each call: the nonce is drawn once, so the key seals only
/// one text. Also computes the PROOF to expect in the conversation. `sealed` must have the size of
/// the encoded labels plus wire::kReplyStart; the token refers to it and to `tag`.
[[nodiscard]] wire::Token make_reply(Conversation& conversation, std::uint8_t flags,
                                     std::span<std::uint8_t> sealed, Tag& tag,
                                     const Surroundings& around);
/// Storage that a REFUSAL token refers to.
struct RefusalRoom {
  Nonce nonce{};
  std::array<std::uint8_t, wire::kReplyStart> text{};
  Tag tag{};
};
/// REFUSAL to HELLO: why there is no REPLY for this flow. Only the holder of HELLO's credential can
/// read it. None if `reason` is not one that peers may learn, or the random number generator
/// failed.
[[nodiscard]] std::optional<wire::Token> make_refusal(const wire::Token& hello,
                                                      const credentials::Peer& peer, Reason reason,
                                                      const Translation& flow, RefusalRoom& room,
                                                      const Surroundings& around);
/// Client: opens a REFUSAL into `text`. False if its tag is wrong: then anyone could have sent it.
[[nodiscard]] bool open_refusal(Conversation& conversation, const wire::Token& refusal,
                                std::span<std::uint8_t, wire::kReplyStart> text,
                                const Surroundings& around, const Now& now);
/// "denied by peer 10.0.0.2: policy there". None if the REFUSAL is about
/// another flow.
[[nodiscard]] std::optional<std::string> why_refused(const Conversation& conversation, Bytes text,
                                                     const Translation& flow,
                                                     const Surroundings& around);
/// Assigns a number to the identity that PROOF has proved.
[[nodiscard]] Reason number_peer(Conversation& conversation, const Surroundings& around,
                                 const Now& now);

}  // namespace trireme::handshake
