// SPDX-License-Identifier: Apache-2.0
// Which addresses are in which networks by DNS name, and until when, at one enforcement point.
// Pure: does not use the kernel.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "trireme/policy/names.hpp"

namespace trireme::enforcer {

class NameBook {
 public:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;
  using Networks = std::vector<std::size_t>;  // indices into Policy::networks, sorted

  /// Minimum TTL, because clients use addresses for longer than they should.
  static constexpr std::chrono::seconds kLeast{60};
  /// Maximum TTL.
  static constexpr std::chrono::seconds kMost{24 * 3600};
  /// Maximum number of addresses of a network. The one that expires first is removed for a new one.
  static constexpr std::size_t kMostAddresses = 16'384;

  explicit NameBook(std::shared_ptr<const policy::NameIndex> index) : index_(std::move(index)) {}

  [[nodiscard]] const policy::NameIndex& index() const { return *index_; }
  /// Switches to another policy: removes names that it does not have and looks up the networks of
  /// the others again.
  void set_index(std::shared_ptr<const policy::NameIndex> index);

  /// Addresses to write to, or remove from, the kernel.
  struct Change {
    std::set<policy::Address> written;           // new, or with other networks or expiry
    std::set<policy::Address> gone;              // removed; disjoint from `written`
    std::map<std::size_t, std::size_t> evicted;  // by network: number of addresses removed early
    [[nodiscard]] bool empty() const { return written.empty() && gone.empty(); }
  };
  /// Records that `name` has `address` for `ttl` from `now` on. Does nothing if no network has the
  /// name. An address that is looked up repeatedly is not written each time: see slack().
  void learn(const std::string& name, const policy::Address& address, std::chrono::seconds ttl,
             Time now, Change& change);

  /// Sorted addresses with a name that has expired by `now`.
  [[nodiscard]] std::vector<policy::Address> due(Time now) const;
  /// Removes names that have expired by `now`. Those of the addresses `in_use` stay for another
  /// kLeast.
  void end(Time now, const std::set<policy::Address>& in_use, Change& change);

  /// Networks of all names of an address; empty if it has no name.
  [[nodiscard]] Networks networks(const policy::Address& address) const;
  [[nodiscard]] std::vector<std::string> names(const policy::Address& address) const;
  /// When the last name of the address expires.
  [[nodiscard]] Time until(const policy::Address& address) const;
  [[nodiscard]] std::vector<policy::Address> all() const;
  [[nodiscard]] std::size_t size() const { return known_.size(); }

 private:
  /// The most recently learned name among those with the same networks.
  struct Entry {
    std::string name;
    Networks networks;
    Time until;
  };
  struct Known {
    std::vector<Entry> entries;  // no two with the same networks
    Networks networks;           // of all entries
    Time until;                  // latest of all entries
  };
  using Book = std::map<policy::Address, Known>;

  void place(Book::iterator known);
  void displace(Book::const_iterator known);
  void make_room(std::size_t network, const policy::Address& keep, Change& change);
  static void sum_up(Known& known);

  std::shared_ptr<const policy::NameIndex> index_;
  Book known_;
  std::map<std::size_t, std::set<std::pair<Time, policy::Address>>> by_end_;  // by network
};

}  // namespace trireme::enforcer
