// SPDX-License-Identifier: Apache-2.0
// One X.509 certificate (RFC 5280), parsed; a host's (leaf) or a CA's.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "mbedtls.hpp"
#include "trireme/credentials/trust.hpp"

namespace trireme::credentials {

/// What clocks may differ by.
inline constexpr std::chrono::minutes kLeeway(5);

/// Where it does not fit Time (years 1678 to 2262), the nearest that does.
[[nodiscard]] Time time_of(const mbedtls_x509_time& time);
/// "2027-01-01", UTC.
[[nodiscard]] std::string date_text(Time time);
/// `time` and a leeway of either sign, without overflow.
[[nodiscard]] Time with_leeway(Time time, std::chrono::minutes leeway);

/// Only as much of a certificate's signature as this is believed: ECDSA with P-256 and SHA-2.
[[nodiscard]] const mbedtls_x509_crt_profile& profile();

class Certificate {
 public:
  /// One DER certificate and nothing behind it. The error is mbedTLS's.
  [[nodiscard]] static tl::expected<std::unique_ptr<Certificate>, int> parse(Bytes der);

  /// What makes it no leaf at `now`, or nothing: all but its signature and revocation.
  [[nodiscard]] std::optional<Distrust> distrust(Time now) const;
  [[nodiscard]] bool is_authority() const;
  /// Within its dates, with kLeeway on both sides.
  [[nodiscard]] bool is_current(Time now) const;
  [[nodiscard]] bool has_usage() const;
  [[nodiscard]] bool has_p256_key() const;
  /// "RSA-4096", "secp384r1".
  [[nodiscard]] std::string key_text() const;
  /// "RSA", "ECDSA".
  [[nodiscard]] bool is_signed_with_rsa() const;
  /// "CN=fleet"; what is not printable is left out.
  [[nodiscard]] std::string subject_text() const;

  /// The first DNS name of the SAN, else its first SPIFFE URI; empty where there is none that can
  /// be shown.
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
  /// SHA-256 of what the CA signed. The whole certificate's would not do to revoke one: who holds
  /// it can write the signature in other ways.
  [[nodiscard]] Digest signed_hash() const { return sha256({bytes_of(context_->tbs)}); }
  /// For public-key work, which one thread at a time may do with it.
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
