// SPDX-License-Identifier: Apache-2.0
// The host's own private key.
#pragma once

#include "certificate.hpp"

namespace trireme::credentials {

class PrivateKey {
 public:
  /// A P-256 key, PEM or DER, SEC 1 (RFC 5915) or PKCS #8. The error's message goes on from the
  /// file's name.
  [[nodiscard]] static Result<std::unique_ptr<PrivateKey>> parse(const std::string& content,
                                                                 Random& random);
  /// Whether it is that certificate's.
  [[nodiscard]] bool belongs_to(const Certificate& certificate, Random& random) const;
  /// ECDH (NIST SP 800-56A) with the certificate's key: the x coordinate. False where mbedTLS
  /// failed.
  [[nodiscard]] bool agree(const Certificate& certificate, Random& random, Key& secret) const;
  [[nodiscard]] mbedtls_pk_context* context() const { return context_.get(); }

 private:
  PrivateKey() = default;
  mutable KeyContext context_;
};

}  // namespace trireme::credentials
