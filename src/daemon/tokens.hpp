// SPDX-License-Identifier: Apache-2.0
// The token path as the daemon has it: the verifier's threads, the identities that they met, and
// what they tell.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "flow_feed.hpp"
#include "trireme/base/event.hpp"
#include "trireme/policy/identity.hpp"
#include "trireme/verifier/identities.hpp"
#include "trireme/verifier/verifier.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::daemon {

class Tokens {
 public:
  /// Starts the threads where this kernel has queues; problem() says why where it has none.
  /// `runtime_dir` keeps the identities.
  [[nodiscard]] static Result<std::unique_ptr<Tokens>> start(
      const std::string& runtime_dir, policy::Numbers& numbers,
      const std::shared_ptr<const policy::Policy>& policy,
      const std::shared_ptr<const credentials::Trust>& trust);
  ~Tokens();
  Tokens(const Tokens&) = delete;
  Tokens& operator=(const Tokens&) = delete;

  /// Refusals go to `feed` and new identities to their file from now on.
  [[nodiscard]] Status follow(sd_event* loop, FlowFeed& feed, const workload::Registry& registry);
  /// [host] peers, and nat.
  void set_peers(const policy::Identity& identity);
  /// Another trust: peers are verified anew, and identities that it does not believe are forgotten.
  /// The same: nothing happens.
  void set_trust(const std::shared_ptr<const credentials::Trust>& trust);

  /// Whether labels can be proved to peers elsewhere: they fit a token beside this host's
  /// credential, which vouches for them.
  [[nodiscard]] Status check_labels(const policy::LabelSet& labels) const;

  [[nodiscard]] verifier::Identities& identities() { return identities_; }
  [[nodiscard]] handshake::Proved& proved() { return proved_; }
  /// Null where this kernel has no queues.
  [[nodiscard]] verifier::Verifier* verifier() { return verifier_.get(); }
  [[nodiscard]] kernel::QueueMechanism mechanism() const { return mechanism_; }
  [[nodiscard]] const std::string& problem() const { return problem_; }

  /// What of the verifier's has been full: how much had to be given up, who held most of it the
  /// last time, and whether that was a moment ago.
  struct Crowded {
    handshake::Bounded what{};
    handshake::Crowding crowding;
    std::string holder;  // "workload web", "remote host 10.0.0.7"
    bool lately = false;
  };
  [[nodiscard]] std::vector<Crowded> crowded() const;
  /// "peer 10.0.0.2 speaks version 1: upgrade it", of [host] peers that were refused for it within
  /// ten minutes; eight at most.
  [[nodiscard]] std::vector<std::string> other_versions() const;
  /// "peer web-2 (10.0.0.2) has another policy than this host: ...", of peers of the last minutes;
  /// eight at most.
  [[nodiscard]] std::vector<std::string> other_policies() const;

 private:
  /// Something about a peer that is true for a while.
  struct Note {
    std::string text;
    std::chrono::steady_clock::time_point seen;
  };
  void note_policy(const handshake::Event& event);
  void note_version(const handshake::Event& event);

  Tokens(const std::string& runtime_dir, policy::Numbers& numbers, std::uint64_t seed)
      : identities_(verifier::identities_file(runtime_dir), numbers), proved_(seed) {}
  void take_events();
  void save_identities();
  [[nodiscard]] policy::Flow flow_of(const handshake::Event& event) const;

  verifier::Identities identities_;
  handshake::Proved proved_;
  std::shared_ptr<const credentials::Trust> trust_;
  std::unique_ptr<verifier::Verifier> verifier_;
  kernel::QueueMechanism mechanism_ = kernel::QueueMechanism::native;
  std::string problem_;
  FlowFeed* feed_ = nullptr;
  const workload::Registry* registry_ = nullptr;
  std::vector<policy::Prefix> peers_;
  std::map<policy::Address, Note> other_versions_;
  std::map<std::string, Note> other_policies_;  // by the host's name
  event::Io events_;
  event::Io entered_;
  event::Timer rested_;
};

}  // namespace trireme::daemon
