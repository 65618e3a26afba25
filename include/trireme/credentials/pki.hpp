// SPDX-License-Identifier: Apache-2.0
// A private CA for `trirectl pki`: P-256 keys, ECDSA with SHA-256, X.509 version 3 (RFC 5280).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trireme/credentials/trust.hpp"

namespace trireme::credentials {

/// A certificate and its key as PEM. The destructor wipes the key.
struct Issued {
  std::string certificate;
  std::string key;
  ~Issued();
};

/// Creates a self-signed CA that is valid for ten years and can sign host certificates, but no
/// other CAs. `name`: 1 to 64 letters, digits, '.', '-' and '_'.
[[nodiscard]] Result<Issued> make_authority(const std::string& name, Time now, Random& random);

struct HostRequest {
  std::string host;  // same characters as a CA name; becomes a DNS name in the certificate
  std::optional<std::vector<policy::Label>> labels =
      {};               // label patterns that it can vouch for; absent: any label
  unsigned days = 365;  // validity
};
/// Issues a key and a certificate for a host. To keep tokens small, the certificate has no key
/// identifiers that trireme does not need. Returns an error if Trust::load() would not accept the
/// result.
[[nodiscard]] Result<Issued> issue(const TrustMaterial::File& authority,
                                   const TrustMaterial::File& authority_key,
                                   const HostRequest& request, Time now, Random& random);

/// One line of a psk_file: 32 random bytes in base64, and a line feed.
[[nodiscard]] Result<std::string> make_secret(Random& random);

}  // namespace trireme::credentials
