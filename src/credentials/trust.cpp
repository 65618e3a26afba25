// SPDX-License-Identifier: Apache-2.0
#include "trireme/credentials/trust.hpp"

#include <algorithm>

#include "keyring.hpp"
#include "trireme/policy/selector.hpp"
#include "trust_loader.hpp"

namespace trireme::credentials {

const char* text(Distrust distrust) {
  switch (distrust) {
    case Distrust::unknown_type:
      return "a credential type that this host does not have";
    case Distrust::malformed:
      return "not a usable certificate";
    case Distrust::untrusted:
      return "not signed by a CA that this host trusts";
    case Distrust::expired:
      return "expired, or not valid yet";
    case Distrust::usage:
      return "not valid for client or server authentication";
    case Distrust::revoked:
      return "revoked";
    case Distrust::labels:
      return "does not vouch for these labels";
    case Distrust::failed:
      return "could not be verified";
  }
  return "unknown";
}

bool LabelConstraints::permit(const policy::LabelSet& labels) const {
  return !limited_ || policy::cover(patterns_, labels);
}

Digest credential_hash(CredentialType type, Bytes credential) {
  const auto byte = static_cast<std::uint8_t>(type);
  return sha256({Bytes(&byte, 1), credential});
}

Key pair_key(const Key& secret, const Digest& client, const Digest& server) {
  std::array<std::uint8_t, 4 + 2 * sizeof(Digest)> info = {'p', 'a', 'i', 'r'};
  std::copy(client.begin(), client.end(), info.begin() + 4);
  std::copy(server.begin(), server.end(), info.begin() + 4 + sizeof(Digest));
  return hkdf(secret, bytes_of("trireme v2"), info);
}

std::size_t room_for_labels(const Trust& trust) {
  const std::size_t local = trust.credential(CredentialType::local).size();
  const std::size_t offered = trust.offered() ? trust.credential(*trust.offered()).size() : 0;
  const std::size_t taken = wire::reply_size(std::max(local, offered), wire::kReplyStart);
  return taken < wire::kMaxToken ? wire::kMaxToken - taken : 0;
}

TrustMaterial::File::~File() {
  wipe({reinterpret_cast<std::uint8_t*>(content.data()), content.size()});
}

Result<std::shared_ptr<const Trust>> Trust::local() {
  auto loaded = load({}, nullptr, std::chrono::system_clock::now());
  if (!loaded) {
    return tl::unexpected<Error>(loaded.error().front());
  }
  return *loaded;
}

tl::expected<std::shared_ptr<const Trust>, std::vector<TrustProblem>> Trust::load(
    const TrustMaterial& material, std::shared_ptr<const Trust> previous, Time now) {
  const auto* known = dynamic_cast<const Keyring*>(previous.get());
  if (known != nullptr && known->material() == digest(material)) {
    return previous;
  }
  return TrustLoader(material, now).load(known);
}

}  // namespace trireme::credentials
