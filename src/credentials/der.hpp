// SPDX-License-Identifier: Apache-2.0
// The little DER (X.690) that mbedTLS does not read for us.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trireme/credentials/crypto.hpp"
#include "trireme/policy/labels.hpp"

namespace trireme::credentials {

/// 1.2.840.113556.1.8000.2554.38167.30895.46823.18183.40325.4490689.6667315: a certificate's
/// extension with the labels that its holder may vouch for, SEQUENCE OF UTF8String, each
/// "key=value" or "key=prefix*". Made from UUID 951778af-b6e7-4707-9d85-4485c165bc33 in Microsoft's
/// way for who has no arc of their own: no number is above 2^28, which is what Go (and so etcd) and
/// Python's cryptography can parse.
inline constexpr std::array<std::uint8_t, 34> kLabelsOid = {
    0x2A, 0x86, 0x48, 0x86, 0xF7, 0x14, 0x01, 0xBE, 0x40, 0x93, 0x7A, 0x82,
    0xAA, 0x17, 0x81, 0xF1, 0x2F, 0x82, 0xED, 0x67, 0x81, 0x8E, 0x07, 0x82,
    0xBB, 0x05, 0x82, 0x92, 0x8B, 0x41, 0x83, 0x96, 0xF8, 0x33};
/// The same, as the first version wrote it: 2.25.198176842010385513375147233822856559667, of that
/// UUID (ITU-T X.667). Read, not written.
inline constexpr std::array<std::uint8_t, 20> kFormerLabelsOid = {
    0x69, 0x82, 0xAA, 0x97, 0xBC, 0xAB, 0xF6, 0xEE, 0xBA, 0x9C,
    0x8F, 0x9D, 0xC2, 0xD1, 0x90, 0xDC, 0x8B, 0x96, 0xF8, 0x33};

/// Takes elements off the front of some bytes.
class DerReader {
 public:
  explicit DerReader(Bytes rest) : rest_(rest) {}
  /// The content of the next element, which must have this tag.
  [[nodiscard]] std::optional<Bytes> take(int tag);
  [[nodiscard]] bool next_is(int tag) const { return !rest_.empty() && rest_.front() == tag; }
  [[nodiscard]] Bytes rest() const { return rest_; }

 private:
  Bytes rest_;
};

/// One element; at most 65,535 bytes of content.
[[nodiscard]] std::vector<std::uint8_t> write_der(std::uint8_t tag, Bytes content);

/// The issuer's name, tag and length included, of what looks like a certificate: one SEQUENCE and
/// nothing behind it.
[[nodiscard]] std::optional<Bytes> issuer_name(Bytes certificate);

/// The subject key identifier (RFC 5280, section 4.2.1.2) among a certificate's extensions,
/// SEQUENCE OF Extension; nullopt where it has none.
[[nodiscard]] std::optional<Bytes> subject_key_identifier(Bytes extensions);

/// The extension's value; nullopt where any of it is no pattern.
[[nodiscard]] std::optional<std::vector<policy::Label>> read_label_patterns(Bytes value);
[[nodiscard]] std::vector<std::uint8_t> write_label_patterns(
    const std::vector<policy::Label>& patterns);

/// The elements of a file: PEM blocks with that label ("CERTIFICATE"), or all of it where it is no
/// PEM. Empty where there is none or one is broken.
[[nodiscard]] std::vector<std::vector<std::uint8_t>> read_blocks(const std::string& content,
                                                                 const std::string& label);

}  // namespace trireme::credentials
