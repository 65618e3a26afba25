// SPDX-License-Identifier: Apache-2.0
// The implementation of Trust.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "authorities.hpp"
#include "private_key.hpp"

namespace trireme::credentials {

/// The first bytes of SHA-256("trireme v2 psk" . secret). Identifies a secret without revealing it.
using SecretName = std::array<std::uint8_t, 8>;

struct SharedSecret {
  SecretName name{};
  Key key{};  // the secret, or its SHA-256 if it is longer than 32 bytes
  ~SharedSecret() { wipe(key); }
};
[[nodiscard]] SharedSecret shared_secret(Bytes secret);

/// TrustLoader fills it; afterwards it is immutable.
class Keyring final : public Trust {
 public:
  explicit Keyring(Random random) : random_(std::move(random)) {}
  ~Keyring() override = default;
  Keyring(const Keyring&) = delete;
  Keyring& operator=(const Keyring&) = delete;

  /// Sets the local credential (CredentialType::local): make_local() creates a new one,
  /// keep_local() copies that of another keyring.
  [[nodiscard]] Status make_local();
  void keep_local(const Keyring& previous);
  void set_authorities(Authorities authorities) { authorities_ = std::move(authorities); }
  void set_material(const Digest& digest) { material_ = digest; }
  /// digest() of the material that it was loaded from.
  [[nodiscard]] const Digest& material() const { return material_; }
  void set_certificate(std::unique_ptr<Certificate> certificate, std::unique_ptr<PrivateKey> key,
                       const Certificate& issuer);
  /// Sets the accepted secrets. The first one is offered, together with this host's name.
  void set_secrets(std::vector<SharedSecret> secrets, const std::string& host_name);

  [[nodiscard]] bool has(CredentialType type) const override { return !own(type).bytes.empty(); }
  [[nodiscard]] Bytes credential(CredentialType type) const override { return own(type).bytes; }
  [[nodiscard]] const Digest& hash(CredentialType type) const override { return own(type).hash; }
  [[nodiscard]] const OwnCredential& answer(const Peer& peer) const override;
  [[nodiscard]] std::optional<CredentialType> offered() const override;
  [[nodiscard]] const LabelConstraints& constraints() const override { return constraints_; }
  [[nodiscard]] Time expires() const override { return expires_; }
  [[nodiscard]] bool is_current(Time now) const override {
    return from_ <= now && now <= with_leeway(expires_, kLeeway);
  }
  [[nodiscard]] std::optional<Error> doubt(Time now) const override;
  [[nodiscard]] std::string description() const override { return description_; }
  [[nodiscard]] tl::expected<std::shared_ptr<const Peer>, Distrust> verify(CredentialType type,
                                                                           Bytes credential,
                                                                           Time now) const override;
  [[nodiscard]] bool plausible(CredentialType type, Bytes credential) const override;

 private:
  using Verified = tl::expected<std::shared_ptr<Peer>, Distrust>;
  [[nodiscard]] const OwnCredential& own(CredentialType type) const;
  void set_own(CredentialType type, std::vector<std::uint8_t> bytes);
  [[nodiscard]] Verified verify_certificate(Bytes der, Time now) const;
  [[nodiscard]] Verified verify_secret(Bytes credential) const;
  [[nodiscard]] Verified verify_local(Bytes credential) const;
  [[nodiscard]] const SharedSecret* secret_of(Bytes credential) const;

  std::array<OwnCredential, 4> own_;         // indexed by CredentialType
  std::vector<OwnCredential> under_secret_;  // one for each of secrets_, in the same order
  std::vector<SharedSecret> secrets_;
  Authorities authorities_;
  std::unique_ptr<PrivateKey> key_;
  LabelConstraints constraints_;
  Time from_ = Time::min();  // leeway included
  Time expires_ = Time::max();
  Digest material_{};
  std::string description_ = "this host only";
  mutable std::mutex
      public_key_work_;  // mbedTLS modifies contexts that it reads; also guards random_
  mutable Random random_;
};

}  // namespace trireme::credentials
