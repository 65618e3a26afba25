// SPDX-License-Identifier: Apache-2.0
#include "failure.hpp"

#include <mbedtls/asn1.h>
#include <mbedtls/bignum.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509.h>

namespace trireme::credentials {

std::string failure_text(int rc) {
  char text[200] = {};
  mbedtls_strerror(rc, text, sizeof text);
  return text;
}

// A code is the sum of a high-level code (bits 7 to 14) and a low-level code (bits 0 to 6), both
// negative (mbedtls/error.h).
bool is_out_of_memory(int rc) {
  const int high = -(-rc & 0x7F80);
  const int low = -(-rc & 0x007F);
  return rc < 0 && (high == MBEDTLS_ERR_X509_ALLOC_FAILED || high == MBEDTLS_ERR_PK_ALLOC_FAILED ||
                    high == MBEDTLS_ERR_ECP_ALLOC_FAILED || low == MBEDTLS_ERR_ASN1_ALLOC_FAILED ||
                    low == MBEDTLS_ERR_MPI_ALLOC_FAILED);
}

}  // namespace trireme::credentials
