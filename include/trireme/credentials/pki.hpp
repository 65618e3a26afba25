// SPDX-License-Identifier: Apache-2.0
// A small CA of one's own: what `trirectl pki` writes. P-256, ECDSA with SHA-256, X.509 version 3
// (RFC 5280).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trireme/credentials/trust.hpp"

namespace trireme::credentials {

/// PEM; the key is wiped with the object.
struct Issued {
  std::string certificate;
  std::string key;
  ~Issued();
};

/// A self-signed CA, valid for ten years, that signs hosts and no other CAs. `name`: letters,
/// digits, '.', '-' and '_', at most 64.
[[nodiscard]] Result<Issued> make_authority(const std::string& name, Time now, Random& random);

struct HostRequest {
  std::string host;  // as above; a DNS name in the certificate
  std::optional<std::vector<policy::Label>> labels =
      {};  // what it may vouch for; absent: any label
  unsigned days = 365;
};
/// A host's key and certificate, without the key identifiers that no verifier here needs (each byte
/// is sent), usable as [trust]: what Trust::load() says against it is the error here.
[[nodiscard]] Result<Issued> issue(const TrustMaterial::File& authority,
                                   const TrustMaterial::File& authority_key,
                                   const HostRequest& request, Time now, Random& random);

/// One line of a psk_file: 32 random bytes.
[[nodiscard]] Result<std::string> make_secret(Random& random);

}  // namespace trireme::credentials
