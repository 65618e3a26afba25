// Credentials of others that were verified under the trust in force, and the keys shared with them: public-key work once per peer.
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "budget.hpp"
#include "trireme/handshake/engine.hpp"
#include "trireme/handshake/keys.hpp"

namespace trireme::handshake {

/// A peer and the keys of both roles, made when they are first needed.
struct KnownPeer {
  std::shared_ptr<const credentials::Peer> peer;
  std::optional<PairKeys> as_client;  // we are the client
  std::optional<PairKeys> as_server;
  /// By the labels as tokens carry them.
  std::unordered_map<std::string, std::shared_ptr<const RemoteIdentity>> identities;
};

/// Belongs to one thread. Least recently used peers are forgotten.
class PeerCache {
 public:
  explicit PeerCache(EngineStatistics& statistics) : statistics_(statistics) {}

  /// What was known holds no longer: every peer is verified again when it is next seen.
  void set_trust(std::shared_ptr<const credentials::Trust> trust);
  [[nodiscard]] const std::shared_ptr<const credentials::Trust>& trust() const { return trust_; }

  /// The verified holder of the credential, or why there is none; valid until the next call. Reason::busy: the source, or all together, ask
  /// for too much public-key work now.
  [[nodiscard]] tl::expected<KnownPeer*, Reason> find(wire::CredentialType type, Bytes credential, const policy::Address& source,
                                                      Budget& budget, const Now& now);

  /// The same without looking at the credential again; null where it is not remembered.
  [[nodiscard]] KnownPeer* remembered(wire::CredentialType type, Bytes credential);

  [[nodiscard]] static Reason reason_of(credentials::Distrust distrust);

 private:
  struct Entry {
    std::string key;  // type . credential
    tl::expected<KnownPeer, Reason> known;
    std::chrono::milliseconds until{};  // of a refusal: looked at again then
  };
  using Entries = std::list<Entry>;

  [[nodiscard]] const std::string& key(wire::CredentialType type, Bytes credential);
  void insert(std::string key, tl::expected<KnownPeer, Reason> known, std::chrono::milliseconds until);

  EngineStatistics& statistics_;
  std::shared_ptr<const credentials::Trust> trust_;
  Entries recent_;  // most recently used first
  std::unordered_map<std::string_view, Entries::iterator> by_key_;
  std::string scratch_;  // the key looked up
};

}  // namespace trireme::handshake
