// SPDX-License-Identifier: Apache-2.0
#include "der.hpp"

#include <algorithm>

#include "mbedtls.hpp"
// Must follow mbedtls.hpp, which makes private members accessible.
#include <mbedtls/pem.h>

#include "trireme/policy/selector.hpp"

namespace trireme::credentials {
namespace {

constexpr int kSequence = MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE;
constexpr int kVersion = MBEDTLS_ASN1_CONTEXT_SPECIFIC | MBEDTLS_ASN1_CONSTRUCTED;  // [0]

using PemContext = Owned<mbedtls_pem_context, mbedtls_pem_init, mbedtls_pem_free>;

}  // namespace

std::optional<Bytes> DerReader::take(int tag) {
  auto* at = const_cast<unsigned char*>(rest_.data());  // mbedTLS does not modify it
  const unsigned char* end = at + rest_.size();
  std::size_t size = 0;
  if (rest_.empty() || mbedtls_asn1_get_tag(&at, end, &size, tag) != 0) {
    return std::nullopt;
  }
  const Bytes content(at, size);
  rest_ = Bytes(content.data() + size, end);
  return content;
}

std::vector<std::uint8_t> write_der(std::uint8_t tag, Bytes content) {
  std::vector<std::uint8_t> out = {tag};
  const std::size_t size = content.size();
  if (size >= 0x100) {
    out.push_back(0x82);
    out.push_back(static_cast<std::uint8_t>(size >> 8U));
  } else if (size >= 0x80) {
    out.push_back(0x81);
  }
  out.push_back(static_cast<std::uint8_t>(size & 0xFFU));
  out.insert(out.end(), content.begin(), content.end());
  return out;
}

// RFC 5280, section 4.1: Certificate { TBSCertificate { [0] version, serialNumber, signature,
// issuer, ...
std::optional<Bytes> issuer_name(Bytes certificate) {
  DerReader outer(certificate);
  const auto body = outer.take(kSequence);
  if (!body || !outer.rest().empty()) {
    return std::nullopt;
  }
  DerReader inner(*body);
  const auto signed_part = inner.take(kSequence);
  if (!signed_part) {
    return std::nullopt;
  }
  DerReader fields(*signed_part);
  if ((fields.next_is(kVersion) && !fields.take(kVersion)) || !fields.take(MBEDTLS_ASN1_INTEGER) ||
      !fields.take(kSequence)) {
    return std::nullopt;
  }
  const Bytes from = fields.rest();
  if (!fields.take(kSequence)) {
    return std::nullopt;
  }
  return from.first(from.size() - fields.rest().size());
}

std::optional<Bytes> subject_key_identifier(Bytes extensions) {
  constexpr std::array<std::uint8_t, 3> kOid = {0x55, 0x1D, 0x0E};
  DerReader outer(extensions);
  DerReader list(outer.take(kSequence).value_or(Bytes()));
  while (const auto extension = list.take(kSequence)) {
    DerReader fields(*extension);
    const auto oid = fields.take(MBEDTLS_ASN1_OID);
    if (!oid || !std::ranges::equal(*oid, kOid)) {
      continue;
    }
    std::ignore = fields.take(MBEDTLS_ASN1_BOOLEAN);  // the optional `critical`
    DerReader value(fields.take(MBEDTLS_ASN1_OCTET_STRING).value_or(Bytes()));
    return value.take(MBEDTLS_ASN1_OCTET_STRING);
  }
  return std::nullopt;
}

std::optional<std::vector<policy::Label>> read_label_patterns(Bytes value) {
  DerReader outer(value);
  const auto list = outer.take(kSequence);
  if (!list || !outer.rest().empty()) {
    return std::nullopt;
  }
  std::vector<policy::Label> patterns;
  for (DerReader items(*list); !items.rest().empty();) {
    const auto text = items.take(MBEDTLS_ASN1_UTF8_STRING);
    if (!text) {
      return std::nullopt;
    }
    auto pattern =
        policy::parse_label_pattern({reinterpret_cast<const char*>(text->data()), text->size()});
    if (!pattern) {
      return std::nullopt;
    }
    patterns.push_back(std::move(*pattern));
  }
  return patterns;
}

std::vector<std::uint8_t> write_label_patterns(const std::vector<policy::Label>& patterns) {
  std::vector<std::uint8_t> list;
  for (const policy::Label& pattern : patterns) {
    const std::string text = pattern.key + "=" + pattern.value;
    const auto item = write_der(MBEDTLS_ASN1_UTF8_STRING,
                                {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    list.insert(list.end(), item.begin(), item.end());
  }
  return write_der(kSequence, list);
}

std::vector<std::vector<std::uint8_t>> read_blocks(const std::string& content,
                                                   const std::string& label) {
  std::vector<std::vector<std::uint8_t>> blocks;
  if (content.find("-----BEGIN ") == std::string::npos) {
    if (!content.empty()) {
      blocks.emplace_back(content.begin(), content.end());
    }
    return blocks;
  }
  const std::string begin = "-----BEGIN " + label + "-----";
  const std::string end = "-----END " + label + "-----";
  for (std::size_t at = content.find(begin); at != std::string::npos;
       at = content.find(begin, at)) {
    PemContext pem;
    std::size_t used = 0;
    const auto* text = reinterpret_cast<const unsigned char*>(content.c_str()) + at;
    if (mbedtls_pem_read_buffer(pem.get(), begin.c_str(), end.c_str(), text, nullptr, 0, &used) !=
            0 ||
        used == 0) {
      return {};
    }
    blocks.emplace_back(pem->buf, pem->buf + pem->buflen);
    at += used;
  }
  return blocks;
}

}  // namespace trireme::credentials
