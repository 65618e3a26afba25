// SPDX-License-Identifier: Apache-2.0
// Credentials of others that were verified under the trust in force, and the keys shared with them:
// public-key work once per peer.
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
  /// The identity that the labels, as a token carries them, make; with a number where it was proved
  /// before. Null: they are not what this peer may say, and why.
  [[nodiscard]] std::shared_ptr<const RemoteIdentity> identity(Bytes labels, Reason& reason) const;
  /// The identity with a number, now that it is proved. Null: no room.
  [[nodiscard]] std::shared_ptr<const RemoteIdentity> enter(IdentityBook& book,
                                                            const RemoteIdentity& proved);

  std::shared_ptr<const credentials::Peer> peer;
  std::optional<PairKeys> as_client;  // we are the client
  std::optional<PairKeys> as_server;
  /// By the labels as tokens carry them.
  std::unordered_map<std::string, std::shared_ptr<const RemoteIdentity>> identities;
};

/// Belongs to one thread. Least recently used peers are forgotten, each for one of its own type:
/// who has read a shared secret's name can claim to be any number of hosts, and must not make
/// certificates be verified again by it.
class PeerCache {
 public:
  explicit PeerCache(EngineStatistics& statistics) : statistics_(statistics) {}

  /// What was known holds no longer: every peer is verified again when it is next seen.
  void set_trust(std::shared_ptr<const credentials::Trust> trust);
  [[nodiscard]] const std::shared_ptr<const credentials::Trust>& trust() const { return trust_; }

  /// The verified holder of the credential, or why there is none; valid until the next call.
  /// Reason::busy: the source, or all together, ask for too much public-key work now.
  [[nodiscard]] tl::expected<KnownPeer*, Reason> find(wire::CredentialType type, Bytes credential,
                                                      const policy::Address& source, Budget& budget,
                                                      const Now& now);

  /// The same without looking at the credential again; null where it is not remembered.
  [[nodiscard]] KnownPeer* remembered(wire::CredentialType type, Bytes credential);

  /// Keys of a handshake in which we, with that trust's credential, are the server. Those of a peer
  /// that was forgotten meanwhile are made anew. Valid until the next call of this or of find().
  [[nodiscard]] PairKeys& server_keys(const std::shared_ptr<const credentials::Trust>& spoke,
                                      const credentials::Peer& peer);
  /// The same where we are the client. HELLO may have spoken with an earlier credential of ours
  /// than the one in force: the secret is that one's.
  [[nodiscard]] tl::expected<PairKeys*, Reason> client_keys(
      const std::shared_ptr<const credentials::Trust>& spoke, wire::CredentialType type,
      KnownPeer& peer, const Now& now);

  [[nodiscard]] static Reason reason_of(credentials::Distrust distrust);

 private:
  struct Entry {
    std::string key;  // type . credential
    tl::expected<KnownPeer, Reason> known;
    std::chrono::milliseconds until{};  // of a refusal: looked at again then
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
  std::array<Entries, 3> recent_;  // of each type, most recently used first
  std::unordered_map<std::string_view, Entries::iterator> by_key_;
  std::string scratch_;  // the key looked up
  std::optional<PairKeys> spare_keys_;
};

}  // namespace trireme::handshake
