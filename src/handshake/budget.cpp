// SPDX-License-Identifier: Apache-2.0
#include "budget.hpp"

#include <algorithm>
#include <cstring>

namespace trireme::handshake {
namespace {

// A verification takes about 2 ms. The burst of a source is enough for a host whose flows reach
// several threads, or that has changed its credential. The rate for all sources limits the work to
// a fifth of a core.
constexpr float kSourceRate = 4;  // per second, as all rates here
constexpr float kSourceBurst = 16;
constexpr float kRate = 100;
constexpr float kBurst = 100;
// Sealing and sending a REFUSAL takes some microseconds.
constexpr float kSourceRefusalRate = 4;
constexpr float kSourceRefusalBurst = 16;
constexpr float kRefusalRate = 400;
constexpr float kRefusalBurst = 400;

}  // namespace

bool Budget::Bucket::take(float rate, float burst, std::chrono::milliseconds now, bool commit) {
  const float passed = used ? static_cast<float>((now - filled).count()) / 1000.0F : 0;
  tokens = used ? std::min(burst, tokens + passed * rate) : burst;
  filled = now;
  used = true;
  if (tokens < 1) {
    return false;
  }
  tokens -= commit ? 1 : 0;
  return true;
}

/// The first 64 bits of the address: a whole IPv4 address or an IPv6 /64.
std::uint64_t Budget::network(const policy::Address& source) {
  std::uint64_t network = 0;
  std::memcpy(&network, source.bytes.data(), sizeof network);
  return network;
}

std::size_t Budget::slot(const policy::Address& source) const {
  return ((network(source) ^ seed_) * 0x9e3779b97f4a7c15U) >> 52U;  // 12 bits
}

bool Budget::may_verify(const policy::Address& source, std::chrono::milliseconds now) {
  Source& of = sources_[slot(source)];
  if (of.known != 0 && of.known == network(source)) {
    return of.known_verifications.take(kSourceRate, kSourceBurst, now, true);
  }
  Bucket& own = of.verifications;
  return own.take(kSourceRate, kSourceBurst, now, false) && all_.take(kRate, kBurst, now, true) &&
         own.take(kSourceRate, kSourceBurst, now, true);
}

bool Budget::can_tell(const policy::Address& source, std::chrono::milliseconds now) {
  return sources_[slot(source)].refusals.take(kSourceRefusalRate, kSourceRefusalBurst, now,
                                              false) &&
         all_refusals_.take(kRefusalRate, kRefusalBurst, now, false);
}

bool Budget::may_tell(const policy::Address& source, std::chrono::milliseconds now) {
  return can_tell(source, now) && all_refusals_.take(kRefusalRate, kRefusalBurst, now, true) &&
         sources_[slot(source)].refusals.take(kSourceRefusalRate, kSourceRefusalBurst, now, true);
}

void Budget::verified(const policy::Address& source) {
  sources_[slot(source)].known = network(source);
}

bool Budget::may_open(const policy::Address& source) const {
  return sources_[slot(source)].open < share_;
}

void Budget::opened(const policy::Address& source) {
  sources_[slot(source)].open++;
}

void Budget::closed(const policy::Address& source) {
  sources_[slot(source)].open--;
}

}  // namespace trireme::handshake
