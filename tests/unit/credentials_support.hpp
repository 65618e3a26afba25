// SPDX-License-Identifier: Apache-2.0
// Helpers for the tests of the credentials room: creates valid and invalid certificates.
#pragma once

#include <gtest/gtest.h>
#define MBEDTLS_ALLOW_PRIVATE_ACCESS
#include <mbedtls/ecdsa.h>
#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>
#include <mbedtls/pem.h>
#include <mbedtls/pk.h>
#include <mbedtls/rsa.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/credentials/trust.hpp"

namespace trireme::credentials {

using Der = std::vector<std::uint8_t>;

inline Bytes as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

inline Der from_hex(std::string_view text) {
  Der bytes;
  for (std::size_t at = 0; at + 1 < text.size(); at += 2) {
    bytes.push_back(
        static_cast<std::uint8_t>(std::stoul(std::string(text.substr(at, 2)), nullptr, 16)));
  }
  return bytes;
}

inline std::string to_hex(Bytes bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 15U];
  }
  return text;
}

template <std::size_t N = 32>
std::array<std::uint8_t, N> array_from_hex(std::string_view text) {
  const Der bytes = from_hex(text);
  std::array<std::uint8_t, N> array = {};
  EXPECT_EQ(bytes.size(), N);
  std::copy_n(bytes.begin(), std::min(N, bytes.size()), array.begin());
  return array;
}

inline Random& test_random() {
  static Random random = Random::open().value();
  return random;
}
inline int test_rng(void*, unsigned char* out, std::size_t size) {
  return test_random().fill({out, size}) ? 0 : -1;
}

/// Noon of the day, in UTC.
inline Time day(int year, unsigned month, unsigned number) {
  using namespace std::chrono;
  return sys_days(std::chrono::year(year) / std::chrono::month(month) / std::chrono::day(number)) +
         hours(12);
}
/// The current time of the tests.
inline Time now() {
  return day(2026, 6, 15);
}

class TestKey {
 public:
  static constexpr int kRsa2048 = -1;
  explicit TestKey(int curve = MBEDTLS_ECP_DP_SECP256R1) {
    mbedtls_pk_init(&context_);
    if (curve == kRsa2048) {
      EXPECT_EQ(mbedtls_pk_setup(&context_, mbedtls_pk_info_from_type(MBEDTLS_PK_RSA)), 0);
      EXPECT_EQ(mbedtls_rsa_gen_key(mbedtls_pk_rsa(context_), test_rng, nullptr, 2048, 65537), 0);
    } else {
      EXPECT_EQ(mbedtls_pk_setup(&context_, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), 0);
      EXPECT_EQ(mbedtls_ecp_gen_key(static_cast<mbedtls_ecp_group_id>(curve),
                                    mbedtls_pk_ec(context_), test_rng, nullptr),
                0);
    }
  }
  TestKey(const TestKey&) = delete;
  TestKey& operator=(const TestKey&) = delete;
  ~TestKey() { mbedtls_pk_free(&context_); }
  [[nodiscard]] mbedtls_pk_context* get() { return &context_; }
  [[nodiscard]] std::string pem() {
    std::array<unsigned char, 4096> buffer = {};
    EXPECT_EQ(mbedtls_pk_write_key_pem(&context_, buffer.data(), buffer.size()), 0);
    return reinterpret_cast<const char*>(buffer.data());
  }
  /// An ECDSA signature of the bytes with SHA-256.
  [[nodiscard]] Der sign(const Der& bytes) {
    const Digest hash = sha256({bytes});
    Der signature(MBEDTLS_ECDSA_MAX_LEN);
    std::size_t size = 0;
#if MBEDTLS_VERSION_NUMBER < 0x03000000
    EXPECT_EQ(mbedtls_pk_sign(&context_, MBEDTLS_MD_SHA256, hash.data(), hash.size(),
                              signature.data(), &size, test_rng, nullptr),
              0);
#else
    EXPECT_EQ(mbedtls_pk_sign(&context_, MBEDTLS_MD_SHA256, hash.data(), hash.size(),
                              signature.data(), signature.size(), &size, test_rng, nullptr),
              0);
#endif
    signature.resize(size);
    return signature;
  }

 private:
  mbedtls_pk_context context_;
};

struct Extension {
  Der oid;
  bool critical = false;
  Der value;
};

inline Der element(int tag, const Der& content) {
  Der out = {static_cast<std::uint8_t>(tag)};
  if (content.size() >= 0x80) {
    out.push_back(0x82);
    out.push_back(static_cast<std::uint8_t>(content.size() >> 8U));
  }
  out.push_back(static_cast<std::uint8_t>(content.size() & 0xFFU));
  out.insert(out.end(), content.begin(), content.end());
  return out;
}
inline Der element(int tag, std::string_view content) {
  return element(tag, Der(content.begin(), content.end()));
}
inline Der operator+(Der left, const Der& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

inline Extension san(const Der& names) {
  return {{0x55, 0x1D, 0x11}, false, element(0x30, names)};
}
inline Der dns(std::string_view name) {
  return element(0x82, name);
}
inline Der uri(std::string_view name) {
  return element(0x86, name);
}
inline Extension extended_usage(const Der& oids) {
  return {{0x55, 0x1D, 0x25}, false, element(0x30, oids)};
}
inline const Der kClientAuth = from_hex("06082b06010505070302");
inline const Der kServerAuth = from_hex("06082b06010505070301");
inline const Der kCodeSigning = from_hex("06082b06010505070303");
inline const Der kLabelsExtension =
    from_hex("2a864886f71401be40937a82aa1781f12f82ed67818e0782bb0582928b418396f833");
inline const Der kFormerLabelsExtension = from_hex("6982aa97bcabf6eeba9c8f9dc2d190dc8b96f833");
inline Extension labels(const std::vector<std::string>& patterns, bool critical = false,
                        const Der& oid = kLabelsExtension) {
  Der list;
  for (const auto& pattern : patterns) {
    list = list + element(0x0C, pattern);
  }
  return {oid, critical, element(0x30, list)};
}

struct CertificateSpec {
  std::string subject = "CN=web-1";
  std::string from = "20260101000000";
  std::string to = "20270101000000";
  int version = MBEDTLS_X509_CRT_VERSION_3;
  bool authority = false;
  std::optional<unsigned> usage = {};
  std::vector<Extension> extensions = {san(dns("web-1"))};
  mbedtls_md_type_t hash = MBEDTLS_MD_SHA256;
  std::string serial = "11";  // hex
};

inline void set_serial(mbedtls_x509write_cert& writer, Der serial) {
#if MBEDTLS_VERSION_NUMBER < 0x03000000
  mbedtls_mpi number;
  mbedtls_mpi_init(&number);
  EXPECT_EQ(mbedtls_mpi_read_binary(&number, serial.data(), serial.size()), 0);
  EXPECT_EQ(mbedtls_x509write_crt_set_serial(&writer, &number), 0);
  mbedtls_mpi_free(&number);
#else
  EXPECT_EQ(mbedtls_x509write_crt_set_serial_raw(&writer, serial.data(), serial.size()), 0);
#endif
}

inline Der make_certificate(const CertificateSpec& spec, TestKey& key, const std::string& issuer,
                            TestKey& issuer_key) {
  mbedtls_x509write_cert writer;
  mbedtls_x509write_crt_init(&writer);
  set_serial(writer, from_hex(spec.serial));
  mbedtls_x509write_crt_set_version(&writer, spec.version);
  mbedtls_x509write_crt_set_md_alg(&writer, spec.hash);
  EXPECT_EQ(mbedtls_x509write_crt_set_validity(&writer, spec.from.c_str(), spec.to.c_str()), 0);
  EXPECT_EQ(mbedtls_x509write_crt_set_subject_name(&writer, spec.subject.c_str()), 0);
  EXPECT_EQ(mbedtls_x509write_crt_set_issuer_name(&writer, issuer.c_str()), 0);
  mbedtls_x509write_crt_set_subject_key(&writer, key.get());
  mbedtls_x509write_crt_set_issuer_key(&writer, issuer_key.get());
  if (spec.authority) {
    EXPECT_EQ(mbedtls_x509write_crt_set_basic_constraints(&writer, 1, -1), 0);
  }
  if (spec.usage) {
    EXPECT_EQ(mbedtls_x509write_crt_set_key_usage(&writer, *spec.usage), 0);
  }
  for (const auto& extension : spec.extensions) {
    EXPECT_EQ(
        mbedtls_x509write_crt_set_extension(
            &writer, reinterpret_cast<const char*>(extension.oid.data()), extension.oid.size(),
            extension.critical ? 1 : 0, extension.value.data(), extension.value.size()),
        0);
  }
  std::array<unsigned char, 4096> buffer = {};
  const int size =
      mbedtls_x509write_crt_der(&writer, buffer.data(), buffer.size(), test_rng, nullptr);
  EXPECT_GT(size, 0);
  mbedtls_x509write_crt_free(&writer);
  return {buffer.end() - size, buffer.end()};
}

/// A CA that issues certificates.
struct TestAuthority {
  explicit TestAuthority(std::string subject_name = "CN=fleet",
                         int curve = MBEDTLS_ECP_DP_SECP256R1)
      : subject(std::move(subject_name)),
        key(curve),
        certificate(make_certificate(spec(subject), key, subject, key)) {}
  TestAuthority(const CertificateSpec& own, TestAuthority& parent)
      : subject(own.subject), certificate(make_certificate(own, key, parent.subject, parent.key)) {}

  [[nodiscard]] static CertificateSpec spec(const std::string& name) {
    return {.subject = name,
            .from = "20250101000000",
            .to = "20350101000000",
            .authority = true,
            .usage = 0x06,
            .extensions = {}};
  }
  [[nodiscard]] Der issue(const CertificateSpec& leaf, TestKey& leaf_key) {
    return make_certificate(leaf, leaf_key, subject, key);
  }

  std::string subject;
  TestKey key;
  Der certificate;
};

inline TrustMaterial::File file(const std::string& path, const Der& content) {
  TrustMaterial::File file;
  file.path = path;
  file.content.assign(content.begin(), content.end());
  return file;
}
inline TrustMaterial::File file(const std::string& path, const std::string& content) {
  return file(path, Der(content.begin(), content.end()));
}

/// The texts of the problems that Trust::load() reports; empty if it succeeds.
inline std::vector<std::string> problems(const TrustMaterial& material, Time at = now()) {
  std::vector<std::string> texts;
  if (const auto loaded = Trust::load(material, nullptr, at); !loaded) {
    for (const auto& problem : loaded.error()) {
      texts.push_back(problem.text());
    }
  }
  return texts;
}

}  // namespace trireme::credentials
