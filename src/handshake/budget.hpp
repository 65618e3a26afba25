// SPDX-License-Identifier: Apache-2.0
// Limits on public-key work, REFUSALs and half-open handshakes, for each source and for all sources
// together. The memory is fixed, however many source addresses there are.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "trireme/policy/address.hpp"

namespace trireme::handshake {

/// A source is an IPv4 address or an IPv6 /64. A seeded hash maps sources to 4,096 slots; sources
/// in the same slot share its limits.
class Budget {
 public:
  Budget(std::size_t share, std::uint64_t seed)
      : share_(static_cast<std::uint32_t>(share)), sources_(kSources), seed_(seed) {}

  /// Takes one verification of an unknown credential from the allowance of the source and, unless
  /// the source has been verified before, from that of all sources. False: nothing is left.
  [[nodiscard]] bool may_verify(const policy::Address& source, std::chrono::milliseconds now);
  /// Takes one REFUSAL from the allowance of the source and from that of all sources. It is limited
  /// because any host that knows the name of a secret can request the work. False: nothing is left.
  [[nodiscard]] bool may_tell(const policy::Address& source, std::chrono::milliseconds now);
  /// The result that may_tell() would have; takes nothing.
  [[nodiscard]] bool can_tell(const policy::Address& source, std::chrono::milliseconds now);
  /// Records that a credential from this source was valid. From then on the source has its own
  /// allowance for verifications, which a flood from other sources cannot use up.
  void verified(const policy::Address& source);
  /// True if one more half-open handshake of the source is within its share.
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
    std::uint64_t known = 0;  // network() of the source that was verified last; 0: none
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
