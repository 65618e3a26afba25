// SPDX-License-Identifier: Apache-2.0
// Which addresses are in which networks by a DNS name, and for how long: what one enforcement point
// has heard. Knows nothing of the kernel.
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

  /// Clients keep addresses longer than they should: no name counts for less.
  static constexpr std::chrono::seconds kLeast{60};
  /// No resolver keeps an answer longer.
  static constexpr std::chrono::seconds kMost{24 * 3600};
  /// Addresses of one network; the one that ends first gives way to a new one.
  static constexpr std::size_t kMostAddresses = 16'384;

  explicit NameBook(std::shared_ptr<const policy::NameIndex> index) : index_(std::move(index)) {}

  [[nodiscard]] const policy::NameIndex& index() const { return *index_; }
  /// Another policy: names that it does not know go, the others' networks are looked up again.
  void set_index(std::shared_ptr<const policy::NameIndex> index);

  /// What the kernel is to be told after a change.
  struct Change {
    std::set<policy::Address> written;           // new, or with other networks or another end
    std::set<policy::Address> gone;              // of these, none is in `written`
    std::map<std::size_t, std::size_t> evicted;  // by network: addresses that gave way
    [[nodiscard]] bool empty() const { return written.empty() && gone.empty(); }
  };
  /// `name` has `address` for `ttl` from `now` on; nothing where policy does not know the name. A
  /// network's address that is asked for again and again is written anew once in a while, not each
  /// time.
  void hear(const std::string& name, const policy::Address& address, std::chrono::seconds ttl,
            Time now, Change& change);

  /// Addresses with a name that has ended by `now`.
  [[nodiscard]] std::vector<policy::Address> due(Time now) const;
  /// What has ended by `now` is forgotten, but for the addresses `in_use`, which stay for kLeast.
  void end(Time now, const std::set<policy::Address>& in_use, Change& change);

  /// Networks of an address, of all its names; empty where it has none.
  [[nodiscard]] Networks networks(const policy::Address& address) const;
  [[nodiscard]] std::vector<std::string> names(const policy::Address& address) const;
  /// Addresses of a name, lower case, no final dot.
  [[nodiscard]] std::vector<policy::Address> addresses(const std::string& name) const;
  /// When the last of its names ends.
  [[nodiscard]] Time until(const policy::Address& address) const;
  [[nodiscard]] std::vector<policy::Address> all() const;
  [[nodiscard]] std::size_t size() const { return known_.size(); }

 private:
  /// The name that was heard last among those of the same networks.
  struct Entry {
    std::string name;
    Networks networks;
    Time until;
  };
  struct Known {
    std::vector<Entry> entries;  // no two with the same networks
    Networks networks;           // of all entries
    Time until;                  // the last one's
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
