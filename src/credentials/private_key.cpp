// SPDX-License-Identifier: Apache-2.0
#include "private_key.hpp"

#include <mbedtls/ecdh.h>

#include "failure.hpp"
#include "mbedtls_versions.hpp"

namespace trireme::credentials {
namespace {

using EcdhContext = Owned<mbedtls_ecdh_context, mbedtls_ecdh_init, mbedtls_ecdh_free>;

}  // namespace

Result<std::unique_ptr<PrivateKey>> PrivateKey::parse(const std::string& content, Random& random) {
  std::unique_ptr<PrivateKey> key(new PrivateKey());
  // mbedTLS recognizes PEM by a terminating NUL; DER must not have one.
  const bool pem = content.find("-----BEGIN ") != std::string::npos;
  const std::string_view text(content.c_str(), content.size() + (pem ? 1 : 0));
  const int rc = parse_key(key->context_.get(), bytes_of(text), random);
  if (rc == MBEDTLS_ERR_PK_PASSWORD_REQUIRED) {
    return fail("is encrypted; encrypted keys are not supported",
                "decrypt it with: openssl pkey -in OLD -out NEW");
  }
  if (rc != 0) {
    return fail("contains no private key: " + failure_text(rc));
  }
  const bool curve = mbedtls_pk_get_type(key->context_.get()) == MBEDTLS_PK_ECKEY;
  if (!curve || mbedtls_pk_ec(*key->context_.get())->grp.id != MBEDTLS_ECP_DP_SECP256R1) {
    return fail("contains a key that is not P-256", "create a P-256 key with trirectl pki issue");
  }
  return key;
}

bool PrivateKey::belongs_to(const Certificate& certificate, Random& random) const {
  return check_pair(&certificate.context()->pk, context_.get(), random) == 0;
}

bool PrivateKey::agree(const Certificate& certificate, Random& random, Key& secret) const {
  std::size_t size = 0;
  EcdhContext ecdh;
  return mbedtls_ecdh_get_params(ecdh.get(), mbedtls_pk_ec(*context_.get()), MBEDTLS_ECDH_OURS) ==
             0 &&
         mbedtls_ecdh_get_params(ecdh.get(), mbedtls_pk_ec(certificate.context()->pk),
                                 MBEDTLS_ECDH_THEIRS) == 0 &&
         mbedtls_ecdh_calc_secret(ecdh.get(), &size, secret.data(), secret.size(), draw, &random) ==
             0 &&
         size == secret.size();
}

}  // namespace trireme::credentials
