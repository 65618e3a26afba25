// SPDX-License-Identifier: Apache-2.0
// The daemon's side of handshakes: starts the verifier's threads, saves the identities of peers,
// and reports the verifier's events.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "flow_feed.hpp"
#include "trireme/base/event.hpp"
#include "trireme/config/host.hpp"
#include "trireme/verifier/identities.hpp"
#include "trireme/verifier/verifier.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::daemon {

/// "peer 10.0.0.2: 7 of 9 connections to it failed in the last minutes; the newest: …"
[[nodiscard]] std::string text(const handshake::PeerOutcomes& peer);

class Tokens {
 public:
  /// Starts the verifier's threads. If the kernel has no queues, there is no verifier, and
  /// problem() has the reason. Identities are saved in `runtime_dir`. Errors: the random number
  /// generator or the threads cannot be started.
  [[nodiscard]] static Result<std::unique_ptr<Tokens>> start(
      const std::string& runtime_dir, policy::Numbers& numbers,
      const std::shared_ptr<const policy::Policy>& policy,
      const std::shared_ptr<const credentials::Trust>& trust);
  ~Tokens();
  Tokens(const Tokens&) = delete;
  Tokens& operator=(const Tokens&) = delete;

  /// From now on, refusals go to `feed`, and new identities are saved.
  [[nodiscard]] Status follow(sd_event* loop, FlowFeed& feed, const workload::Registry& registry);
  /// Uses [host] peers and nat of the identity.
  void set_peers(const config::Host& host);
  /// Uses another trust: peers are verified again, and identities that it does not accept are
  /// removed. Does nothing if it is the same object as before.
  void set_trust(const std::shared_ptr<const credentials::Trust>& trust);

  /// Checks that labels can be proved to remote hosts: they fit a token together with this host's
  /// credential, and the credential permits them.
  [[nodiscard]] Status check_labels(const policy::LabelSet& labels) const;

  [[nodiscard]] verifier::Identities& identities() { return identities_; }
  [[nodiscard]] handshake::Proved& proved() { return proved_; }
  /// Null if the kernel has no queues.
  [[nodiscard]] verifier::Verifier* verifier() { return verifier_.get(); }
  [[nodiscard]] kernel::QueueMechanism mechanism() const { return mechanism_; }
  [[nodiscard]] const std::string& problem() const { return problem_; }

  /// A bounded resource that has been full: how many entries were dropped, and its largest holder
  /// at the last time.
  struct Crowded {
    handshake::Bounded what{};
    handshake::Crowding crowding;
    std::string holder;   // "workload web", "remote host 10.0.0.7"
    bool lately = false;  // the last time is less than 30 s ago
  };
  [[nodiscard]] std::vector<Crowded> crowded() const;
  /// Lines about [host] peers that were refused within the last ten minutes because of their
  /// protocol version, at most eight.
  [[nodiscard]] std::vector<std::string> other_versions() const;
  /// Lines about peers of the last minutes that have another policy than this host, at most eight.
  [[nodiscard]] std::vector<std::string> other_policies() const;
  /// How flows of this host's workloads to remote hosts ended in the last minutes.
  [[nodiscard]] std::vector<handshake::PeerOutcomes> peers() const;
  /// A line for each remote host to which most flows fail.
  [[nodiscard]] std::vector<std::string> failing_peers() const;

 private:
  /// A line about a peer, shown until some time after `seen`.
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
  event::Timer resume_timer_;  // follows entered_ again after a pause
};

}  // namespace trireme::daemon
