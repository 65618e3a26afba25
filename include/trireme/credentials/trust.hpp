// SPDX-License-Identifier: Apache-2.0
// The credentials of this host, and those that it trusts. Immutable and shared between threads.
// Public-key operations run under a lock, once per peer.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "trireme/credentials/crypto.hpp"
#include "trireme/policy/labels.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::credentials {

using wire::CredentialType;
using Time = std::chrono::system_clock::time_point;

/// Why a credential is not trusted. Each reason has its own counter in the metrics.
enum class Distrust : std::uint8_t {
  unknown_type,  // this host has no credential of that type
  malformed,     // not a certificate, trailing bytes, no usable name, or a key that is not P-256
  untrusted,     // not signed by a CA of this host, or under an unknown secret
  expired,       // or not valid yet, beyond the leeway for clocks
  usage,         // for neither client nor server authentication, or a CA certificate
  revoked,
  labels,  // it does not vouch for the claimed labels
  failed,  // an operation of mbedTLS failed
};
[[nodiscard]] const char* text(Distrust distrust);

/// The labels that a host can vouch for: "app=web*", "env=dev". Any label if the certificate has no
/// label constraints.
class LabelConstraints {
 public:
  LabelConstraints() = default;  // any label
  explicit LabelConstraints(std::vector<policy::Label> patterns)
      : limited_(true), patterns_(std::move(patterns)) {}
  /// Returns true if a pattern covers each label of the set.
  [[nodiscard]] bool permit(const policy::LabelSet& labels) const;
  [[nodiscard]] bool limited() const { return limited_; }
  [[nodiscard]] const std::vector<policy::Label>& patterns() const { return patterns_; }

 private:
  bool limited_ = false;
  std::vector<policy::Label> patterns_;
};

/// A verified credential of a peer, and the secret shared with the peer.
struct Peer {
  CredentialType type = CredentialType::local;
  std::vector<std::uint8_t> credential;  // as received; verified again when trust changes
  Digest hash{};                         // credential_hash(type, credential)
  std::string name;  // certificate: from the SAN; PSK: claimed by the peer; local: "this host"
  LabelConstraints constraints;
  Time not_before;  // leeway included
  Time not_after;
  Key secret{};  // ECDH with this host's key, or the PSK; local: zeros
  ~Peer() { wipe(secret); }
};

/// A credential of this host.
struct OwnCredential {
  std::vector<std::uint8_t> bytes;  // empty: this host has no such credential
  Digest hash{};                    // credential_hash() of `bytes`
};

/// SHA-256 of the type (1 byte) and the credential. Identifies a credential in keys and caches.
[[nodiscard]] Digest credential_hash(CredentialType type, Bytes credential);

/// The key for a client's and a server's credential: HKDF-SHA256 with input `secret`, salt
/// "trireme v2", and info "pair" . client's hash . server's hash.
[[nodiscard]] Key pair_key(const Key& secret, const Digest& client, const Digest& server);

/// The contents of the files of [trust]. Paths identify the files in messages.
struct TrustMaterial {
  struct File {
    std::string path;  // empty: not configured
    std::string content;
    ~File();  // wipes the content
  };
  std::string host_name;  // part of the credential of a PSK
  policy::LabelSet host_labels;
  File certificate, key;
  File psk;  // one base64 secret per line: the first is offered, all are accepted (to rotate: add
             // the new one, swap the lines, remove the old one)
  std::vector<File> authorities;
  std::vector<File> revoked;
};

class Trust;
/// The number of bytes that a token has for encoded labels, in addition to the largest credential
/// that this host sends.
[[nodiscard]] std::size_t room_for_labels(const Trust& trust);

/// An error, and the path of the file of TrustMaterial that it concerns; empty if it concerns none.
struct TrustProblem : Error {
  std::string path;
};

class Trust {
 public:
  /// Only the daemon's local credential (CredentialType::local), of new random bytes.
  [[nodiscard]] static Result<std::shared_ptr<const Trust>> local();
  /// The local credential, and the credentials of `material`. If `previous` was loaded from the
  /// same material, it is returned; otherwise its local credential is kept, so that handshakes in
  /// progress succeed. On error, returns every problem, not only the first: the certificate does
  /// not match the key, is not signed by a configured CA, has a key that is not P-256 or an RSA
  /// signature, is revoked, does not vouch for the host's labels, or does not fit into a token; a
  /// PSK is shorter than 32 bytes. An expired certificate is not an error, because it can expire at
  /// any time after the load; see is_current() and doubt().
  [[nodiscard]] static tl::expected<std::shared_ptr<const Trust>, std::vector<TrustProblem>> load(
      const TrustMaterial& material, std::shared_ptr<const Trust> previous, Time now);
  virtual ~Trust() = default;

  /// Whether this host has a credential of that type; its bytes (empty if not) and hash.
  [[nodiscard]] virtual bool has(CredentialType type) const = 0;
  [[nodiscard]] virtual Bytes credential(CredentialType type) const = 0;
  [[nodiscard]] virtual const Digest& hash(CredentialType type) const = 0;
  /// The credential with which this host answers a peer. It has the peer's type. For a shared
  /// secret, it uses the secret that the peer named, not the one that this host offers, so that a
  /// secret can be rotated on one host after the other.
  [[nodiscard]] virtual const OwnCredential& answer(const Peer& peer) const = 0;
  /// The type of credential offered to remote hosts: certificate or psk; nullopt if [trust] has
  /// neither.
  [[nodiscard]] virtual std::optional<CredentialType> offered() const = 0;
  /// The labels that this host's certificate lets it vouch for.
  [[nodiscard]] virtual const LabelConstraints& constraints() const = 0;
  /// The earlier expiry of this host's certificate and its CA; Time::max() without a certificate.
  [[nodiscard]] virtual Time expires() const = 0;
  /// Whether remote hosts accept this host's certificate at `now`: the certificate and its CA are
  /// valid, with leeway for clocks. True if this host has no certificate.
  [[nodiscard]] virtual bool is_current(Time now) const = 0;
  /// A warning about the dates of this host's certificate: it is not current, or it expires within
  /// 30 days (within a third of its lifetime, if that is less).
  [[nodiscard]] virtual std::optional<Error> doubt(Time now) const = 0;
  /// One line for `trirectl status`: "certificate of web-1 by CN=fleet, until 2027-01-01".
  [[nodiscard]] virtual std::string description() const = 0;

  /// Verifies chain, validity, usage and revocation, and computes the shared secret. Takes
  /// milliseconds for a certificate. Thread-safe.
  [[nodiscard]] virtual tl::expected<std::shared_ptr<const Peer>, Distrust> verify(
      CredentialType type, Bytes credential, Time now) const = 0;
  /// A cheap check before verify(): false if the credential is malformed or its issuer or secret is
  /// unknown.
  [[nodiscard]] virtual bool plausible(CredentialType type, Bytes credential) const = 0;
};

}  // namespace trireme::credentials
