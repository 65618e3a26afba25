// SPDX-License-Identifier: Apache-2.0
// Owning wrappers of mbedTLS objects. Allows access to members that mbedTLS 3.0 made private,
// because no accessor functions exist in both 2.28 and 3.0.
#pragma once

#define MBEDTLS_ALLOW_PRIVATE_ACCESS
#include <mbedtls/asn1.h>
#include <mbedtls/ecp.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crl.h>
#include <mbedtls/x509_crt.h>

#include "trireme/credentials/crypto.hpp"

namespace trireme::credentials {

template <typename T, void (*Init)(T*), void (*Free)(T*)>
class Owned {
 public:
  Owned() { Init(&value_); }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() { Free(&value_); }
  [[nodiscard]] T* get() { return &value_; }
  [[nodiscard]] const T* get() const { return &value_; }
  T* operator->() { return &value_; }
  const T* operator->() const { return &value_; }

 private:
  T value_;
};

using CertificateContext = Owned<mbedtls_x509_crt, mbedtls_x509_crt_init, mbedtls_x509_crt_free>;
using RevocationContext = Owned<mbedtls_x509_crl, mbedtls_x509_crl_init, mbedtls_x509_crl_free>;
using KeyContext = Owned<mbedtls_pk_context, mbedtls_pk_init, mbedtls_pk_free>;

[[nodiscard]] inline Bytes bytes_of(const mbedtls_asn1_buf& buffer) {
  return {buffer.p, buffer.len};
}

[[nodiscard]] inline Bytes bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

/// A random number callback (f_rng) for mbedTLS; `random` points to a Random.
inline int draw(void* random, unsigned char* out, std::size_t size) {
  return static_cast<Random*>(random)->fill({out, size}) ? 0 : MBEDTLS_ERR_ECP_RANDOM_FAILED;
}

}  // namespace trireme::credentials
