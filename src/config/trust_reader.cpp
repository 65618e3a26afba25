// SPDX-License-Identifier: Apache-2.0
// The [trust] part of IdentityReader.
#include <fmt/format.h>

#include "identity_reader.hpp"

namespace trireme::config {

std::string IdentityReader::read_trust_file(const TableReader& section, std::string_view key,
                                            TrustFile::Role role) {
  const auto path = section.name(key);
  if (!path) {
    return {};
  }
  trust_files_.push_back({role, path->value, section.where(*path)});
  return path->value;
}

std::vector<std::string> IdentityReader::read_trust_files(const TableReader& section,
                                                          std::string_view key,
                                                          TrustFile::Role role) {
  std::vector<std::string> paths;
  for (const Text& text : section.list(key)) {
    if (text.value.empty() || !policy::is_printable(text.value)) {
      section.error(
          text, fmt::format("'{}' in [trust] contains a path that is empty or not printable", key));
      continue;
    }
    trust_files_.push_back({role, text.value, section.where(text)});
    paths.push_back(text.value);
  }
  return paths;
}

void IdentityReader::read_trust(const MergedSection& section) {
  if (section.empty()) {
    return;
  }
  config::TrustSettings& trust = host_.trust;
  trust.certificate =
      read_trust_file(section.at("certificate"), "certificate", TrustFile::Role::certificate);
  trust.key = read_trust_file(section.at("key"), "key", TrustFile::Role::key);
  trust.ca = read_trust_files(section.at("ca"), "ca", TrustFile::Role::authority);
  trust.revoked = read_trust_files(section.at("revoked"), "revoked", TrustFile::Role::revoked);
  trust.psk_file = read_trust_file(section.at("psk_file"), "psk_file", TrustFile::Role::psk);
  check_trust(section);
}

void IdentityReader::check_trust(const MergedSection& section) {
  const bool psk = section.has("psk_file");
  const bool certificates = section.has("certificate") || section.has("key") || section.has("ca") ||
                            section.has("revoked");
  if (psk && certificates) {
    section.first().error("[trust] has both psk_file and certificates",
                          "keep one: a shared secret or a CA");
  } else if (certificates) {
    for (const std::string_view key : {"certificate", "key", "ca"}) {
      if (!section.has(key)) {
        section.first().error(
            fmt::format("[trust] has no '{}'", key),
            "certificate, key and ca are required together; trirectl pki issue writes all three");
      }
    }
  }
}

}  // namespace trireme::config
