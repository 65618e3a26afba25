// SPDX-License-Identifier: Apache-2.0
// The CAs that this host believes, and what they or the operator took back.
#pragma once

#include <set>
#include <vector>

#include "certificate.hpp"

namespace trireme::credentials {

class Authorities {
 public:
  /// A CA's certificate; it is believed by itself, be it self-signed or signed by another.
  void add(std::unique_ptr<Certificate> certificate) { list_.push_back(std::move(certificate)); }
  /// A leaf that is not believed any more, whoever signed it.
  void revoke(const Certificate& certificate) { revoked_.insert(certificate.signed_hash()); }
  /// A certificate revocation list (RFC 5280, section 5): every serial that it lists counts, and
  /// goes on to count after the list's nextUpdate: a list that nobody renews must not stop the
  /// fleet. False where no CA here has signed it.
  [[nodiscard]] bool revoke(const mbedtls_x509_crl& list);

  [[nodiscard]] bool empty() const { return list_.empty(); }
  /// Whether a CA has this name (DER).
  [[nodiscard]] bool know(Bytes issuer) const;
  [[nodiscard]] bool has_revoked(const Certificate& leaf) const {
    return revoked_.contains(leaf.signed_hash());
  }
  /// The CA that signed it: one that is valid at `now` before one that is not. Public-key work: one
  /// thread at a time.
  [[nodiscard]] tl::expected<const Certificate*, Distrust> issuer_of(const Certificate& leaf,
                                                                     Time now) const;

 private:
  [[nodiscard]] static bool has_signed(const Certificate& authority, const mbedtls_x509_crl& list);

  std::vector<std::unique_ptr<Certificate>> list_;
  std::set<Digest> revoked_;
  std::set<std::pair<const Certificate*, std::vector<std::uint8_t>>> serials_;
};

}  // namespace trireme::credentials
