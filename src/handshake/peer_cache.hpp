// SPDX-License-Identifier: Apache-2.0
// Cache of peer credentials that were verified under the trust in force, and of the keys shared
// with them, so that each peer costs public-key work once.
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

/// A peer and the keys of both roles, which are computed when they are first needed.
struct KnownPeer {
  /// The identity with these labels, encoded as in tokens. It has a number if it was proved before.
  /// Null with `reason` set: the labels are malformed, or the peer may not claim them.
  [[nodiscard]] std::shared_ptr<const RemoteIdentity> identity(Bytes labels, Reason& reason) const;
  /// Assigns a number to an identity that has been proved. Null: the book of identities is full.
  [[nodiscard]] std::shared_ptr<const RemoteIdentity> enter(IdentityBook& book,
                                                            const RemoteIdentity& proved);

  std::shared_ptr<const credentials::Peer> peer;
  std::optional<PairKeys> as_client;  // keys if this host is the client
  std::optional<PairKeys> as_server;  // keys if this host is the server
  /// By labels, encoded as in tokens.
  std::unordered_map<std::string, std::shared_ptr<const RemoteIdentity>> identities;
};

/// Not thread-safe. A new peer replaces the least recently used one of the same credential type.
/// The types are separate because anyone who knows the name of a shared secret can claim any number
/// of host names, and must not be able to evict certificates, which are expensive to verify.
class PeerCache {
 public:
  explicit PeerCache(EngineStatistics& statistics) : statistics_(statistics) {}

  /// Empties the cache: every peer is verified again when it is seen next.
  void set_trust(std::shared_ptr<const credentials::Trust> trust);
  [[nodiscard]] const std::shared_ptr<const credentials::Trust>& trust() const { return trust_; }

  /// The peer with this credential, verified now if it is not in the cache; valid until the next
  /// call. Or why it is refused. Reason::busy: the allowance for public-key work is used up.
  [[nodiscard]] tl::expected<KnownPeer*, Reason> find(wire::CredentialType type, Bytes credential,
                                                      const policy::Address& source, Budget& budget,
                                                      const Now& now);

  /// The peer with this credential if it is in the cache; otherwise null. Verifies nothing.
  [[nodiscard]] KnownPeer* remembered(wire::CredentialType type, Bytes credential);

  /// Keys of a handshake in which this host is the server, with the credential of trust `spoke`.
  /// They are computed again if the peer is no longer in the cache. Valid until the next call of
  /// this or of find().
  [[nodiscard]] PairKeys& server_keys(const std::shared_ptr<const credentials::Trust>& spoke,
                                      const credentials::Peer& peer);
  /// Keys of a handshake in which this host is the client. HELLO may have used an earlier
  /// credential than the one in force; the keys are those of the credential in HELLO.
  [[nodiscard]] tl::expected<PairKeys*, Reason> client_keys(
      const std::shared_ptr<const credentials::Trust>& spoke, wire::CredentialType type,
      KnownPeer& peer, const Now& now);

  [[nodiscard]] static Reason reason_of(credentials::Distrust distrust);

 private:
  struct Entry {
    std::string key;  // type . credential
    tl::expected<KnownPeer, Reason> known;
    std::chrono::milliseconds until{};  // of a refusal: when the credential is verified again
  };
  using Entries = std::list<Entry>;

  [[nodiscard]] tl::expected<Key, Reason> client_secret(const credentials::Trust& spoke,
                                                        wire::CredentialType type,
                                                        const credentials::Peer& peer,
                                                        const Now& now);
  [[nodiscard]] const std::string& key(wire::CredentialType type, Bytes credential);
  [[nodiscard]] Entries& recent(wire::CredentialType type);
  Entry& insert(wire::CredentialType type, tl::expected<KnownPeer, Reason> known,
                std::chrono::milliseconds until);

  EngineStatistics& statistics_;
  std::shared_ptr<const credentials::Trust> trust_;
  std::array<Entries, 3> recent_;  // per credential type, most recently used first
  std::unordered_map<std::string_view, Entries::iterator> by_key_;
  std::string scratch_;  // the key that was last looked up
  std::optional<PairKeys> spare_keys_;
};

}  // namespace trireme::handshake
