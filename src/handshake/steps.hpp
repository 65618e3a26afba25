// SPDX-License-Identifier: Apache-2.0
// The steps of a handshake, whatever carries it: from bytes to claims, and from a conversation to
// bytes. No packets, no policy.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "binding.hpp"
#include "conversation.hpp"
#include "surroundings.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::handshake {

/// "the token takes N bytes, ...": sizes in bytes.
[[nodiscard]] std::string too_large(std::size_t token, std::size_t labels, std::size_t room);
/// "peer 10.0.0.2 speaks version 1: upgrade it"; what is wrong with a message that cannot be read.
[[nodiscard]] std::string unreadable(wire::BadToken bad, const policy::Address& peer,
                                     Bytes message);

// The client.

/// Whether this host has something to say to that peer for the workload.
[[nodiscard]] Reason may_ask(const policy::Address& remote, const LocalIdentity& local,
                             const Surroundings& around, const Now& now);
/// Draws the nonce of a HELLO in the name of `local`, and names it. False: no randomness.
[[nodiscard]] bool make_hello(Conversation& conversation, std::uint8_t flags,
                              std::shared_ptr<const LocalIdentity> local,
                              const Surroundings& around);
/// HELLO, the same each time. Valid as long as the conversation.
[[nodiscard]] wire::Token hello_token(const Conversation& conversation, std::uint8_t flags);
/// What a REPLY is worth to its client. Reason::forged_reply: perhaps it is not the server's at
/// all, and its own may still come.
struct ServerClaim {
  Reason refusal = Reason::none;
  std::string detail;
  KnownPeer* peer = nullptr;  // until the next call
  PairKeys* keys = nullptr;   // so long too
  Bytes labels;               // within the text
};
/// REPLY is sealed with the secret of our credential and the server's. `text`: as long as what the
/// token seals.
[[nodiscard]] ServerClaim check_reply(Conversation& conversation, const wire::Token& reply,
                                      std::span<std::uint8_t> text, const Surroundings& around,
                                      const Now& now);
/// Whether a REPLY that holds is about this very flow: else `claim` refuses it. Then the
/// conversation has its PROOF (and READY, in datagrams).
void bind_reply(ServerClaim& claim, Conversation& conversation, const wire::Token& reply,
                Bytes text, const Translation& flow, const Surroundings& around);
/// Who says so, with a number. Null, and why.
[[nodiscard]] std::shared_ptr<const RemoteIdentity> identify(KnownPeer& peer, Bytes labels,
                                                             IdentityBook& book, Reason& reason);

// The server.

/// What a HELLO's credential and labels are worth to its server. A refusal that is `silent` is
/// dropped: an honest client repeats its HELLO.
struct Claim {
  Reason refusal = Reason::none;
  bool silent = false;
  std::string detail;
  std::shared_ptr<const credentials::Peer> peer;
  std::shared_ptr<const RemoteIdentity> remote;
};
[[nodiscard]] Claim check_hello(const wire::Token& hello, const policy::Address& source,
                                const Surroundings& around, const Now& now);
/// The server's part begins.
void accept_hello(Conversation& conversation, const wire::Token& hello, const Claim& claim,
                  std::shared_ptr<const LocalIdentity> local, const Surroundings& around);
/// To be called once, before the first REPLY and when conntrack knows the flow. False: no
/// randomness.
[[nodiscard]] bool prepare_reply(Conversation& conversation, const Translation& flow,
                                 const Surroundings& around);
/// REPLY to HELLO, the same bytes each time: the nonce was drawn once, and so the key seals one
/// text. What PROOF has to be is in the conversation afterwards. `sealed` is as long as the encoded
/// labels and wire::kReplyStart; the token refers to it and to `tag`.
[[nodiscard]] wire::Token make_reply(Conversation& conversation, std::uint8_t flags,
                                     std::span<std::uint8_t> sealed, Tag& tag,
                                     const Surroundings& around);
/// Room for what a REFUSAL refers to.
struct RefusalRoom {
  Nonce nonce{};
  std::array<std::uint8_t, wire::kReplyStart> text{};
  Tag tag{};
};
/// REFUSAL to HELLO, for nobody but the holder of its credential: why there is no REPLY, of the
/// flow that was asked for. None where `reason` is not for peers, or there is no randomness.
[[nodiscard]] std::optional<wire::Token> make_refusal(const wire::Token& hello,
                                                      const credentials::Peer& peer, Reason reason,
                                                      const Translation& flow, RefusalRoom& room,
                                                      const Surroundings& around);
/// The client's side of it. False where it does not hold: anybody could have sent it. `text` is as
/// in RefusalRoom.
[[nodiscard]] bool open_refusal(Conversation& conversation, const wire::Token& refusal,
                                std::span<std::uint8_t, wire::kReplyStart> text,
                                const Surroundings& around, const Now& now);
/// "denied by peer 10.0.0.2: policy refuses it"; none where it is about another flow.
[[nodiscard]] std::optional<std::string> why_refused(const Conversation& conversation, Bytes text,
                                                     const Translation& flow,
                                                     const Surroundings& around);
/// Gives the identity that PROOF has proved a number.
[[nodiscard]] Reason number_peer(Conversation& conversation, const Surroundings& around,
                                 const Now& now);

}  // namespace trireme::handshake
