// SPDX-License-Identifier: Apache-2.0
#include "authorities.hpp"

#include <mbedtls/md.h>

#include <algorithm>

namespace trireme::credentials {
namespace {

// Removes leading zeros: DER does not allow them, but some CAs write them.
std::vector<std::uint8_t> number(Bytes serial) {
  const auto first = std::ranges::find_if(serial, [](std::uint8_t byte) { return byte != 0; });
  return {first, serial.end()};
}

}  // namespace

bool Authorities::know(Bytes issuer) const {
  return std::ranges::any_of(list_, [issuer](const auto& authority) {
    return std::ranges::equal(authority->subject(), issuer);
  });
}

bool Authorities::has_signed(const Certificate& authority, const mbedtls_x509_crl& list) {
  const bool good_hash = list.sig_md != MBEDTLS_MD_NONE &&
                         (profile().allowed_mds & MBEDTLS_X509_ID_FLAG(list.sig_md)) != 0;
  if (list.sig_pk != MBEDTLS_PK_ECDSA || !good_hash ||
      mbedtls_x509_crt_check_key_usage(authority.context(), MBEDTLS_X509_KU_CRL_SIGN) != 0) {
    return false;
  }
  std::array<std::uint8_t, MBEDTLS_MD_MAX_SIZE> hash = {};
  const auto* md = mbedtls_md_info_from_type(list.sig_md);
  return md != nullptr && mbedtls_md(md, list.tbs.p, list.tbs.len, hash.data()) == 0 &&
         mbedtls_pk_verify(&authority.context()->pk, list.sig_md, hash.data(),
                           mbedtls_md_get_size(md), list.sig.p, list.sig.len) == 0;
}

bool Authorities::revoke(const mbedtls_x509_crl& list) {
  bool known = false;
  for (const auto& authority : list_) {
    if (!has_signed(*authority, list)) {
      continue;
    }
    known = true;
    for (const auto* entry = &list.entry; entry != nullptr && entry->serial.len != 0;
         entry = entry->next) {
      serials_.emplace(authority.get(), number(bytes_of(entry->serial)));
    }
  }
  return known;
}

// Passes one CA at a time to mbedTLS, to learn which of several CAs with the same name has signed
// the certificate. Ignores the result of mbedTLS for dates, which are checked here with leeway.
tl::expected<const Certificate*, Distrust> Authorities::issuer_of(const Certificate& leaf,
                                                                  Time now) const {
  constexpr std::uint32_t kDates = MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE;
  const Certificate* outdated = nullptr;
  for (const auto& authority : list_) {
    if (!std::ranges::equal(authority->subject(), leaf.issuer())) {
      continue;
    }
    std::uint32_t flags = 0;
    const int rc =
        mbedtls_x509_crt_verify_with_profile(leaf.context(), authority->context(), nullptr,
                                             &profile(), nullptr, &flags, nullptr, nullptr);
    if (rc != 0 && rc != MBEDTLS_ERR_X509_CERT_VERIFY_FAILED) {
      return tl::unexpected(Distrust::failed);
    }
    if ((flags & ~kDates) != 0) {
      continue;
    }
    if (serials_.contains({authority.get(), number(leaf.serial())})) {
      return tl::unexpected(Distrust::revoked);
    }
    if (authority->is_current(now)) {
      return authority.get();
    }
    outdated = authority.get();
  }
  if (outdated == nullptr) {
    return tl::unexpected(Distrust::untrusted);
  }
  return outdated;
}

}  // namespace trireme::credentials
