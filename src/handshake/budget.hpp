// SPDX-License-Identifier: Apache-2.0
// What one source, and all of them together, may cost: public-key work and table space. Fixed
// memory, whatever addresses come.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "trireme/policy/address.hpp"

namespace trireme::handshake {

/// Sources are /32 or /64 prefixes, thrown together by a seeded hash.
class Budget {
 public:
  Budget(std::size_t share, std::uint64_t seed)
      : share_(static_cast<std::uint32_t>(share)), sources_(kSources), seed_(seed) {}

  /// Takes one verification of an unknown credential from the source's allowance and from that of
  /// all strangers.
  [[nodiscard]] bool may_verify(const policy::Address& source, std::chrono::milliseconds now);
  /// Takes one REFUSAL from the source's allowance and from that of all: sealing and sending it is
  /// work that any host which knows a secret's name can ask for.
  [[nodiscard]] bool may_tell(const policy::Address& source, std::chrono::milliseconds now);
  /// Whether it would; nothing is taken.
  [[nodiscard]] bool can_tell(const policy::Address& source, std::chrono::milliseconds now);
  /// A credential from there was good: the source is no stranger, and has an allowance that no
  /// flood of others uses up.
  void verified(const policy::Address& source);
  /// Whether one more half-open handshake of the source is within its share.
  [[nodiscard]] bool may_open(const policy::Address& source) const;
  void opened(const policy::Address& source);
  void closed(const policy::Address& source);

 private:
  static constexpr std::size_t kSources = 4096;
  struct Bucket {
    float tokens = 0;
    std::chrono::milliseconds filled{};
    bool used = false;
    [[nodiscard]] bool take(float rate, float burst, std::chrono::milliseconds now, bool commit);
  };
  struct Source {
    Bucket verifications;
    Bucket known_verifications;
    Bucket refusals;
    std::uint64_t known = 0;  // the network of the source that was verified last; 0: none
    std::uint32_t open = 0;
  };
  [[nodiscard]] static std::uint64_t network(const policy::Address& source);
  [[nodiscard]] std::size_t slot(const policy::Address& source) const;

  std::uint32_t share_;
  std::vector<Source> sources_;
  Bucket all_;
  Bucket all_refusals_;
  std::uint64_t seed_;
};

}  // namespace trireme::handshake
