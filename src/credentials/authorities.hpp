// SPDX-License-Identifier: Apache-2.0
// The CAs that this host trusts, and the certificates that these or the operator have revoked.
#pragma once

#include <set>
#include <vector>

#include "certificate.hpp"

namespace trireme::credentials {

class Authorities {
 public:
  /// Adds a CA certificate. It is trusted without a chain, self-signed or not.
  void add(std::unique_ptr<Certificate> certificate) { list_.push_back(std::move(certificate)); }
  /// Revokes a host certificate, whichever CA signed it.
  void revoke(const Certificate& certificate) { revoked_.insert(certificate.signed_hash()); }
  /// Revokes every serial of a certificate revocation list (RFC 5280, section 5). The list's
  /// nextUpdate is ignored: an outdated list stays valid, because otherwise a list that is not
  /// renewed in time would stop all connections. Returns false if no CA here has signed the list.
  [[nodiscard]] bool revoke(const mbedtls_x509_crl& list);

  [[nodiscard]] bool empty() const { return list_.empty(); }
  /// Whether a CA has this subject name (DER).
  [[nodiscard]] bool know(Bytes issuer) const;
  [[nodiscard]] bool has_revoked(const Certificate& leaf) const {
    return revoked_.contains(leaf.signed_hash());
  }
  /// The CA that signed `leaf`; prefers a CA that is valid at `now`. Performs public-key operations
  /// on the certificates: one thread at a time.
  [[nodiscard]] tl::expected<const Certificate*, Distrust> issuer_of(const Certificate& leaf,
                                                                     Time now) const;

 private:
  [[nodiscard]] static bool has_signed(const Certificate& authority, const mbedtls_x509_crl& list);

  std::vector<std::unique_ptr<Certificate>> list_;
  std::set<Digest> revoked_;
  std::set<std::pair<const Certificate*, std::vector<std::uint8_t>>> serials_;
};

}  // namespace trireme::credentials
