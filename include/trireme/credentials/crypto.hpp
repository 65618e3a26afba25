// SPDX-License-Identifier: Apache-2.0
// The primitives that tokens are made of, from mbedTLS. Nothing here allocates but the constructors
// and hkdf(); objects belong to one thread.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>

#include "trireme/base/result.hpp"

namespace trireme::credentials {

using Bytes = std::span<const std::uint8_t>;
using Digest = std::array<std::uint8_t, 32>;  // SHA-256 (FIPS 180-4)
using Key = std::array<std::uint8_t, 32>;

/// SHA-256 of the parts one after the other.
[[nodiscard]] Digest sha256(std::initializer_list<Bytes> parts);
/// HKDF-SHA256 (RFC 5869), 32 bytes.
[[nodiscard]] Key hkdf(Bytes input, Bytes salt, Bytes info);
/// Whether both are equal, in time that depends on the size alone.
[[nodiscard]] bool equal(Bytes left, Bytes right);
/// Overwrites a secret.
void wipe(std::span<std::uint8_t> secret);

/// HMAC-SHA256 (RFC 2104) with one key, many times over: the key's own two blocks are hashed once.
class Hmac {
 public:
  explicit Hmac(const Key& key);
  Hmac(Hmac&&) noexcept;
  Hmac& operator=(Hmac&&) noexcept;
  ~Hmac();
  [[nodiscard]] Digest operator()(std::initializer_list<Bytes> parts);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// ChaCha20-Poly1305 (RFC 8439) under keys that are used once: the nonce is zero.
class Aead {
 public:
  Aead();
  Aead(Aead&&) noexcept;
  Aead& operator=(Aead&&) noexcept;
  ~Aead();
  /// `out` is as long as `plain`.
  void seal(const Key& key, Bytes additional, Bytes plain, std::span<std::uint8_t> out,
            std::span<std::uint8_t, 16> tag);
  /// False, and `out` wiped, where the tag does not fit.
  [[nodiscard]] bool open(const Key& key, Bytes additional, Bytes sealed, Bytes tag,
                          std::span<std::uint8_t> out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// CTR_DRBG (NIST SP 800-90A) seeded by the kernel.
class Random {
 public:
  [[nodiscard]] static Result<Random> open();
  Random(Random&&) noexcept;
  Random& operator=(Random&&) noexcept;
  ~Random();
  /// False where the generator failed (it reseeds itself now and then): the caller must refuse.
  [[nodiscard]] bool fill(std::span<std::uint8_t> out);

 private:
  struct State;
  explicit Random(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace trireme::credentials
