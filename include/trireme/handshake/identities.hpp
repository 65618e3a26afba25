// SPDX-License-Identifier: Apache-2.0
// The two kinds of identities in a handshake: workloads of this host, and remote identities that
// proved their labels.
#pragma once

#include <memory>
#include <string>

#include "trireme/abi/abi.hpp"
#include "trireme/credentials/trust.hpp"
#include "trireme/policy/compile.hpp"
#include "trireme/policy/labels.hpp"

namespace trireme::handshake {

/// A workload of this host with its labels in the encoding of tokens. Immutable.
struct LocalIdentity {
  /// Computes `encoded` and `hash` from the labels.
  LocalIdentity(policy::Number number, policy::LabelSet labels);

  policy::Number number = 0;
  policy::LabelSet labels;
  std::string encoded;       // LabelSet::encode()
  credentials::Digest hash;  // SHA-256 of `encoded`
};

/// A label set that the holder of a credential claims. It is proved when its handshake is complete.
/// Immutable.
struct RemoteIdentity {
  policy::Number number = 0;  // on this host, as in conntrack labels; 0: not proved yet
  policy::LabelSet labels;
  credentials::Digest hash;  // SHA-256 of the labels as encoded in the token
  std::shared_ptr<const credentials::Peer> peer;
};

/// Assigns numbers to proved identities. All threads share one book.
class IdentityBook {
 public:
  virtual ~IdentityBook() = default;
  /// Returns the identity with its number, a new one if the identity is new. Null: the book is
  /// full. Thread-safe.
  [[nodiscard]] virtual std::shared_ptr<const RemoteIdentity> enter(
      const RemoteIdentity& identity) = 0;
  /// Null if no identity has the number, or its credential is no longer trusted. Thread-safe.
  [[nodiscard]] virtual std::shared_ptr<const RemoteIdentity> find(policy::Number number) const = 0;
};

}  // namespace trireme::handshake
