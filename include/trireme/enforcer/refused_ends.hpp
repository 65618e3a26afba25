// SPDX-License-Identifier: Apache-2.0
// Finds the endpoints of a packet that the kernel has logged. The log message has addresses and
// ports; the numbers of both endpoints are in an element that the same rule added to the set
// `refused`.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <unordered_map>

#include "trireme/abi/abi.hpp"
#include "trireme/kernel/packet_log.hpp"

namespace trireme::enforcer {

/// An element of the set `refused`.
struct RefusedKey {
  abi::Number source = 0;
  abi::Number destination = 0;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;  // of the destination; the set has one for protocols without ports too
  auto operator<=>(const RefusedKey&) const = default;
};

/// The elements that were matched with a logged packet. After an element has ended, another one
/// with the same key is another refusal.
class ReportedEnds {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// `life`: how long the kernel keeps an element.
  explicit ReportedEnds(std::chrono::milliseconds life) : life_(life) {}
  [[nodiscard]] std::chrono::milliseconds life() const { return life_; }

  /// `added`: when a rule added the element, as far as the kernel's clock ticks tell.
  [[nodiscard]] bool contains(const RefusedKey& key, Time added) const;
  void add(const RefusedKey& key, Time added);
  /// Forgets the elements that the kernel has removed by `now`.
  void forget(Time now);

 private:
  std::chrono::milliseconds life_;
  std::map<RefusedKey, Time> added_;
};

/// The elements that no logged packet has been matched with.
class RefusedEnds {
 public:
  /// What is known about an element and a packet with the same protocol and port.
  struct Known {
    /// True if the number, which is not reserved, is that of a workload enrolled here.
    std::function<bool(abi::Number)> is_here;
    /// True if policy refuses a flow between these numbers at the packet's addresses.
    std::function<bool(const RefusedKey&, const kernel::LoggedPacket&)> refuses;
  };

  void add(const RefusedKey& key);
  /// Removes and returns the element that explains the packet; nullopt if none can. An endpoint on
  /// this host must be a workload or @host, another one must not. Of several elements, one that
  /// policy refuses at these addresses is preferred, then one with an endpoint in quarantine.
  std::optional<RefusedKey> take(const kernel::LoggedPacket& packet, const Known& known);

 private:
  std::unordered_multimap<std::uint32_t, RefusedKey> keys_;  // by protocol and port
};

}  // namespace trireme::enforcer
