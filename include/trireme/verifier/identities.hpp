// SPDX-License-Identifier: Apache-2.0
// Remote identities: label sets that remote hosts proved to this host, and this host's numbers for
// them. All threads share one book.
//
// The book is saved to a file, so that a restarted daemon can interpret the numbers in the
// conntrack labels of open flows. Without the file such flows end.
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

/// Path of the book's file in this runtime directory.
[[nodiscard]] std::string identities_file(const std::string& runtime_dir);
/// Path of the file of proved flows in this runtime directory.
[[nodiscard]] std::string proved_file(const std::string& runtime_dir);
/// Removes both files. Call it when no flow has the numbers in its label any more.
void forget_identities(const std::string& runtime_dir);

class Identities final : public handshake::IdentityBook {
 public:
  /// `file` is read by load() and written by save(). `numbers` must outlive the book.
  Identities(std::string file, policy::Numbers& numbers);

  /// An eventfd: readable after an identity was entered, until save().
  [[nodiscard]] int fd() const { return entered_.get(); }

  std::shared_ptr<const handshake::RemoteIdentity> enter(
      const handshake::RemoteIdentity& identity) override;

  /// Loads what an earlier daemon saved, except what `trust` no longer accepts. A missing file
  /// counts as empty. A certificate that was valid when it was proved and has expired since is
  /// accepted. Returns the number of identities.
  [[nodiscard]] Result<std::size_t> load(const credentials::Trust& trust, credentials::Time now);
  /// Rewrites the file if an identity was entered or removed since the last call.
  [[nodiscard]] Status save();
  /// Removes the identities whose credential or labels `trust` no longer accepts. The threads that
  /// call enter() must already use `trust`. Must not run concurrently with itself.
  void set_trust(const credentials::Trust& trust, credentials::Time now);
  /// Removes the identities that no flow uses (`in_use`), that no thread refers to, and that are
  /// older than 15 minutes.
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

  // The caller holds mutex_.
  void put(std::shared_ptr<const handshake::RemoteIdentity> identity);
  Entries::iterator take_out(Entries::iterator entry);

  static constexpr std::size_t kMost = 1U << 16U;
  /// The share of one remote host, so that it cannot fill the book. Threads remember half as many.
  static constexpr std::size_t kMostOfPeer = 1U << 12U;

  std::string file_;
  policy::Numbers& numbers_;
  Fd entered_;  // eventfd
  mutable std::mutex mutex_;
  Entries entries_;
  std::map<policy::Number, Key> by_number_;
  std::map<credentials::Digest, std::size_t> of_peer_;  // number of entries by credential
  bool changed_ = false;
};

}  // namespace trireme::verifier
