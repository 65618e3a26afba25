// SPDX-License-Identifier: Apache-2.0
// The cryptographic primitives of tokens, implemented by mbedTLS. Only the constructors and hkdf()
// allocate memory. An object must be used by one thread at a time.
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

/// SHA-256 of the concatenation of the parts.
[[nodiscard]] Digest sha256(std::initializer_list<Bytes> parts);
/// HKDF-SHA256 (RFC 5869) with 32 bytes of output.
[[nodiscard]] Key hkdf(Bytes input, Bytes salt, Bytes info);
/// Constant-time comparison: the time depends only on the sizes.
[[nodiscard]] bool equal(Bytes left, Bytes right);
/// Overwrites a secret with zeros; the compiler does not remove it.
void wipe(std::span<std::uint8_t> secret);

/// HMAC-SHA256 (RFC 2104) with one key. The two key blocks are hashed once, in the constructor, so
/// that each call is cheaper.
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

/// ChaCha20-Poly1305 (RFC 8439) with a zero nonce: each key must encrypt only one message.
class Aead {
 public:
  Aead();
  Aead(Aead&&) noexcept;
  Aead& operator=(Aead&&) noexcept;
  ~Aead();
  /// `out` must have the size of `plain`.
  void seal(const Key& key, Bytes additional, Bytes plain, std::span<std::uint8_t> out,
            std::span<std::uint8_t, 16> tag);
  /// Returns false and wipes `out` if the tag is wrong or a size does not match.
  [[nodiscard]] bool open(const Key& key, Bytes additional, Bytes sealed, Bytes tag,
                          std::span<std::uint8_t> out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// CTR_DRBG (NIST SP 800-90A), seeded by the kernel.
class Random {
 public:
  [[nodiscard]] static Result<Random> open();
  Random(Random&&) noexcept;
  Random& operator=(Random&&) noexcept;
  ~Random();
  /// Returns false if the generator failed, for example when it reseeds. The caller must then
  /// refuse whatever needs the random bytes.
  [[nodiscard]] bool fill(std::span<std::uint8_t> out);

 private:
  struct State;
  explicit Random(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace trireme::credentials
