#include "conversation.hpp"

#include <algorithm>

namespace trireme::handshake {

Claim examine(const wire::Token& hello, const policy::Address& source, PeerCache& peers,
              Budget& budget, const Now& now) {
  Claim claim;
  const auto known = peers.find(hello.type, hello.credential, source, budget, now);
  if (!known) {
    claim.refusal = known.error();
    claim.silent = known.error() == Reason::busy;
    return claim;
  }
  if (hello.type == wire::CredentialType::certificate && !peers.trust()->is_current(now.wall)) {
    claim.refusal = Reason::own_expired;
    return claim;
  }
  if (!budget.may_open(source)) {
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

void begin(Conversation& conversation, const wire::Token& hello, const Claim& claim,
           std::shared_ptr<const LocalIdentity> local,
           std::shared_ptr<const credentials::Trust> trust) {
  conversation.trust = std::move(trust);
  conversation.type = hello.type;
  conversation.local = std::move(local);
  conversation.remote = claim.remote;
  conversation.peer = claim.peer;
  std::ranges::copy(hello.nonce, conversation.client_nonce.begin());
  conversation.hello = hello_transcript({hello.type, hello.flags}, conversation.client_nonce,
                                        claim.peer->hash, claim.remote->hash);
}

}  // namespace trireme::handshake
