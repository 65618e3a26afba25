// SPDX-License-Identifier: Apache-2.0
#include "peer_cache.hpp"

namespace trireme::handshake {
namespace {

constexpr std::size_t kPeers = 2048;  // per credential type
/// How long a refused credential is refused without being verified again.
constexpr std::chrono::milliseconds kRefused{10'000};

}  // namespace

void PeerCache::set_trust(std::shared_ptr<const credentials::Trust> trust) {
  by_key_.clear();
  recent_ = {};
  statistics_.peers = 0;
  trust_ = std::move(trust);
}

Reason PeerCache::reason_of(credentials::Distrust distrust) {
  using credentials::Distrust;
  switch (distrust) {
    case Distrust::unknown_type:
      return Reason::unknown_type;
    case Distrust::malformed:
      return Reason::bad_credential;
    case Distrust::untrusted:
      return Reason::untrusted;
    case Distrust::expired:
      return Reason::expired;
    case Distrust::usage:
      return Reason::usage;
    case Distrust::revoked:
      return Reason::revoked;
    case Distrust::labels:
      return Reason::label_constraint;
    case Distrust::failed:
      break;
  }
  return Reason::trust_failed;
}

std::shared_ptr<const RemoteIdentity> KnownPeer::identity(Bytes labels, Reason& reason) const {
  thread_local std::string key;
  key.assign(reinterpret_cast<const char*>(labels.data()), labels.size());
  if (const auto known = identities.find(key); known != identities.end()) {
    return known->second;
  }
  auto set = policy::LabelSet::decode(key);
  // A label set has exactly one valid encoding, because its hash is its identity.
  if (!set || set->encode() != key) {
    reason = Reason::malformed_token;
    return nullptr;
  }
  if (!peer->constraints.permit(*set)) {
    reason = Reason::label_constraint;
    return nullptr;
  }
  return std::make_shared<const RemoteIdentity>(RemoteIdentity{
      .number = 0, .labels = std::move(*set), .hash = credentials::sha256({labels}), .peer = peer});
}

std::shared_ptr<const RemoteIdentity> KnownPeer::enter(IdentityBook& book,
                                                       const RemoteIdentity& proved) {
  constexpr std::size_t kIdentities = 512;  // per peer
  if (identities.size() >= kIdentities) {
    identities.clear();  // the book still has those in use
  }
  auto entered = book.enter(proved);
  if (entered != nullptr) {
    identities.emplace(proved.labels.encode(), entered);
  }
  return entered;
}

PairKeys& PeerCache::server_keys(const std::shared_ptr<const credentials::Trust>& spoke,
                                 const credentials::Peer& peer) {
  const Digest& own = spoke->answer(peer).hash;
  if (KnownPeer* known = spoke == trust_ ? remembered(peer.type, peer.credential) : nullptr) {
    if (!known->as_server) {
      known->as_server.emplace(peer.secret, peer.hash, own);
    }
    return *known->as_server;
  }
  return spare_keys_.emplace(peer.secret, peer.hash, own);
}

tl::expected<PairKeys*, Reason> PeerCache::client_keys(
    const std::shared_ptr<const credentials::Trust>& spoke, wire::CredentialType type,
    KnownPeer& peer, const Now& now) {
  const bool is_current = spoke == trust_;
  if (is_current && peer.as_client) {
    return &*peer.as_client;
  }
  const auto secret = client_secret(*spoke, type, *peer.peer, now);
  if (!secret) {
    return tl::unexpected(secret.error());
  }
  return &(is_current ? peer.as_client : spare_keys_)
              .emplace(*secret, spoke->hash(type), peer.peer->hash);
}

/// HELLO determines the secret of the pair: its certificate's key, or the shared secret that it
/// names. During a rotation, HELLO may have used an earlier credential than this host offers now,
/// or another shared secret than the server offers.
tl::expected<Key, Reason> PeerCache::client_secret(const credentials::Trust& spoke,
                                                   wire::CredentialType type,
                                                   const credentials::Peer& peer, const Now& now) {
  const bool is_shared = type == wire::CredentialType::psk;
  if (!is_shared && &spoke == trust_.get()) {
    return peer.secret;
  }
  const auto earlier =
      spoke.verify(type, is_shared ? spoke.credential(type) : peer.credential, now.wall);
  if (!earlier) {
    return tl::unexpected(reason_of(earlier.error()));
  }
  statistics_.verifications += is_shared ? 0 : 1;
  return (*earlier)->secret;
}

tl::expected<KnownPeer*, Reason> PeerCache::find(wire::CredentialType type, Bytes credential,
                                                 const policy::Address& source, Budget& budget,
                                                 const Now& now) {
  if (const auto found = by_key_.find(key(type, credential)); found != by_key_.end()) {
    Entry& entry = *found->second;
    const bool is_current = entry.known ? entry.known->peer->not_before <= now.wall &&
                                              now.wall <= entry.known->peer->not_after
                                        : now.monotonic < entry.until;
    if (is_current) {
      statistics_.remembered++;
      Entries& entries = recent(type);
      entries.splice(entries.begin(), entries, found->second);
      return entry.known ? tl::expected<KnownPeer*, Reason>(&*entry.known)
                         : tl::unexpected(entry.known.error());
    }
    const auto old = found->second;
    by_key_.erase(found);
    recent(type).erase(old);
  }
  if (!trust_->plausible(type, credential)) {
    return tl::unexpected(trust_->has(type) ? Reason::untrusted : Reason::unknown_type);
  }
  if (type == wire::CredentialType::certificate) {
    if (!budget.may_verify(source, now.monotonic)) {
      return tl::unexpected(Reason::busy);
    }
    statistics_.verifications++;
  }
  auto verified = trust_->verify(type, credential, now.wall);
  tl::expected<KnownPeer, Reason> known = tl::unexpected(Reason::none);
  if (verified) {
    budget.verified(source);
    known =
        KnownPeer{.peer = std::move(*verified), .as_client = {}, .as_server = {}, .identities = {}};
  } else {
    known = tl::unexpected(reason_of(verified.error()));
  }
  Entry& entry = insert(type, std::move(known), now.monotonic + kRefused);
  return entry.known ? tl::expected<KnownPeer*, Reason>(&*entry.known)
                     : tl::unexpected(entry.known.error());
}

KnownPeer* PeerCache::remembered(wire::CredentialType type, Bytes credential) {
  const auto found = by_key_.find(key(type, credential));
  return found == by_key_.end() || !found->second->known ? nullptr : &*found->second->known;
}

const std::string& PeerCache::key(wire::CredentialType type, Bytes credential) {
  scratch_.assign(1, static_cast<char>(type));
  scratch_.append(reinterpret_cast<const char*>(credential.data()), credential.size());
  return scratch_;
}

PeerCache::Entries& PeerCache::recent(wire::CredentialType type) {
  return recent_.at(static_cast<std::size_t>(type) - 1);
}

/// Inserts under scratch_, the key that was last looked up.
PeerCache::Entry& PeerCache::insert(wire::CredentialType type,
                                    tl::expected<KnownPeer, Reason> known,
                                    std::chrono::milliseconds until) {
  Entries& entries = recent(type);
  if (entries.size() >= kPeers) {
    by_key_.erase(entries.back().key);
    entries.pop_back();
  }
  entries.push_front({scratch_, std::move(known), until});
  by_key_.emplace(entries.front().key, entries.begin());
  statistics_.peers = by_key_.size();
  return entries.front();
}

}  // namespace trireme::handshake
