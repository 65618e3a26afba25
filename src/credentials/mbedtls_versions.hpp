// SPDX-License-Identifier: Apache-2.0
// The calls whose form differs between mbedTLS 2.28 (Debian 12) and 3.6 (Debian 13). No other file
// looks at the version.
#pragma once

#include <array>

#include "mbedtls.hpp"
// Must follow mbedtls.hpp, which makes private members accessible.
#include <mbedtls/sha256.h>
#include <mbedtls/version.h>

namespace trireme::credentials {

/// The serial number of a new certificate, big endian (RFC 5280, section 4.1.2.2).
using Serial = std::array<std::uint8_t, 16>;

#if MBEDTLS_VERSION_NUMBER < 0x03000000

inline int sha256_starts(mbedtls_sha256_context* context) {
  return mbedtls_sha256_starts_ret(context, 0);
}
inline int sha256_update(mbedtls_sha256_context* context, Bytes bytes) {
  return mbedtls_sha256_update_ret(context, bytes.data(), bytes.size());
}
inline int sha256_finish(mbedtls_sha256_context* context, std::uint8_t* digest) {
  return mbedtls_sha256_finish_ret(context, digest);
}
inline int parse_key(mbedtls_pk_context* key, Bytes content, Random& /*random*/) {
  return mbedtls_pk_parse_key(key, content.data(), content.size(), nullptr, 0);
}
inline int check_pair(const mbedtls_pk_context* other, const mbedtls_pk_context* own,
                      Random& /*random*/) {
  return mbedtls_pk_check_pair(other, own);
}
inline int set_serial(mbedtls_x509write_cert* writer, Serial& serial) {
  Owned<mbedtls_mpi, mbedtls_mpi_init, mbedtls_mpi_free> number;
  const int rc = mbedtls_mpi_read_binary(number.get(), serial.data(), serial.size());
  return rc != 0 ? rc : mbedtls_x509write_crt_set_serial(writer, number.get());
}

#else

inline int sha256_starts(mbedtls_sha256_context* context) {
  return mbedtls_sha256_starts(context, 0);
}
inline int sha256_update(mbedtls_sha256_context* context, Bytes bytes) {
  return mbedtls_sha256_update(context, bytes.data(), bytes.size());
}
inline int sha256_finish(mbedtls_sha256_context* context, std::uint8_t* digest) {
  return mbedtls_sha256_finish(context, digest);
}
inline int parse_key(mbedtls_pk_context* key, Bytes content, Random& random) {
  return mbedtls_pk_parse_key(key, content.data(), content.size(), nullptr, 0, draw, &random);
}
inline int check_pair(const mbedtls_pk_context* other, const mbedtls_pk_context* own,
                      Random& random) {
  return mbedtls_pk_check_pair(other, own, draw, &random);
}
inline int set_serial(mbedtls_x509write_cert* writer, Serial& serial) {
  return mbedtls_x509write_crt_set_serial_raw(writer, serial.data(), serial.size());
}

#endif

}  // namespace trireme::credentials
