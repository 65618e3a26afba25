// SPDX-License-Identifier: Apache-2.0
// Who this host is to others, and whom it believes. Immutable; shared between threads; public-key
// work is done under a lock, once per peer.
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

/// Why a credential is not believed; each has a counter of its own.
enum class Distrust : std::uint8_t {
  unknown_type,  // a kind of credential that this host has none of
  malformed,     // no certificate, one with trailing bytes, or with a key that is not P-256
  untrusted,     // no CA of ours has signed it
  expired,       // or not valid yet, beyond the leeway for clocks
  usage,         // made for neither client nor server authentication, or a CA's own
  revoked,
  labels,  // it does not vouch for the labels claimed
  failed,  // the library could not do its work
};
[[nodiscard]] const char* text(Distrust distrust);

/// The labels that a host may vouch for: "app=web*", "env=dev". Unlimited where the certificate
/// does not say.
class LabelConstraints {
 public:
  LabelConstraints() = default;  // any label
  explicit LabelConstraints(std::vector<policy::Label> patterns)
      : limited_(true), patterns_(std::move(patterns)) {}
  /// Every label of the set is covered by some pattern.
  [[nodiscard]] bool permit(const policy::LabelSet& labels) const;
  [[nodiscard]] bool limited() const { return limited_; }
  [[nodiscard]] const std::vector<policy::Label>& patterns() const { return patterns_; }

 private:
  bool limited_ = false;
  std::vector<policy::Label> patterns_;
};

/// A credential of somebody else that was verified, and the secret shared with its holder.
struct Peer {
  CredentialType type = CredentialType::local;
  std::vector<std::uint8_t> credential;  // as it came: to be verified again when trust changes
  Digest hash{};                         // credential_hash(type, credential)
  std::string name;  // the host's, from the SAN; PSK: as it says itself; local: "this host"
  LabelConstraints constraints;
  Time not_before;  // leeway included
  Time not_after;
  Key secret{};  // ECDH with our key, or the PSK; local: none
  ~Peer() { wipe(secret); }
};

/// A credential of this host's own.
struct OwnCredential {
  std::vector<std::uint8_t> bytes;  // none where empty
  Digest hash{};                    // credential_hash() of them
};

/// SHA-256 of the type's byte and the credential: what names it in keys and caches.
[[nodiscard]] Digest credential_hash(CredentialType type, Bytes credential);

/// Keys between a client's and a server's credential, HKDF-SHA256(secret, "trireme v2", "pair" .
/// client's hash . server's hash).
[[nodiscard]] Key pair_key(const Key& secret, const Digest& client, const Digest& server);

/// Files of [trust], read; paths are for messages.
struct TrustMaterial {
  struct File {
    std::string path;  // empty: not named
    std::string content;
    ~File();  // wipes the content
  };
  std::string host_name;  // part of the PSK's credential
  policy::LabelSet host_labels;
  File certificate, key;
  File psk;  // base64, a secret a line: the first is offered, all are accepted (rotation: add the
             // new one, swap, take the old one away)
  std::vector<File> authorities;
  std::vector<File> revoked;
};

class Trust;
/// Bytes of encoded labels that a token has room for, beside the largest credential that this host
/// sends.
[[nodiscard]] std::size_t room_for_labels(const Trust& trust);

/// What is wrong, and with which file of TrustMaterial; its path is empty where it is none of them.
struct TrustProblem : Error {
  std::string path;
};

class Trust {
 public:
  /// No credential but the daemon's own (CredentialType::local), made of fresh random bytes.
  [[nodiscard]] static Result<std::shared_ptr<const Trust>> local();
  /// The same, and what [trust] names. `previous`, where there is one: made of the same material,
  /// it is returned as it is; else its local credential goes on, so that handshakes under way end
  /// well. Every problem of the material, not only the first: a certificate that does not belong to
  /// the key or to any CA, is no P-256 or RSA-signed, revoked itself, does not permit the host's
  /// labels, too large to fit a token (with the numbers); a PSK below 32 bytes. A certificate that
  /// has expired is none: time passes while files stay; is_current() and doubt() tell.
  [[nodiscard]] static tl::expected<std::shared_ptr<const Trust>, std::vector<TrustProblem>> load(
      const TrustMaterial& material, std::shared_ptr<const Trust> previous, Time now);
  virtual ~Trust() = default;

  /// Whether we have a credential of that type to offer, and its bytes and hash.
  [[nodiscard]] virtual bool has(CredentialType type) const = 0;
  [[nodiscard]] virtual Bytes credential(CredentialType type) const = 0;
  [[nodiscard]] virtual const Digest& hash(CredentialType type) const = 0;
  /// What we answer a peer with: of its type, and where that is a shared secret, under the very one
  /// that the peer has named, whichever we offer ourselves. So a secret can be swapped on one host
  /// after the other.
  [[nodiscard]] virtual const OwnCredential& answer(const Peer& peer) const = 0;
  /// What hosts beyond this one are offered: certificate or psk; nullopt where [trust] names
  /// neither.
  [[nodiscard]] virtual std::optional<CredentialType> offered() const = 0;
  /// What our own certificate lets us vouch for.
  [[nodiscard]] virtual const LabelConstraints& constraints() const = 0;
  [[nodiscard]] virtual Time expires() const = 0;
  /// Whether others believe our certificate now: between its dates and its CA's, as far as clocks
  /// may differ. True where we have none.
  [[nodiscard]] virtual bool is_current(Time now) const = 0;
  /// What an operator should know of our certificate's dates: it is not current, or ends within 30
  /// days, or a third of its life where that is less.
  [[nodiscard]] virtual std::optional<Error> doubt(Time now) const = 0;
  /// One line for `trirectl status`: "certificate of web-1 by CN=fleet, until 2027-01-01".
  [[nodiscard]] virtual std::string description() const = 0;

  /// Verifies chain, validity, usage and revocation and computes the shared secret: milliseconds
  /// for a certificate. Thread-safe.
  [[nodiscard]] virtual tl::expected<std::shared_ptr<const Peer>, Distrust> verify(
      CredentialType type, Bytes credential, Time now) const = 0;
  /// Cheap look before verify(): false where no CA of ours can have signed it, or it is none.
  [[nodiscard]] virtual bool plausible(CredentialType type, Bytes credential) const = 0;
};

}  // namespace trireme::credentials
