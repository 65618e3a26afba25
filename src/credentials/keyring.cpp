// SPDX-License-Identifier: Apache-2.0
#include "keyring.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "der.hpp"
#include "failure.hpp"

namespace trireme::credentials {
namespace {

constexpr std::size_t kLocalName = 16;
constexpr std::chrono::days kSoon(30);  // or a third of its lifetime, if that is less
constexpr std::size_t kMaxHostName = 64;

std::string hex(Bytes bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += fmt::format("{:02x}", byte);
  }
  return text;
}

}  // namespace

SharedSecret shared_secret(Bytes secret) {
  SharedSecret shared;
  const Digest name = sha256({bytes_of("trireme v2 psk"), secret});
  std::copy_n(name.begin(), shared.name.size(), shared.name.begin());
  if (secret.size() == shared.key.size()) {
    std::ranges::copy(secret, shared.key.begin());
  } else {
    shared.key = sha256({secret});
  }
  return shared;
}

Status Keyring::make_local() {
  std::vector<std::uint8_t> name(kLocalName);
  if (!random_.fill(name)) {
    return fail("the random generator failed");
  }
  set_own(CredentialType::local, std::move(name));
  return {};
}

void Keyring::keep_local(const Keyring& previous) {
  set_own(CredentialType::local, previous.own(CredentialType::local).bytes);
}

void Keyring::set_certificate(std::unique_ptr<Certificate> certificate,
                              std::unique_ptr<PrivateKey> key, const Certificate& issuer) {
  const Bytes der = certificate->der();
  set_own(CredentialType::certificate, {der.begin(), der.end()});
  key_ = std::move(key);
  constraints_ = certificate->constraints();
  from_ = with_leeway(std::max(certificate->not_before(), issuer.not_before()), -kLeeway);
  expires_ = std::min(certificate->not_after(), issuer.not_after());
  description_ = fmt::format("certificate of {} by {}, until {}", certificate->name(),
                             issuer.subject_text(), date_text(expires_));
}

void Keyring::set_secrets(std::vector<SharedSecret> secrets, const std::string& host_name) {
  secrets_ = std::move(secrets);
  for (const SharedSecret& secret : secrets_) {
    std::vector<std::uint8_t> credential(secret.name.begin(), secret.name.end());
    credential.insert(credential.end(), host_name.begin(), host_name.end());
    const Digest hash = credential_hash(CredentialType::psk, credential);
    under_secret_.push_back({std::move(credential), hash});
  }
  set_own(CredentialType::psk, under_secret_.front().bytes);
  description_ = fmt::format("shared secret {} of {}, {} accepted", hex(secrets_.front().name),
                             host_name, secrets_.size());
}

std::optional<Error> Keyring::doubt(Time now) const {
  constexpr const char* kIssue = "issue a new one with trirectl pki issue";
  if (now < from_) {
    return Error{
        fmt::format(
            "the {}, is not valid before {}: no connections to or from remote hosts until then",
            description_, date_text(with_leeway(from_, kLeeway))),
        "check the clock of this host"};
  }
  if (!is_current(now)) {
    return Error{
        fmt::format("the {}, has expired: no connections to or from remote hosts", description_),
        kIssue};
  }
  if (expires_ != Time::max() &&
      expires_ - now < std::min<Time::duration>(kSoon, (expires_ - from_) / 3)) {
    return Error{fmt::format("the {}, expires soon", description_), kIssue};
  }
  return std::nullopt;
}

const OwnCredential& Keyring::answer(const Peer& peer) const {
  if (peer.type == CredentialType::psk) {
    if (const SharedSecret* secret = secret_of(peer.credential)) {
      return under_secret_[static_cast<std::size_t>(secret - secrets_.data())];
    }
  }
  return own(peer.type);
}

const OwnCredential& Keyring::own(CredentialType type) const {
  return own_[std::min<std::size_t>(static_cast<std::size_t>(type), own_.size() - 1)];
}

void Keyring::set_own(CredentialType type, std::vector<std::uint8_t> bytes) {
  OwnCredential& own = own_[static_cast<std::size_t>(type)];
  own.bytes = std::move(bytes);
  own.hash = credential_hash(type, own.bytes);
}

std::optional<CredentialType> Keyring::offered() const {
  for (const CredentialType type : {CredentialType::certificate, CredentialType::psk}) {
    if (has(type)) {
      return type;
    }
  }
  return std::nullopt;
}

bool Keyring::plausible(CredentialType type, Bytes credential) const {
  switch (type) {
    case CredentialType::certificate: {
      const auto issuer = issuer_name(credential);
      return key_ != nullptr && credential.size() <= wire::kMaxToken && issuer &&
             authorities_.know(*issuer);
    }
    case CredentialType::psk:
      return secret_of(credential) != nullptr;
    case CredentialType::local:
      return equal(credential, own(type).bytes);
  }
  return false;
}

tl::expected<std::shared_ptr<const Peer>, Distrust> Keyring::verify(CredentialType type,
                                                                    Bytes credential,
                                                                    Time now) const {
  if (own(type).bytes.empty()) {
    return tl::unexpected(Distrust::unknown_type);
  }
  Verified peer = tl::unexpected(Distrust::unknown_type);
  switch (type) {
    case CredentialType::certificate:
      peer = verify_certificate(credential, now);
      break;
    case CredentialType::psk:
      peer = verify_secret(credential);
      break;
    case CredentialType::local:
      peer = verify_local(credential);
      break;
  }
  if (!peer) {
    return tl::unexpected(peer.error());
  }
  (*peer)->type = type;
  (*peer)->credential.assign(credential.begin(), credential.end());
  (*peer)->hash = credential_hash(type, credential);
  return *peer;
}

Keyring::Verified Keyring::verify_certificate(Bytes der, Time now) const {
  const auto issuer_named = issuer_name(der);
  if (!issuer_named || der.size() > wire::kMaxToken) {
    return tl::unexpected(Distrust::malformed);
  }
  if (!authorities_.know(*issuer_named)) {
    return tl::unexpected(Distrust::untrusted);
  }
  const auto leaf = Certificate::parse(der);
  if (!leaf) {
    return tl::unexpected(is_out_of_memory(leaf.error()) ? Distrust::failed : Distrust::malformed);
  }
  if (const auto distrust = (*leaf)->distrust(now)) {
    return tl::unexpected(*distrust);
  }
  if (authorities_.has_revoked(**leaf)) {
    return tl::unexpected(Distrust::revoked);
  }
  const std::lock_guard lock(public_key_work_);
  const auto issuer = authorities_.issuer_of(**leaf, now);
  if (!issuer) {
    return tl::unexpected(issuer.error());
  }
  if (!(*issuer)->is_current(now)) {
    return tl::unexpected(Distrust::expired);
  }
  auto peer = std::make_shared<Peer>();
  if (!key_->agree(**leaf, random_, peer->secret)) {
    return tl::unexpected(Distrust::failed);
  }
  peer->name = (*leaf)->name();
  peer->constraints = (*leaf)->constraints();
  peer->not_before =
      with_leeway(std::max((*leaf)->not_before(), (*issuer)->not_before()), -kLeeway);
  peer->not_after = with_leeway(std::min((*leaf)->not_after(), (*issuer)->not_after()), kLeeway);
  return peer;
}

const SharedSecret* Keyring::secret_of(Bytes credential) const {
  if (credential.size() <= sizeof(SecretName) ||
      credential.size() > sizeof(SecretName) + kMaxHostName) {
    return nullptr;
  }
  const auto found = std::ranges::find_if(secrets_, [credential](const SharedSecret& secret) {
    return equal(secret.name, credential.first(sizeof(SecretName)));
  });
  return found == secrets_.end() ? nullptr : &*found;
}

Keyring::Verified Keyring::verify_secret(Bytes credential) const {
  const bool sized = credential.size() > sizeof(SecretName) &&
                     credential.size() <= sizeof(SecretName) + kMaxHostName;
  const std::string name(credential.begin() + static_cast<std::ptrdiff_t>(
                                                  sized ? sizeof(SecretName) : credential.size()),
                         credential.end());
  if (!sized || !policy::is_printable(name)) {
    return tl::unexpected(Distrust::malformed);
  }
  const SharedSecret* secret = secret_of(credential);
  if (secret == nullptr) {
    return tl::unexpected(Distrust::untrusted);
  }
  auto peer = std::make_shared<Peer>();
  peer->name = name;
  peer->not_before = Time::min();
  peer->not_after = Time::max();
  peer->secret = secret->key;
  return peer;
}

Keyring::Verified Keyring::verify_local(Bytes credential) const {
  if (credential.size() != kLocalName) {
    return tl::unexpected(Distrust::malformed);
  }
  if (!equal(credential, own(CredentialType::local).bytes)) {
    return tl::unexpected(Distrust::untrusted);
  }
  auto peer = std::make_shared<Peer>();
  peer->name = "this host";
  peer->not_before = Time::min();
  peer->not_after = Time::max();
  return peer;
}

}  // namespace trireme::credentials
