// SPDX-License-Identifier: Apache-2.0
#include "trireme/credentials/crypto.hpp"

#include "mbedtls_versions.hpp"
// Must follow mbedtls_versions.hpp, which makes private members accessible.
#include <mbedtls/chachapoly.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/hkdf.h>
#include <mbedtls/md.h>
#include <mbedtls/platform_util.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "failure.hpp"

// In 2.28, this header lacks extern "C".
extern "C" {
#include <mbedtls/constant_time.h>
}

namespace trireme::credentials {
namespace {

// With arguments of the right size, hashes and ciphers in software can only fail if memory is
// exhausted. After any other failure, no verdict would be reliable, so the process aborts.
void must(int rc) {
  if (rc == MBEDTLS_ERR_MD_ALLOC_FAILED) {
    throw std::bad_alloc();
  }
  if (rc != 0) {
    std::fprintf(stderr, "trireme: mbedTLS failed: %s\n", failure_text(rc).c_str());
    std::abort();
  }
}

const mbedtls_md_info_t* sha256_info() {
  return mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
}

constexpr std::array<std::uint8_t, 12> kNonce = {};

}  // namespace

Digest sha256(std::initializer_list<Bytes> parts) {
  Digest digest;
  mbedtls_sha256_context context;
  mbedtls_sha256_init(&context);
  must(sha256_starts(&context));
  for (const Bytes part : parts) {
    must(sha256_update(&context, part));
  }
  must(sha256_finish(&context, digest.data()));
  mbedtls_sha256_free(&context);
  return digest;
}

Key hkdf(Bytes input, Bytes salt, Bytes info) {
  Key key;
  must(mbedtls_hkdf(sha256_info(), salt.data(), salt.size(), input.data(), input.size(),
                    info.data(), info.size(), key.data(), key.size()));
  return key;
}

bool equal(Bytes left, Bytes right) {
  return left.size() == right.size() &&
         (left.empty() || mbedtls_ct_memcmp(left.data(), right.data(), left.size()) == 0);
}

void wipe(std::span<std::uint8_t> secret) {
  if (!secret.empty()) {
    mbedtls_platform_zeroize(secret.data(), secret.size());
  }
}

struct Hmac::State {
  // The state of SHA-256 after the inner and the outer key block.
  mbedtls_sha256_context inner{};
  mbedtls_sha256_context outer{};
  mbedtls_sha256_context running{};
  State() {
    for (mbedtls_sha256_context* each : {&inner, &outer, &running}) {
      mbedtls_sha256_init(each);
    }
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    for (mbedtls_sha256_context* each : {&inner, &outer, &running}) {
      mbedtls_sha256_free(each);
    }
  }
};

Hmac::Hmac(const Key& key) : state_(std::make_unique<State>()) {
  constexpr std::size_t kBlock = 64;
  const auto begin = [&key](mbedtls_sha256_context& context, std::uint8_t pad) {
    std::array<std::uint8_t, kBlock> block{};
    block.fill(pad);
    for (std::size_t i = 0; i < key.size(); i++) {
      block.at(i) = static_cast<std::uint8_t>(pad ^ key.at(i));
    }
    must(sha256_starts(&context));
    must(sha256_update(&context, block));
    wipe(block);
  };
  begin(state_->inner, 0x36);
  begin(state_->outer, 0x5c);
}
Hmac::Hmac(Hmac&&) noexcept = default;
Hmac& Hmac::operator=(Hmac&&) noexcept = default;
Hmac::~Hmac() = default;

Digest Hmac::operator()(std::initializer_list<Bytes> parts) {
  Digest digest;
  mbedtls_sha256_context& running = state_->running;
  mbedtls_sha256_clone(&running, &state_->inner);
  for (const Bytes part : parts) {
    must(sha256_update(&running, part));
  }
  must(sha256_finish(&running, digest.data()));
  mbedtls_sha256_clone(&running, &state_->outer);
  must(sha256_update(&running, digest));
  must(sha256_finish(&running, digest.data()));
  return digest;
}

struct Aead::State {
  mbedtls_chachapoly_context context{};
  State() { mbedtls_chachapoly_init(&context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { mbedtls_chachapoly_free(&context); }
};

Aead::Aead() : state_(std::make_unique<State>()) {}
Aead::Aead(Aead&&) noexcept = default;
Aead& Aead::operator=(Aead&&) noexcept = default;
Aead::~Aead() = default;

void Aead::seal(const Key& key, Bytes additional, Bytes plain, std::span<std::uint8_t> out,
                std::span<std::uint8_t, 16> tag) {
  must(out.size() == plain.size() ? 0 : MBEDTLS_ERR_MD_BAD_INPUT_DATA);
  must(mbedtls_chachapoly_setkey(&state_->context, key.data()));
  must(mbedtls_chachapoly_encrypt_and_tag(&state_->context, plain.size(), kNonce.data(),
                                          additional.data(), additional.size(), plain.data(),
                                          out.data(), tag.data()));
}

bool Aead::open(const Key& key, Bytes additional, Bytes sealed, Bytes tag,
                std::span<std::uint8_t> out) {
  if (tag.size() != 16 || out.size() != sealed.size()) {
    wipe(out);
    return false;
  }
  must(mbedtls_chachapoly_setkey(&state_->context, key.data()));
  // If the tag is wrong, mbedTLS wipes the output.
  return mbedtls_chachapoly_auth_decrypt(&state_->context, sealed.size(), kNonce.data(),
                                         additional.data(), additional.size(), tag.data(),
                                         sealed.data(), out.data()) == 0;
}

struct Random::State {
  mbedtls_entropy_context entropy{};
  mbedtls_ctr_drbg_context generator{};
  std::array<std::uint8_t, 512> drawn{};  // buffer for small requests: 512 bytes cost as much as 16
  std::size_t left = 0;                   // unused bytes at the end of `drawn`
  State() {
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&generator);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    wipe(drawn);
    mbedtls_ctr_drbg_free(&generator);
    mbedtls_entropy_free(&entropy);
  }
};

Random::Random(std::unique_ptr<State> state) : state_(std::move(state)) {}
Random::Random(Random&&) noexcept = default;
Random& Random::operator=(Random&&) noexcept = default;
Random::~Random() = default;

Result<Random> Random::open() {
  auto state = std::make_unique<State>();
  const int rc =
      mbedtls_ctr_drbg_seed(&state->generator, mbedtls_entropy_func, &state->entropy, nullptr, 0);
  if (rc != 0) {
    return fail("cannot seed the random generator: " + failure_text(rc));
  }
  return Random(std::move(state));
}

bool Random::fill(std::span<std::uint8_t> out) {
  constexpr std::size_t kSmall = 32;
  if (out.size() <= kSmall) {
    auto& [entropy, generator, drawn, left] = *state_;
    if (left < out.size()) {
      if (mbedtls_ctr_drbg_random(&generator, drawn.data(), drawn.size()) != 0) {
        return false;
      }
      left = drawn.size();
    }
    const auto taken = std::span(drawn).last(left).first(out.size());
    std::ranges::copy(taken, out.begin());
    wipe(taken);
    left -= out.size();
    return true;
  }
  while (!out.empty()) {
    const auto part = out.first(std::min<std::size_t>(out.size(), MBEDTLS_CTR_DRBG_MAX_REQUEST));
    if (mbedtls_ctr_drbg_random(&state_->generator, part.data(), part.size()) != 0) {
      return false;
    }
    out = out.subspan(part.size());
  }
  return true;
}

}  // namespace trireme::credentials
