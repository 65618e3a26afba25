// SPDX-License-Identifier: Apache-2.0
// Workloads elsewhere that proved their labels to this host, and this host's numbers for them. One
// book for all threads.
//
// It is kept in a file, so that a restarted daemon knows whose the numbers in live flows' conntrack
// labels are: without it such flows end.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>

#include "trireme/base/fd.hpp"
#include "trireme/handshake/identities.hpp"
#include "trireme/policy/numbers.hpp"

namespace trireme::verifier {

/// Where a daemon with this runtime directory keeps its book.
[[nodiscard]] std::string identities_file(const std::string& runtime_dir);
/// And the flows that they proved, those that are still remembered.
[[nodiscard]] std::string proved_file(const std::string& runtime_dir);
/// Removes both: no flow bears the numbers any more.
void forget_identities(const std::string& runtime_dir);

class Identities final : public handshake::IdentityBook {
 public:
  /// `file` is read by load() and written by save(). `numbers` outlives the book.
  Identities(std::string file, policy::Numbers& numbers);

  /// Readable after something was entered, until save().
  [[nodiscard]] int fd() const { return entered_.get(); }

  std::shared_ptr<const handshake::RemoteIdentity> enter(
      const handshake::RemoteIdentity& identity) override;

  /// What an earlier daemon has saved, as far as `trust` still believes it; a file that is missing
  /// holds nothing. A certificate that has expired since it was proved loses nothing that it had.
  /// Returns how many.
  [[nodiscard]] Result<std::size_t> load(const credentials::Trust& trust, credentials::Time now);
  /// Writes the file anew where something was entered or left since.
  [[nodiscard]] Status save();
  /// Forgets those that `trust` believes no longer, their credential or their labels; find() then
  /// knows them no more. By then the threads that enter() have that trust. One at a time.
  void set_trust(const credentials::Trust& trust, credentials::Time now);
  /// Forgets those that have no flow (`in_use`), are remembered by no thread, and are older than a
  /// quarter of an hour.
  void prune(const std::unordered_set<policy::Number>& in_use,
             std::chrono::steady_clock::time_point now);

  [[nodiscard]] std::shared_ptr<const handshake::RemoteIdentity> find(
      policy::Number number) const override;
  [[nodiscard]] std::size_t size() const;

 private:
  struct Entry {
    std::shared_ptr<const handshake::RemoteIdentity> identity;
    std::chrono::steady_clock::time_point entered;
  };
  using Key = std::pair<credentials::Digest, credentials::Digest>;  // credential, labels
  using Entries = std::map<Key, Entry>;

  // Under the mutex.
  void put(std::shared_ptr<const handshake::RemoteIdentity> identity);
  Entries::iterator take_out(Entries::iterator entry);

  static constexpr std::size_t kMost = 1U << 16U;
  static constexpr std::size_t kMostOfPeer =
      1U << 12U;  // so that no other host takes the place of all; threads remember half of them

  std::string file_;
  policy::Numbers& numbers_;
  Fd entered_;  // eventfd
  mutable std::mutex mutex_;
  Entries entries_;
  std::map<policy::Number, Key> by_number_;
  std::map<credentials::Digest, std::size_t> of_peer_;  // how many entries
  bool changed_ = false;
};

}  // namespace trireme::verifier
