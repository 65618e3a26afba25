// SPDX-License-Identifier: Apache-2.0
#include "trireme/credentials/pki.hpp"

#include <fmt/format.h>
#include <algorithm>

#include "der.hpp"
#include "failure.hpp"
#include "mbedtls_versions.hpp"
#include "private_key.hpp"
// Must follow the headers above, which make private members accessible.
#include <mbedtls/asn1write.h>
#include <mbedtls/base64.h>
#include <mbedtls/oid.h>

namespace trireme::credentials {
namespace {

using Writer =
    Owned<mbedtls_x509write_cert, mbedtls_x509write_crt_init, mbedtls_x509write_crt_free>;

constexpr std::chrono::days kAuthorityLife(3652);
constexpr std::size_t kMaxName = 64;
constexpr std::size_t kMaxPem = 8192;

constexpr std::array<std::uint8_t, 8> kNoFurtherAuthorities = {0x30, 0x06, 0x01, 0x01, 0xFF,
                                                               0x02, 0x01, 0x00};  // cA, pathLen 0
constexpr std::array<std::uint8_t, 22> kBothPurposes = {
    0x30, 0x14, 0x06, 0x08, 0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03,
    0x01, 0x06, 0x08, 0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02};

Status check_name(const std::string& name, const char* what) {
  const bool good =
      !name.empty() && name.size() <= kMaxName && std::ranges::all_of(name, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '.' || c == '-' || c == '_';
      });
  return good ? Status{}
              : Status(fail_usage(
                    {fmt::format("invalid name '{}' for a {}", name, what),
                     fmt::format("use 1 to {} letters, digits, '.', '-' and '_'", kMaxName)}));
}

// Runs a sequence of mbedTLS calls up to the first error.
class Steps {
 public:
  template <typename Call>
  Steps& then(Call&& call) {
    rc_ = rc_ == 0 ? call() : rc_;
    return *this;
  }
  [[nodiscard]] Status done(const std::string& what) const {
    return rc_ == 0 ? Status{} : Status(fail(what + ": " + failure_text(rc_)));
  }

 private:
  int rc_ = 0;
};

// Formats a time for mbedTLS: YYYYMMDDhhmmss in UTC (RFC 5280, section 4.1.2.5).
std::string time_text(Time time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(std::chrono::floor<std::chrono::seconds>(time - day));
  return fmt::format("{:04}{:02}{:02}{:02}{:02}{:02}", int(date.year()), unsigned(date.month()),
                     unsigned(date.day()), clock.hours().count(), clock.minutes().count(),
                     clock.seconds().count());
}

Status make_key(KeyContext& key, Random& random) {
  return Steps()
      .then(
          [&] { return mbedtls_pk_setup(key.get(), mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)); })
      .then([&] {
        return mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*key.get()), draw,
                                   &random);
      })
      .done("cannot generate a key");
}

// A positive number of random bits. It is unique in practice, without a counter that must be
// stored.
int set_random_serial(Writer& writer, Random& random) {
  Serial serial = {};
  if (!random.fill(serial)) {
    return MBEDTLS_ERR_ECP_RANDOM_FAILED;
  }
  serial[0] = static_cast<std::uint8_t>((serial[0] & 0x7FU) | 0x40U);
  return set_serial(writer.get(), serial);
}

int set_extension(Writer& writer, Bytes oid, bool critical, Bytes value) {
  return mbedtls_x509write_crt_set_extension(writer.get(),
                                             reinterpret_cast<const char*>(oid.data()), oid.size(),
                                             critical ? 1 : 0, value.data(), value.size());
}

Bytes oid(const char* text, std::size_t size) {
  return {reinterpret_cast<const std::uint8_t*>(text), size};
}

Status prepare(Writer& writer, const std::string& subject, Time from, Time to,
               mbedtls_pk_context* key, mbedtls_pk_context* issuer_key, Random& random) {
  mbedtls_x509write_crt_set_version(writer.get(), MBEDTLS_X509_CRT_VERSION_3);
  mbedtls_x509write_crt_set_md_alg(writer.get(), MBEDTLS_MD_SHA256);
  mbedtls_x509write_crt_set_subject_key(writer.get(), key);
  mbedtls_x509write_crt_set_issuer_key(writer.get(), issuer_key);
  return Steps()
      .then([&] { return set_random_serial(writer, random); })
      .then([&] {
        return mbedtls_x509write_crt_set_validity(writer.get(), time_text(from).c_str(),
                                                  time_text(to).c_str());
      })
      .then([&] {
        return mbedtls_x509write_crt_set_subject_name(writer.get(), ("CN=" + subject).c_str());
      })
      .done("cannot prepare the certificate of " + subject);
}

// Signs the certificate, and writes it and the key as PEM.
Result<Issued> finish(Writer& writer, mbedtls_pk_context* key, Random& random) {
  Issued issued;
  issued.certificate.resize(kMaxPem);
  issued.key.resize(kMaxPem);
  auto* certificate_text = reinterpret_cast<unsigned char*>(issued.certificate.data());
  auto* key_text = reinterpret_cast<unsigned char*>(issued.key.data());
  const Status written = Steps()
                             .then([&] {
                               return mbedtls_x509write_crt_pem(writer.get(), certificate_text,
                                                                kMaxPem, draw, &random);
                             })
                             .then([&] { return mbedtls_pk_write_key_pem(key, key_text, kMaxPem); })
                             .done("cannot write a certificate");
  if (!written) {
    return tl::unexpected(written.error());
  }
  issued.certificate.resize(issued.certificate.find('\0'));
  issued.key.resize(issued.key.find('\0'));
  return issued;
}

// Copies the parts of the CA's subject, because the issuer's name must have the same bytes, and
// mbedTLS would encode all strings with one type. Each part is prepended, because mbedTLS writes
// the list from the last to the first.
int copy_issuer(Writer& writer, const Certificate& authority) {
  for (const auto* part = &authority.context()->subject; part != nullptr && part->oid.p != nullptr;
       part = part->next) {
    mbedtls_asn1_named_data* copy = nullptr;
    if (mbedtls_asn1_store_named_data(&copy, reinterpret_cast<const char*>(part->oid.p),
                                      part->oid.len, part->val.p, part->val.len) == nullptr) {
      return MBEDTLS_ERR_X509_ALLOC_FAILED;
    }
    copy->val.tag = part->val.tag;
    copy->next = writer->issuer;
    writer->issuer = copy;
  }
  return 0;
}

struct Authority {
  std::unique_ptr<Certificate> certificate;
  std::unique_ptr<PrivateKey> key;
};

Result<Authority> read_authority(const TrustMaterial::File& file,
                                 const TrustMaterial::File& key_file, Random& random) {
  const auto blocks = read_blocks(file.content, "CERTIFICATE");
  auto certificate = blocks.empty() ? tl::unexpected(MBEDTLS_ERR_X509_CERT_UNKNOWN_FORMAT)
                                    : Certificate::parse(blocks.front());
  if (!certificate) {
    return fail(fmt::format("'{}' contains no certificate: {}", file.path,
                            failure_text(certificate.error())));
  }
  auto key = PrivateKey::parse(key_file.content, random);
  if (!key) {
    return fail(fmt::format("'{}' {}", key_file.path, key.error().message), key.error().hint);
  }
  if (!(*key)->belongs_to(**certificate, random)) {
    return fail(fmt::format("'{}' is not the key of '{}'", key_file.path, file.path));
  }
  return Authority{std::move(*certificate), std::move(*key)};
}

// The CA's identifier of its key, which can be any bytes (RFC 5280, section 4.2.1.2). Every host
// certificate, and thus every HELLO, contains it, so it has only 8 bytes; a hash would take 20.
int set_own_key_identifier(Writer& writer, Random& random) {
  std::array<std::uint8_t, 8> identifier = {};
  if (!random.fill(identifier)) {
    return MBEDTLS_ERR_ECP_RANDOM_FAILED;
  }
  return set_extension(
      writer,
      oid(MBEDTLS_OID_SUBJECT_KEY_IDENTIFIER, MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_KEY_IDENTIFIER)),
      false, write_der(MBEDTLS_ASN1_OCTET_STRING, identifier));
}

// RFC 5280 requires the CA's key identifier in its certificates, and `openssl verify -x509_strict`
// checks it. Does nothing if the CA has none.
int set_issuers_key_identifier(Writer& writer, const Certificate& authority) {
  const auto identifier = subject_key_identifier(authority.extensions());
  if (!identifier) {
    return 0;
  }
  return set_extension(writer,
                       oid(MBEDTLS_OID_AUTHORITY_KEY_IDENTIFIER,
                           MBEDTLS_OID_SIZE(MBEDTLS_OID_AUTHORITY_KEY_IDENTIFIER)),
                       false,
                       write_der(0x30, write_der(MBEDTLS_ASN1_CONTEXT_SPECIFIC, *identifier)));
}

Status set_host_extensions(Writer& writer, const HostRequest& request) {
  const Bytes host(reinterpret_cast<const std::uint8_t*>(request.host.data()), request.host.size());
  const auto names =
      write_der(0x30, write_der(MBEDTLS_ASN1_CONTEXT_SPECIFIC | MBEDTLS_X509_SAN_DNS_NAME, host));
  return Steps()
      .then([&] {
        return mbedtls_x509write_crt_set_key_usage(
            writer.get(), MBEDTLS_X509_KU_DIGITAL_SIGNATURE | MBEDTLS_X509_KU_KEY_AGREEMENT);
      })
      .then([&] {
        return set_extension(
            writer,
            oid(MBEDTLS_OID_EXTENDED_KEY_USAGE, MBEDTLS_OID_SIZE(MBEDTLS_OID_EXTENDED_KEY_USAGE)),
            false, kBothPurposes);
      })
      .then([&] {
        return set_extension(
            writer,
            oid(MBEDTLS_OID_SUBJECT_ALT_NAME, MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME)),
            false, names);
      })
      .then([&] {
        return request.labels
                   ? set_extension(writer, kLabelsOid, false, write_label_patterns(*request.labels))
                   : 0;
      })
      .done("cannot write the extensions of the certificate of " + request.host);
}

// Checks that a host can load the result.
Status try_out(const Issued& issued, const TrustMaterial::File& authority,
               const HostRequest& request, Time now) {
  TrustMaterial material;
  material.host_name = request.host;
  material.certificate.path = "host.pem";
  material.certificate.content = issued.certificate;
  material.key.path = "host.key";
  material.key.content = issued.key;
  material.authorities = {authority};
  const auto loaded = Trust::load(material, nullptr, now);
  if (!loaded) {
    return tl::unexpected<Error>(loaded.error().front());
  }
  const auto doubt = (*loaded)->is_current(now) ? std::nullopt : (*loaded)->doubt(now);
  return doubt ? Status(tl::unexpected(*doubt)) : Status{};
}

}  // namespace

Issued::~Issued() {
  wipe({reinterpret_cast<std::uint8_t*>(key.data()), key.size()});
}

Result<Issued> make_authority(const std::string& name, Time now, Random& random) {
  KeyContext key;
  Writer writer;
  const Status ready =
      check_name(name, "trust domain")
          .and_then([&] { return make_key(key, random); })
          .and_then([&] {
            return prepare(writer, name, now, now + kAuthorityLife, key.get(), key.get(), random);
          });
  if (!ready) {
    return tl::unexpected(ready.error());
  }
  const Status extended =
      Steps()
          .then([&] {
            return mbedtls_x509write_crt_set_issuer_name(writer.get(), ("CN=" + name).c_str());
          })
          .then([&] {
            return set_extension(
                writer,
                oid(MBEDTLS_OID_BASIC_CONSTRAINTS, MBEDTLS_OID_SIZE(MBEDTLS_OID_BASIC_CONSTRAINTS)),
                true, kNoFurtherAuthorities);
          })
          .then([&] {
            return mbedtls_x509write_crt_set_key_usage(
                writer.get(), MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN);
          })
          .then([&] { return set_own_key_identifier(writer, random); })
          .done("cannot write the extensions of the CA certificate");
  if (!extended) {
    return tl::unexpected(extended.error());
  }
  return finish(writer, key.get(), random);
}

Result<Issued> issue(const TrustMaterial::File& authority_file,
                     const TrustMaterial::File& authority_key, const HostRequest& request, Time now,
                     Random& random) {
  if (Status named = check_name(request.host, "host"); !named) {
    return tl::unexpected(named.error());
  }
  const auto authority = read_authority(authority_file, authority_key, random);
  if (!authority) {
    return tl::unexpected(authority.error());
  }
  const Time end = now + std::chrono::days(request.days);
  if (end > authority->certificate->not_after()) {
    return fail(fmt::format("a certificate for {} days is too long: the CA expires on {}",
                            request.days, date_text(authority->certificate->not_after())),
                "use fewer --days, or create a new CA with trirectl pki init");
  }
  KeyContext key;
  Writer writer;
  const Status ready =
      make_key(key, random)
          .and_then([&] {
            return prepare(writer, request.host, now, end, key.get(), authority->key->context(),
                           random);
          })
          .and_then([&] { return set_host_extensions(writer, request); })
          .and_then([&] {
            return Steps()
                .then([&] { return copy_issuer(writer, *authority->certificate); })
                .then([&] { return set_issuers_key_identifier(writer, *authority->certificate); })
                .done("cannot write the issuer of the certificate");
          });
  if (!ready) {
    return tl::unexpected(ready.error());
  }
  auto issued = finish(writer, key.get(), random);
  if (issued) {
    if (Status usable = try_out(*issued, authority_file, request, now); !usable) {
      return tl::unexpected(usable.error());
    }
  }
  return issued;
}

Result<std::string> make_secret(Random& random) {
  Key secret = {};
  std::array<unsigned char, 64> text = {};
  std::size_t size = 0;
  if (!random.fill(secret) ||
      mbedtls_base64_encode(text.data(), text.size(), &size, secret.data(), secret.size()) != 0) {
    return fail("the random generator failed");
  }
  wipe(secret);
  return std::string(reinterpret_cast<const char*>(text.data()), size) + "\n";
}

}  // namespace trireme::credentials
