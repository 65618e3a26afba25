// SPDX-License-Identifier: Apache-2.0
// Implements Trust::load(): reads the files of [trust] into a Keyring, and reports every problem in
// one run.
#pragma once

#include "keyring.hpp"

namespace trireme::credentials {

/// A digest of all fields of the material; equal digests mean equal material.
[[nodiscard]] Digest digest(const TrustMaterial& material);

class TrustLoader {
 public:
  TrustLoader(const TrustMaterial& material, Time now) : material_(material), now_(now) {}
  /// `previous` may be null.
  [[nodiscard]] tl::expected<std::shared_ptr<const Trust>, std::vector<TrustProblem>> load(
      const Keyring* previous);

 private:
  using File = TrustMaterial::File;
  void problem(const File& file, const std::string& what, std::string hint = {});
  void read_authorities();
  void read_authority(const File& file, Bytes der);
  void read_revoked(const File& file);
  void read_certificate(Keyring& keyring, Random& random);
  [[nodiscard]] std::unique_ptr<Certificate> read_leaf();
  void check_leaf(const Certificate& leaf);
  [[nodiscard]] const Certificate* check_issuer(const Certificate& leaf);
  void check_size(const File& file, std::size_t size);
  void read_secrets(Keyring& keyring);

  const TrustMaterial& material_;
  Time now_;
  Authorities authorities_;
  std::vector<TrustProblem> problems_;
};

}  // namespace trireme::credentials
