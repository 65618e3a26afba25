// SPDX-License-Identifier: Apache-2.0
#include "trireme/enforcer/refused_ends.hpp"

#include <netinet/in.h>

namespace trireme::enforcer {
namespace {

/// Elements per packet that are compared with policy: a scan of one port by many workloads must not
/// make reading the log quadratic.
constexpr int kMostCompared = 16;

std::uint32_t service(std::uint8_t protocol, std::uint16_t port) {
  const bool has_ports = protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
  return std::uint32_t{protocol} << 16U | (has_ports ? port : 0U);
}

bool fits(abi::Number number, bool is_here, bool loopback, const RefusedEnds::Known& known) {
  return number == abi::kNoNumber     ? !is_here
         : number < abi::kFirstNumber ? is_here
                                      : loopback || known.is_here(number) == is_here;
}

}  // namespace

bool ReportedEnds::contains(const RefusedKey& key, Time added) const {
  const auto known = added_.find(key);
  return known != added_.end() && added < known->second + life_ / 2;
}

void ReportedEnds::add(const RefusedKey& key, Time added) {
  added_[key] = added;
}

void ReportedEnds::forget(Time now) {
  std::erase_if(added_, [&](const auto& item) { return item.second + 2 * life_ <= now; });
}

void RefusedEnds::add(const RefusedKey& key) {
  keys_.emplace(service(key.protocol, key.port), key);
}

std::optional<RefusedKey> RefusedEnds::take(const kernel::LoggedPacket& packet,
                                            const Known& known) {
  const bool source_is_here = packet.loopback || !packet.input;
  const bool destination_is_here = packet.loopback || packet.input;
  enum class Match { none, possible, quarantine, policy };
  Match best_match = Match::none;
  auto [candidate, end] =
      keys_.equal_range(service(packet.protocol, packet.tuple.destination_port));
  auto best = end;
  for (int compared = 0; candidate != end && compared < kMostCompared; ++candidate) {
    const RefusedKey& key = candidate->second;
    if (!fits(key.source, source_is_here, packet.loopback, known) ||
        !fits(key.destination, destination_is_here, packet.loopback, known)) {
      continue;
    }
    compared++;
    const bool quarantined = key.source == abi::kQuarantine || key.destination == abi::kQuarantine;
    const Match match = quarantined                  ? Match::quarantine
                        : known.refuses(key, packet) ? Match::policy
                                                     : Match::possible;
    if (match > best_match) {
      best = candidate;
      best_match = match;
    }
    if (match == Match::policy) {
      break;
    }
  }
  if (best == end) {
    return std::nullopt;
  }
  const RefusedKey key = best->second;
  keys_.erase(best);
  return key;
}

}  // namespace trireme::enforcer
