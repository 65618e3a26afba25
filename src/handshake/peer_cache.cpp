#include "peer_cache.hpp"

namespace trireme::handshake {
namespace {

constexpr std::size_t kPeers = 2048;
/// How long a refused credential is refused without another look.
constexpr std::chrono::milliseconds kRefused{10'000};

}  // namespace

void PeerCache::set_trust(std::shared_ptr<const credentials::Trust> trust) {
  by_key_.clear();
  recent_.clear();
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

tl::expected<KnownPeer*, Reason> PeerCache::find(wire::CredentialType type, Bytes credential, const policy::Address& source, Budget& budget,
                                                 const Now& now) {
  if (const auto found = by_key_.find(key(type, credential)); found != by_key_.end()) {
    Entry& entry = *found->second;
    const bool is_current =
        entry.known ? entry.known->peer->not_before <= now.wall && now.wall <= entry.known->peer->not_after : now.monotonic < entry.until;
    if (is_current) {
      statistics_.remembered++;
      recent_.splice(recent_.begin(), recent_, found->second);
      return entry.known ? tl::expected<KnownPeer*, Reason>(&*entry.known) : tl::unexpected(entry.known.error());
    }
    const auto old = found->second;
    by_key_.erase(found);
    recent_.erase(old);
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
    known = KnownPeer{.peer = std::move(*verified), .as_client = {}, .as_server = {}, .identities = {}};
  } else {
    known = tl::unexpected(reason_of(verified.error()));
  }
  insert(scratch_, std::move(known), now.monotonic + kRefused);
  Entry& entry = recent_.front();
  return entry.known ? tl::expected<KnownPeer*, Reason>(&*entry.known) : tl::unexpected(entry.known.error());
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

void PeerCache::insert(std::string key, tl::expected<KnownPeer, Reason> known, std::chrono::milliseconds until) {
  if (recent_.size() >= kPeers) {
    by_key_.erase(recent_.back().key);
    recent_.pop_back();
  }
  recent_.push_front({std::move(key), std::move(known), until});
  by_key_.emplace(recent_.front().key, recent_.begin());
  statistics_.peers = recent_.size();
}

}  // namespace trireme::handshake
