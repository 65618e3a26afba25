// SPDX-License-Identifier: Apache-2.0
// How the flows that this host's workloads began to remote hosts ended lately: by remote host.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "trireme/handshake/owner.hpp"
#include "trireme/handshake/reason.hpp"
#include "trireme/policy/address.hpp"

namespace trireme::handshake {

struct PeerOutcomes {
  policy::Address address;  // the one of the newest flow; one entry for all of an IPv6 /64
  std::uint64_t allowed = 0;
  std::uint64_t refused = 0;
  Reason reason = Reason::none;  // of the newest refusal
  std::string detail;            // of the newest refusal, as in Event::detail; may be empty

  /// True if most flows to this peer fail, and not just a few.
  [[nodiscard]] bool fails() const { return refused >= kFew && refused > allowed; }
  static constexpr std::uint64_t kFew = 3;
};

/// Counts of the last 5 to 10 minutes. Each remote host has one entry. The table is small, because
/// a workload chooses the addresses that it connects to: a new entry replaces the one with the
/// fewest flows out of four, so that a scan does not displace the hosts that are really used. All
/// threads share the table. Thread-safe.
class PeerHealth {
 public:
  using Milliseconds = std::chrono::milliseconds;
  static constexpr std::size_t kPeers = 256;
  static constexpr Milliseconds kPeriod = std::chrono::minutes(5);

  void note_allowed(const policy::Address& peer, Milliseconds now);
  /// Ignored if the reason says nothing about the peer.
  void note_refused(const policy::Address& peer, Reason reason, const std::string& detail,
                    Milliseconds now);
  /// Hosts with flows in the last minutes, those with the most refusals first.
  [[nodiscard]] std::vector<PeerOutcomes> recent(Milliseconds now) const;

 private:
  static constexpr std::size_t kWays = 4;  // entries that a host can be in
  struct Counts {
    std::uint32_t allowed = 0;
    std::uint32_t refused = 0;
    [[nodiscard]] std::uint64_t sum() const { return std::uint64_t{allowed} + refused; }
  };
  struct Entry {
    bool used = false;
    Owner owner;
    policy::Address address;
    std::int64_t period = 0;  // the period that `now` counts
    Counts now, before;
    Reason reason = Reason::none;
    std::string detail;
  };
  [[nodiscard]] static std::int64_t period_of(Milliseconds now) { return now / kPeriod; }
  /// The counts of an entry in the current and the last period.
  [[nodiscard]] static std::pair<Counts, Counts> counts(const Entry& entry, Milliseconds now);
  Entry& entry(const policy::Address& peer, Milliseconds now);

  mutable std::mutex mutex_;
  std::array<Entry, kPeers> entries_;
};

}  // namespace trireme::handshake
