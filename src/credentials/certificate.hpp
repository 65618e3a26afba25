// SPDX-License-Identifier: Apache-2.0
// A parsed X.509 certificate (RFC 5280) of a host (leaf) or a CA.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "mbedtls.hpp"
#include "trireme/credentials/trust.hpp"

namespace trireme::credentials {

/// The accepted difference between the clocks of two hosts.
inline constexpr std::chrono::minutes kLeeway(5);

/// Dates that Time cannot represent (outside of the years 1678 to 2262) are clamped.
[[nodiscard]] Time time_of(const mbedtls_x509_time& time);
/// The date in UTC: "2027-01-01".
[[nodiscard]] std::string date_text(Time time);
/// `time` plus `leeway`, which can be negative, clamped to the range of Time.
[[nodiscard]] Time with_leeway(Time time, std::chrono::minutes leeway);

/// The accepted signature algorithms: ECDSA with P-256 and SHA-2.
[[nodiscard]] const mbedtls_x509_crt_profile& profile();

class Certificate {
 public:
  /// Parses one DER certificate without trailing bytes. The error is an mbedTLS error code.
  [[nodiscard]] static tl::expected<std::unique_ptr<Certificate>, int> parse(Bytes der);

  /// Why it is not a valid host certificate at `now`, or nullopt. Does not check signature and
  /// revocation.
  [[nodiscard]] std::optional<Distrust> distrust(Time now) const;
  [[nodiscard]] bool is_authority() const;
  /// Whether `now` is within its validity, with kLeeway on both sides.
  [[nodiscard]] bool is_current(Time now) const;
  /// Whether its key usage extensions permit client or server authentication.
  [[nodiscard]] bool has_usage() const;
  [[nodiscard]] bool has_p256_key() const;
  /// The type of its key: "RSA-4096", "secp384r1".
  [[nodiscard]] std::string key_text() const;
  [[nodiscard]] bool is_signed_with_rsa() const;
  /// Its subject: "CN=fleet"; "an unnamed CA" if that is not printable.
  [[nodiscard]] std::string subject_text() const;

  /// The first DNS name of the subject alternative name, otherwise its first SPIFFE URI; empty if
  /// it has no printable one.
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const LabelConstraints& constraints() const { return constraints_; }
  [[nodiscard]] bool has_bad_constraints() const { return bad_constraints_; }
  [[nodiscard]] Time not_before() const { return time_of(context_->valid_from); }
  [[nodiscard]] Time not_after() const { return time_of(context_->valid_to); }
  [[nodiscard]] Bytes subject() const { return bytes_of(context_->subject_raw); }
  [[nodiscard]] Bytes issuer() const { return bytes_of(context_->issuer_raw); }
  [[nodiscard]] Bytes serial() const { return bytes_of(context_->serial); }
  [[nodiscard]] Bytes extensions() const { return bytes_of(context_->v3_ext); }
  [[nodiscard]] Bytes der() const { return bytes_of(context_->raw); }
  /// SHA-256 of the signed part. Used for revocation instead of a hash of the whole certificate,
  /// because the owner of a certificate can encode its signature in another valid way.
  [[nodiscard]] Digest signed_hash() const { return sha256({bytes_of(context_->tbs)}); }
  /// For public-key operations, which must run in one thread at a time.
  [[nodiscard]] mbedtls_x509_crt* context() const { return context_.get(); }

 private:
  Certificate() = default;
  static int on_extension(void* self, const mbedtls_x509_crt* certificate,
                          const mbedtls_x509_buf* oid, int critical, const unsigned char* begin,
                          const unsigned char* end);
  void read_name();

  mutable CertificateContext context_;
  std::string name_;
  LabelConstraints constraints_;
  bool bad_constraints_ = false;
  bool has_labels_ = false;         // under kLabelsOid
  bool has_former_labels_ = false;  // under kFormerLabelsOid
};

}  // namespace trireme::credentials
