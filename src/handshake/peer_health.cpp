// SPDX-License-Identifier: Apache-2.0
#include "trireme/handshake/peer_health.hpp"

#include <algorithm>
#include <span>
#include <tuple>
#include <utility>

namespace trireme::handshake {
namespace {

/// Whether a refusal for this reason depends on the remote host, or on the path to it. Policy of
/// this host and faults of its own credential do not.
bool is_about_peer(Reason reason) {
  switch (reason) {
    case Reason::no_proof:
    case Reason::denied_by_peer:
    case Reason::no_answer:
    case Reason::unknown_type:
    case Reason::bad_credential:
    case Reason::untrusted:
    case Reason::expired:
    case Reason::usage:
    case Reason::revoked:
    case Reason::label_constraint:
    case Reason::trust_failed:
    case Reason::malformed_token:
    case Reason::version:
    case Reason::other_address:
    case Reason::forged_reply:
      return true;
    default:
      return false;
  }
}

std::size_t hash(const Owner& owner) {
  return (owner.id + static_cast<std::uint64_t>(owner.kind)) * 0x9e3779b97f4a7c15U >> 32U;
}

}  // namespace

std::pair<PeerHealth::Counts, PeerHealth::Counts> PeerHealth::counts(const Entry& entry,
                                                                     Milliseconds now) {
  // The clocks of two threads can differ by some milliseconds.
  const std::int64_t age = std::max<std::int64_t>(period_of(now) - entry.period, 0);
  if (age == 0) {
    return {entry.now, entry.before};
  }
  return {Counts(), age == 1 ? entry.now : Counts()};
}

/// The caller holds mutex_.
PeerHealth::Entry& PeerHealth::entry(const policy::Address& peer, Milliseconds now) {
  const Owner owner = Owner::address(peer);
  const auto ways =
      std::span(entries_).subspan(hash(owner) % (kPeers / kWays) * kWays).first<kWays>();
  auto found = std::ranges::find_if(
      ways, [&](const Entry& entry) { return entry.used && entry.owner == owner; });
  if (found == ways.end()) {
    found = std::ranges::min_element(ways, {}, [now](const Entry& entry) {
      const auto [current, last] = counts(entry, now);
      return current.sum() + last.sum();
    });
    *found = Entry();
    found->used = true;
    found->owner = owner;
    found->period = period_of(now);
  }
  std::tie(found->now, found->before) = counts(*found, now);
  found->period = std::max(found->period, period_of(now));
  found->address = peer;
  return *found;
}

void PeerHealth::note_allowed(const policy::Address& peer, Milliseconds now) {
  const std::scoped_lock lock(mutex_);
  entry(peer, now).now.allowed++;
}

void PeerHealth::note_refused(const policy::Address& peer, Reason reason, const std::string& detail,
                              Milliseconds now) {
  if (!is_about_peer(reason)) {
    return;
  }
  const std::scoped_lock lock(mutex_);
  Entry& found = entry(peer, now);
  found.now.refused++;
  found.reason = reason;
  found.detail = detail;
}

std::vector<PeerOutcomes> PeerHealth::recent(Milliseconds now) const {
  std::vector<PeerOutcomes> list;
  {
    const std::scoped_lock lock(mutex_);
    for (const Entry& entry : entries_) {
      const auto [current, last] = counts(entry, now);
      const std::uint64_t refused = std::uint64_t{current.refused} + last.refused;
      const std::uint64_t allowed = std::uint64_t{current.allowed} + last.allowed;
      if (refused + allowed > 0) {
        list.push_back({entry.address, allowed, refused, refused > 0 ? entry.reason : Reason::none,
                        refused > 0 ? entry.detail : ""});
      }
    }
  }
  std::ranges::sort(list, [](const PeerOutcomes& a, const PeerOutcomes& b) {
    return std::tuple(b.refused, a.address) < std::tuple(a.refused, b.address);
  });
  return list;
}

}  // namespace trireme::handshake
