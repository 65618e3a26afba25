// SPDX-License-Identifier: Apache-2.0
// Any bytes as a credential: no crash, and only certificates that the CA of this test signed are
// accepted.
//
// The keys are fixed (fuzz_certificate_keys.hpp), so that the corpus can have valid certificates.
#include "fuzz_certificate_keys.hpp"
#include "fuzz_support.hpp"
#include "trireme/credentials/trust.hpp"

namespace {

using namespace trireme;
using credentials::CredentialType;

std::shared_ptr<const credentials::Trust> make_trust() {
  credentials::TrustMaterial material;
  material.host_name = "web-0";
  material.certificate = {"host.pem", fuzz::kCertificate};
  material.key = {"host.key", fuzz::kKey};
  material.authorities.push_back({"ca.pem", fuzz::kAuthority});
  material.psk = {"psk", fuzz::kSecret};
  auto trust = credentials::Trust::load(material, nullptr, fuzz::now());
  fuzz::require(trust.has_value(), "the fixed keys are valid");
  return *trust;
}

void check(const credentials::Trust& trust, CredentialType type, credentials::Bytes bytes) {
  const auto peer = trust.verify(type, bytes, fuzz::now());
  if (!peer) {
    fuzz::require(peer.error() != credentials::Distrust::failed, "the library does not fail");
    return;
  }
  fuzz::require(trust.plausible(type, bytes), "an accepted credential is plausible");
  fuzz::require(!(*peer)->name.empty() && policy::is_printable((*peer)->name),
                "a peer has a printable name");
  fuzz::require((*peer)->not_before <= fuzz::now() && fuzz::now() <= (*peer)->not_after,
                "a peer is accepted only within its dates");
  fuzz::require((*peer)->hash == credentials::credential_hash(type, bytes),
                "the hash of a peer is that of its credential");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto trust = make_trust();
  for (const auto type :
       {CredentialType::certificate, CredentialType::psk, CredentialType::local}) {
    check(*trust, type, {data, size});
  }
  return 0;
}
