// SPDX-License-Identifier: Apache-2.0
#include "steps.hpp"

#include <algorithm>

#include "binding.hpp"
#include "judge.hpp"
#include "near.hpp"
#include "trireme/wire/control.hpp"

namespace trireme::handshake {
namespace {

Bytes bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

}  // namespace

std::string too_large(std::size_t token, std::size_t labels, std::size_t room) {
  return "the token takes " + std::to_string(token) + " bytes, " + std::to_string(labels) +
         " of them for labels; there is room for " + std::to_string(room);
}

std::string unreadable(wire::BadToken bad, const policy::Address& peer, Bytes message) {
  if (bad != wire::BadToken::version) {
    return wire::text(bad);
  }
  const unsigned version = wire::version_of(message);
  return "peer " + peer.text() + " speaks version " + std::to_string(version) + ": upgrade " +
         (version < wire::kVersion ? "it" : "this host");
}

Reason may_ask(const policy::Address& remote, const LocalIdentity& local,
               const Surroundings& around, const Now& now) {
  if (is_near(remote, around)) {
    return Reason::none;
  }
  const credentials::Trust& trust = *around.known_peers.trust();
  if (!trust.offered()) {
    return Reason::no_credential;
  }
  if (!trust.is_current(now.wall)) {
    return Reason::own_expired;
  }
  return trust.constraints().permit(local.labels) ? Reason::none : Reason::label_constraint;
}

bool make_hello(Conversation& conversation, std::uint8_t flags,
                std::shared_ptr<const LocalIdentity> local, const Surroundings& around) {
  conversation.trust = around.known_peers.trust();
  conversation.type = *conversation.trust->offered();
  conversation.is_near = false;
  conversation.local = std::move(local);
  if (!around.random.fill(conversation.client_nonce)) {
    return false;
  }
  conversation.own_policy = around.policy;
  conversation.hello = {{conversation.type, flags, around.policy}, conversation.local->hash};
  return true;
}

wire::Token hello_token(const Conversation& conversation, std::uint8_t flags) {
  return {.message = wire::Message::hello,
          .type = conversation.type,
          .flags = flags,
          .nonce = conversation.client_nonce,
          .policy = conversation.own_policy,
          .credential = conversation.trust->credential(conversation.type),
          .labels = bytes_of(conversation.local->encoded),
          .tag = {}};
}

ServerClaim check_reply(Conversation& conversation, const wire::Token& reply,
                        std::span<std::uint8_t> text, const Surroundings& around, const Now& now) {
  ServerClaim claim;
  const auto refuse = [&claim](Reason reason) {
    claim.refusal = reason;
    return claim;
  };
  if (reply.type != conversation.type) {
    return refuse(Reason::unknown_type);
  }
  if (reply.labels.size() < wire::kReplyStart) {
    return refuse(Reason::malformed_token);
  }
  const auto peer = around.known_peers.find(reply.type, reply.credential, conversation.key.remote,
                                            around.budget, now);
  if (!peer) {
    return refuse(peer.error());
  }
  const auto keys =
      around.known_peers.client_keys(conversation.trust, conversation.type, **peer, now);
  if (!keys) {
    return refuse(keys.error());
  }
  std::ranges::copy(reply.nonce, conversation.server_nonce.begin());
  const ReplyContext context{conversation.hello, {reply.type, reply.flags, reply.policy}};
  const Key key = (*keys)->reply_key(conversation.client_nonce, conversation.server_nonce);
  if (!open_reply(around.aead, key, context, reply.labels, reply.tag, text)) {
    return refuse(Reason::forged_reply);
  }
  conversation.peers_policy = reply.policy;
  claim.peer = *peer;
  claim.keys = *keys;
  claim.labels = text.subspan(wire::kReplyStart);
  return claim;
}

void bind_reply(ServerClaim& claim, Conversation& conversation, const wire::Token& reply,
                Bytes text, const Translation& flow, const Surroundings& around) {
  if (!is_asked(conversation, text, flow, around.host_nat)) {
    claim.detail = "the server's host names " + end_text(text.first(wire::kEndSize));
    claim.refusal = Reason::other_address;
    return;
  }
  const Nonce& nonce = conversation.server_nonce;
  conversation.proof = claim.keys->proof(nonce, reply.tag, client_end(text, flow));
  if ((reply.flags & wire::kDatagram) != 0) {
    conversation.ready = claim.keys->ready(nonce, reply.tag);
  }
}

std::shared_ptr<const RemoteIdentity> identify(KnownPeer& peer, Bytes labels, IdentityBook& book,
                                               Reason& reason) {
  auto remote = peer.identity(labels, reason);
  if (remote != nullptr && remote->number == 0) {
    remote = peer.enter(book, *remote);
    reason = Reason::crowded;
  }
  return remote;
}

Claim check_hello(const wire::Token& hello, const policy::Address& source,
                  const Surroundings& around, const Now& now) {
  Claim claim;
  const auto known =
      around.known_peers.find(hello.type, hello.credential, source, around.budget, now);
  if (!known) {
    claim.refusal = known.error();
    claim.silent = known.error() == Reason::busy;
    return claim;
  }
  if (hello.type == wire::CredentialType::certificate &&
      !around.known_peers.trust()->is_current(now.wall)) {
    claim.refusal = Reason::own_expired;
    return claim;
  }
  if (!around.budget.may_open(source)) {
    claim.refusal = Reason::crowded;
    claim.silent = true;
    return claim;
  }
  claim.peer = (*known)->peer;
  claim.remote = (*known)->identity(hello.labels, claim.refusal);
  if (claim.remote == nullptr) {
    claim.detail = claim.peer->name;
  }
  return claim;
}

void accept_hello(Conversation& conversation, const wire::Token& hello, const Claim& claim,
                  std::shared_ptr<const LocalIdentity> local, const Surroundings& around) {
  conversation.trust = around.known_peers.trust();
  conversation.type = hello.type;
  conversation.local = std::move(local);
  conversation.remote = claim.remote;
  conversation.peer = claim.peer;
  std::ranges::copy(hello.nonce, conversation.client_nonce.begin());
  conversation.peers_policy = hello.policy;
  conversation.hello = {{hello.type, hello.flags, hello.policy}, claim.remote->hash};
}

bool prepare_reply(Conversation& conversation, const Translation& flow,
                   const Surroundings& around) {
  bind_server(conversation, flow, around.host_nat);
  conversation.own_policy = around.policy;
  conversation.is_prepared = around.random.fill(conversation.server_nonce);
  return conversation.is_prepared;
}

wire::Token make_reply(Conversation& conversation, std::uint8_t flags,
                       std::span<std::uint8_t> sealed, Tag& tag, const Surroundings& around) {
  const credentials::OwnCredential& own = conversation.trust->answer(*conversation.peer);
  PairKeys& keys = around.known_peers.server_keys(conversation.trust, *conversation.peer);
  const ReplyContext context{conversation.hello,
                             {conversation.type, flags, conversation.own_policy}};
  write_reply_start(conversation, sealed);
  std::ranges::copy(bytes_of(conversation.local->encoded),
                    sealed.subspan(wire::kReplyStart).begin());
  const Nonce& nonce = conversation.server_nonce;
  seal_reply(around.aead, keys.reply_key(conversation.client_nonce, nonce), context, sealed, tag);
  expect_proof(conversation, keys, tag);
  if ((flags & wire::kDatagram) != 0) {
    conversation.ready = keys.ready(nonce, tag);
  }
  return {.message = wire::Message::reply,
          .type = conversation.type,
          .flags = flags,
          .nonce = conversation.server_nonce,
          .policy = conversation.own_policy,
          .credential = own.bytes,
          .labels = sealed,
          .tag = tag};
}

namespace {

/// The reason codes of REFUSAL, see docs/protocol.md.
enum class Code : std::uint8_t { policy = 1, labels = 2 };

}  // namespace

std::optional<wire::Token> make_refusal(const wire::Token& hello, const credentials::Peer& peer,
                                        Reason reason, const Translation& flow, RefusalRoom& room,
                                        const Surroundings& around) {
  if ((reason != Reason::policy && reason != Reason::label_constraint) ||
      !around.random.fill(room.nonce)) {
    return std::nullopt;
  }
  std::ranges::copy(end_bytes({flow.before.destination, flow.before.destination_port}),
                    room.text.begin());
  room.text[wire::kEndSize] =
      static_cast<std::uint8_t>(reason == Reason::policy ? Code::policy : Code::labels);
  Nonce client_nonce{};
  std::ranges::copy(hello.nonce, client_nonce.begin());
  const Said said{{hello.type, hello.flags, hello.policy}, credentials::sha256({hello.labels})};
  const auto& trust = around.known_peers.trust();
  const credentials::OwnCredential& own = trust->answer(peer);
  PairKeys& keys = around.known_peers.server_keys(trust, peer);
  seal_reply(around.aead, keys.refusal_key(client_nonce, room.nonce),
             {said, {hello.type, hello.flags, around.policy}}, room.text, room.tag);
  return wire::Token{.message = wire::Message::refusal,
                     .type = hello.type,
                     .flags = hello.flags,
                     .nonce = room.nonce,
                     .policy = around.policy,
                     .credential = own.bytes,
                     .labels = room.text,
                     .tag = room.tag};
}

bool open_refusal(Conversation& conversation, const wire::Token& refusal,
                  std::span<std::uint8_t, wire::kReplyStart> text, const Surroundings& around,
                  const Now& now) {
  if (refusal.type != conversation.type || refusal.labels.size() != text.size()) {
    return false;
  }
  const auto peer = around.known_peers.find(refusal.type, refusal.credential,
                                            conversation.key.remote, around.budget, now);
  const auto keys =
      peer ? around.known_peers.client_keys(conversation.trust, conversation.type, **peer, now)
           : tl::unexpected(peer.error());
  if (!keys) {
    return false;
  }
  Nonce nonce{};
  std::ranges::copy(refusal.nonce, nonce.begin());
  const ReplyContext context{conversation.hello, {refusal.type, refusal.flags, refusal.policy}};
  return open_reply(around.aead, (*keys)->refusal_key(conversation.client_nonce, nonce), context,
                    refusal.labels, refusal.tag, text);
}

std::optional<std::string> why_refused(const Conversation& conversation, Bytes text,
                                       const Translation& flow, const Surroundings& around) {
  if (!is_asked(conversation, text, flow, around.host_nat)) {
    return std::nullopt;
  }
  const auto code = static_cast<Code>(text[wire::kEndSize]);
  const std::string why = code == Code::policy ? "policy there"
                          : code == Code::labels
                              ? "this host's certificate does not vouch "
                                "for the workload's labels"
                              : "unknown reason code " + std::to_string(text.back());
  return "denied by peer " + conversation.key.remote.text() + ": " + why;
}

Reason number_peer(Conversation& conversation, const Surroundings& around, const Now& now) {
  if (conversation.remote->number != 0) {
    return Reason::none;
  }
  const auto known = around.known_peers.find(conversation.type, conversation.peer->credential,
                                             conversation.key.remote, around.budget, now);
  if (!known) {
    return known.error();
  }
  auto remote = (*known)->enter(around.book, *conversation.remote);
  if (remote == nullptr) {
    return Reason::crowded;
  }
  conversation.remote = std::move(remote);
  return Reason::none;
}

}  // namespace trireme::handshake
