// SPDX-License-Identifier: Apache-2.0
// The private key of this host, or of a CA in `trirectl pki issue`.
#pragma once

#include "certificate.hpp"

namespace trireme::credentials {

class PrivateKey {
 public:
  /// Parses a P-256 key: PEM or DER, SEC 1 (RFC 5915) or PKCS #8. The message of an error continues
  /// a sentence that begins with the file name.
  [[nodiscard]] static Result<std::unique_ptr<PrivateKey>> parse(const std::string& content,
                                                                 Random& random);
  /// Whether it is the key of this certificate.
  [[nodiscard]] bool belongs_to(const Certificate& certificate, Random& random) const;
  /// ECDH (NIST SP 800-56A) with the certificate's key. Sets `secret` to the x coordinate; returns
  /// false if mbedTLS failed.
  [[nodiscard]] bool agree(const Certificate& certificate, Random& random, Key& secret) const;
  [[nodiscard]] mbedtls_pk_context* context() const { return context_.get(); }

 private:
  PrivateKey() = default;
  mutable KeyContext context_;
};

}  // namespace trireme::credentials
