// SPDX-License-Identifier: Apache-2.0
// The two kinds of ends that a handshake is about: workloads of this host, and workloads elsewhere
// that proved their labels.
#pragma once

#include <memory>
#include <string>

#include "trireme/credentials/trust.hpp"
#include "trireme/policy/compile.hpp"
#include "trireme/policy/labels.hpp"

namespace trireme::handshake {

/// The number of a process that is no workload.
inline constexpr policy::Number kHost = 1;

/// A workload of this host, as tokens speak of it. Immutable.
struct LocalIdentity {
  /// `labels` as tokens carry them.
  LocalIdentity(policy::Number number, policy::LabelSet labels);

  policy::Number number = 0;
  policy::LabelSet labels;
  std::string encoded;       // LabelSet::encode()
  credentials::Digest hash;  // SHA-256 of it
};

/// A label set that a credential's holder claims: believed once its handshake is complete.
/// Immutable.
struct RemoteIdentity {
  policy::Number number = 0;  // this host's name for it, in conntrack labels; 0: never proved yet
  policy::LabelSet labels;
  credentials::Digest hash;  // SHA-256 of the labels as the token carried them
  std::shared_ptr<const credentials::Peer> peer;
};

/// Gives numbers to identities that were proved; one for all threads.
class IdentityBook {
 public:
  virtual ~IdentityBook() = default;
  /// The same identity with its number, a fresh one where it is new. Null: no room for another.
  /// Thread-safe.
  [[nodiscard]] virtual std::shared_ptr<const RemoteIdentity> enter(
      const RemoteIdentity& identity) = 0;
  /// Null where nobody has the number, or nobody believes its holder any more. Thread-safe.
  [[nodiscard]] virtual std::shared_ptr<const RemoteIdentity> find(policy::Number number) const = 0;
};

}  // namespace trireme::handshake
