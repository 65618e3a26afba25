// SPDX-License-Identifier: Apache-2.0
#include "certificate.hpp"

#include <fmt/format.h>
#include <mbedtls/oid.h>

#include <algorithm>

#include "der.hpp"

namespace trireme::credentials {
namespace {

constexpr std::string_view kSpiffe = "spiffe://";

using Seconds = std::chrono::sys_seconds;
constexpr Seconds kFirst = std::chrono::ceil<std::chrono::seconds>(Time::min());
constexpr Seconds kLast = std::chrono::floor<std::chrono::seconds>(Time::max());

Time clamp(Seconds time) {
  return std::clamp(time, kFirst, kLast);
}

std::string_view text_of(const mbedtls_asn1_buf& buffer) {
  return {reinterpret_cast<const char*>(buffer.p), buffer.len};
}

// Names appear as one word in logs and in the status.
bool is_usable_name(std::string_view name) {
  return !name.empty() && policy::is_printable(name) && name.find(' ') == std::string_view::npos;
}

}  // namespace

Time time_of(const mbedtls_x509_time& time) {
  using namespace std::chrono;
  const year_month_day date(year(time.year), month(static_cast<unsigned>(time.mon)),
                            day(static_cast<unsigned>(time.day)));
  return clamp(sys_days(date) + hours(time.hour) + minutes(time.min) + seconds(time.sec));
}

std::string date_text(Time time) {
  const std::chrono::year_month_day date(std::chrono::floor<std::chrono::days>(time));
  return fmt::format("{:04}-{:02}-{:02}", int(date.year()), unsigned(date.month()),
                     unsigned(date.day()));
}

Time with_leeway(Time time, std::chrono::minutes leeway) {
  return clamp(std::chrono::floor<std::chrono::seconds>(time) + leeway);
}

const mbedtls_x509_crt_profile& profile() {
  static constexpr mbedtls_x509_crt_profile kProfile = {
      .allowed_mds = MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA256) |
                     MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA384) |
                     MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA512),
      .allowed_pks =
          MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECKEY) | MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECDSA),
      .allowed_curves = MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP256R1),
      .rsa_min_bitlen = 0,
  };
  return kProfile;
}

tl::expected<std::unique_ptr<Certificate>, int> Certificate::parse(Bytes der) {
  std::unique_ptr<Certificate> certificate(new Certificate());
  const int rc = mbedtls_x509_crt_parse_der_with_ext_cb(
      certificate->context_.get(), der.data(), der.size(), 1, on_extension, certificate.get());
  if (rc != 0) {
    return tl::unexpected(rc);
  }
  if (certificate->der().size() != der.size()) {
    return tl::unexpected(MBEDTLS_ERR_X509_INVALID_FORMAT + MBEDTLS_ERR_ASN1_LENGTH_MISMATCH);
  }
  certificate->read_name();
  return certificate;
}

// mbedTLS calls it for each extension that it does not know. Unknown extensions are only an error
// if they are critical.
int Certificate::on_extension(void* self, const mbedtls_x509_crt* /*certificate*/,
                              const mbedtls_x509_buf* oid, int critical, const unsigned char* begin,
                              const unsigned char* end) {
  auto& certificate = *static_cast<Certificate*>(self);
  const bool former = std::ranges::equal(bytes_of(*oid), kFormerLabelsOid);
  if (!former && !std::ranges::equal(bytes_of(*oid), kLabelsOid)) {
    return critical != 0 ? MBEDTLS_ERR_X509_INVALID_EXTENSIONS : 0;
  }
  // The extension can occur once under each OID; both must have the same value.
  auto patterns = read_label_patterns(Bytes(begin, end));
  bool& seen = former ? certificate.has_former_labels_ : certificate.has_labels_;
  const bool agrees = !certificate.constraints_.limited() ||
                      (patterns && *patterns == certificate.constraints_.patterns());
  certificate.bad_constraints_ = certificate.bad_constraints_ || !patterns || seen || !agrees;
  seen = true;
  certificate.constraints_ = LabelConstraints(patterns.value_or(std::vector<policy::Label>{}));
  return 0;
}

// Reads the raw entries, because mbedTLS 2.28 decodes only DNS names.
void Certificate::read_name() {
  std::string uri;
  for (const auto* entry = &context_->subject_alt_names;
       entry != nullptr && entry->buf.p != nullptr; entry = entry->next) {
    const int kind = entry->buf.tag & MBEDTLS_ASN1_TAG_VALUE_MASK;
    const std::string_view text = text_of(entry->buf);
    if (kind == MBEDTLS_X509_SAN_DNS_NAME && is_usable_name(text)) {
      name_ = text;
      return;
    }
    const bool spiffe = kind == MBEDTLS_X509_SAN_UNIFORM_RESOURCE_IDENTIFIER &&
                        text.starts_with(kSpiffe) && text.size() > kSpiffe.size();
    if (spiffe && uri.empty() && is_usable_name(text)) {
      uri = text;
    }
  }
  name_ = uri;
}

std::optional<Distrust> Certificate::distrust(Time now) const {
  if (context_->version != 3 || !has_p256_key() || name_.empty() || bad_constraints_) {
    return Distrust::malformed;
  }
  if (is_signed_with_rsa()) {
    return Distrust::untrusted;
  }
  if (is_authority() || !has_usage()) {
    return Distrust::usage;
  }
  return is_current(now) ? std::nullopt : std::optional(Distrust::expired);
}

bool Certificate::is_authority() const {
  return context_->ca_istrue != 0;
}

bool Certificate::is_current(Time now) const {
  return with_leeway(not_before(), -kLeeway) <= now && now <= with_leeway(not_after(), kLeeway);
}

// An absent extension permits every usage.
bool Certificate::has_usage() const {
  const auto key = [this](unsigned usage) {
    return mbedtls_x509_crt_check_key_usage(context_.get(), usage) == 0;
  };
  const auto purpose = [this](const char* oid, std::size_t size) {
    return mbedtls_x509_crt_check_extended_key_usage(context_.get(), oid, size) == 0;
  };
  return (key(MBEDTLS_X509_KU_DIGITAL_SIGNATURE) || key(MBEDTLS_X509_KU_KEY_AGREEMENT)) &&
         (purpose(MBEDTLS_OID_CLIENT_AUTH, MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH)) ||
          purpose(MBEDTLS_OID_SERVER_AUTH, MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH)));
}

bool Certificate::has_p256_key() const {
  const mbedtls_pk_type_t type = mbedtls_pk_get_type(&context_->pk);
  return (type == MBEDTLS_PK_ECKEY || type == MBEDTLS_PK_ECKEY_DH) &&
         mbedtls_pk_ec(context_->pk)->grp.id == MBEDTLS_ECP_DP_SECP256R1;
}

std::string Certificate::key_text() const {
  const mbedtls_pk_type_t type = mbedtls_pk_get_type(&context_->pk);
  if (type == MBEDTLS_PK_ECKEY || type == MBEDTLS_PK_ECKEY_DH) {
    const auto* curve = mbedtls_ecp_curve_info_from_grp_id(mbedtls_pk_ec(context_->pk)->grp.id);
    return curve == nullptr ? "EC" : curve->name;
  }
  return fmt::format("{}-{}", mbedtls_pk_get_name(&context_->pk),
                     mbedtls_pk_get_bitlen(&context_->pk));
}

bool Certificate::is_signed_with_rsa() const {
  return context_->sig_pk == MBEDTLS_PK_RSA || context_->sig_pk == MBEDTLS_PK_RSASSA_PSS;
}

std::string Certificate::subject_text() const {
  char text[512] = {};
  if (mbedtls_x509_dn_gets(text, sizeof text, &context_->subject) <= 0 ||
      !policy::is_printable(text)) {
    return "an unnamed CA";
  }
  return text;
}

}  // namespace trireme::credentials
