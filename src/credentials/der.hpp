// SPDX-License-Identifier: Apache-2.0
// The parts of DER (X.690) that mbedTLS does not parse.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trireme/credentials/crypto.hpp"
#include "trireme/policy/labels.hpp"

namespace trireme::credentials {

/// 1.2.840.113556.1.8000.2554.38167.30895.46823.18183.40325.4490689.6667315: the certificate
/// extension with the labels that the host can vouch for, a SEQUENCE OF UTF8String, each
/// "key=value" or "key=prefix*". Derived from UUID 951778af-b6e7-4707-9d85-4485c165bc33 with
/// Microsoft's scheme for organizations without an own arc: none of its numbers is above 2^28, so
/// that Go (and thus etcd) and Python's cryptography can parse it.
inline constexpr std::array<std::uint8_t, 34> kLabelsOid = {
    0x2A, 0x86, 0x48, 0x86, 0xF7, 0x14, 0x01, 0xBE, 0x40, 0x93, 0x7A, 0x82,
    0xAA, 0x17, 0x81, 0xF1, 0x2F, 0x82, 0xED, 0x67, 0x81, 0x8E, 0x07, 0x82,
    0xBB, 0x05, 0x82, 0x92, 0x8B, 0x41, 0x83, 0x96, 0xF8, 0x33};
/// The OID of the same extension in certificates of the first version:
/// 2.25.198176842010385513375147233822856559667, derived from the same UUID (ITU-T X.667). It is
/// accepted, but no longer written.
inline constexpr std::array<std::uint8_t, 20> kFormerLabelsOid = {
    0x69, 0x82, 0xAA, 0x97, 0xBC, 0xAB, 0xF6, 0xEE, 0xBA, 0x9C,
    0x8F, 0x9D, 0xC2, 0xD1, 0x90, 0xDC, 0x8B, 0x96, 0xF8, 0x33};

/// Reads elements one after the other.
class DerReader {
 public:
  explicit DerReader(Bytes rest) : rest_(rest) {}
  /// Removes the next element and returns its content; nullopt if it does not have this tag.
  [[nodiscard]] std::optional<Bytes> take(int tag);
  [[nodiscard]] bool next_is(int tag) const { return !rest_.empty() && rest_.front() == tag; }
  [[nodiscard]] Bytes rest() const { return rest_; }

 private:
  Bytes rest_;
};

/// Encodes one element; `content` has at most 65,535 bytes.
[[nodiscard]] std::vector<std::uint8_t> write_der(std::uint8_t tag, Bytes content);

/// The issuer's name, with tag and length, of bytes that look like a certificate: one SEQUENCE
/// without trailing bytes. nullopt for other bytes.
[[nodiscard]] std::optional<Bytes> issuer_name(Bytes certificate);

/// The subject key identifier (RFC 5280, section 4.2.1.2) in the extensions of a certificate (a
/// SEQUENCE OF Extension); nullopt if there is none.
[[nodiscard]] std::optional<Bytes> subject_key_identifier(Bytes extensions);

/// Parses the value of the labels extension; nullopt if an element is not a valid pattern.
[[nodiscard]] std::optional<std::vector<policy::Label>> read_label_patterns(Bytes value);
[[nodiscard]] std::vector<std::uint8_t> write_label_patterns(
    const std::vector<policy::Label>& patterns);

/// The DER elements of a file: its PEM blocks with this label ("CERTIFICATE"), or, if the file is
/// not PEM, its whole content. Empty if there is no such block or one is invalid.
[[nodiscard]] std::vector<std::vector<std::uint8_t>> read_blocks(const std::string& content,
                                                                 const std::string& label);

}  // namespace trireme::credentials
