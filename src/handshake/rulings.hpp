// SPDX-License-Identifier: Apache-2.0
// What the handshakes of TCP and of UDP decide alike: whether a workload is still here, whether its
// peer is believed, what policy says of the two, and what is reported of it.
#pragma once

#include <optional>

#include "conversation.hpp"
#include "judge.hpp"
#include "surroundings.hpp"

namespace trireme::handshake {

/// Why policy decided so.
void say(Event& told, const policy::Decision& decision);
/// Of a decision that allows.
[[nodiscard]] Ruling ruling_of(const policy::Decision& decision);

/// What has become of a proof: allowed where `reason` is none.
struct Judgement {
  Reason reason = Reason::none;
  policy::Decision decision;  // where the ends are believed
};

class Rulings {
 public:
  /// `protocol` is IANA's number.
  Rulings(std::uint8_t protocol, const Surroundings& around)
      : protocol_(protocol), around_(around), judge_(protocol) {}

  void set_policy(std::shared_ptr<const policy::Policy> policy) {
    judge_.set_policy(std::move(policy));
  }
  void set_named(const NamedPeers* named) { judge_.set_named(named); }
  [[nodiscard]] const policy::Policy& policy() const { return judge_.policy(); }
  [[nodiscard]] bool audits() const { return policy().mode == policy::Mode::audit; }

  /// Whether a peer with a verified credential may know why it is refused.
  [[nodiscard]] bool tells_peers() const {
    return policy().tell_peers && policy().refuse == policy::Refuse::reject && !audits();
  }

  /// Whether its workload still has the labels that it began with.
  [[nodiscard]] bool is_here(const Conversation& conversation) const;
  /// What policy says of a server's workload and who claims to be its client.
  [[nodiscard]] policy::Decision of_claim(const LocalIdentity& local, const RemoteIdentity& remote,
                                          std::uint16_t port) {
    return judge_.labelled(local, remote, false, port);
  }
  /// What policy says of a workload and the peer of its flow that proves nothing.
  [[nodiscard]] policy::Decision of_unlabelled(const LocalIdentity& local,
                                               const FlowKey& key) const {
    const bool is_client = key.role == Role::client;
    return judge_.unlabelled(local, key.point, key.remote, is_client,
                             is_client ? key.remote_port : key.local_port);
  }
  /// The same of a peer whose labels are proved and believed.
  [[nodiscard]] policy::Decision of_pair(const LocalIdentity& local, const RemoteIdentity& remote,
                                         const FlowKey& key) {
    const bool is_client = key.role == Role::client;
    return judge_.labelled(local, remote, is_client, is_client ? key.remote_port : key.local_port);
  }
  /// Of a peer that proved its labels: whether it is believed under the trust in force, whether the
  /// workload is still here, and what policy says. Reason::busy: not known yet.
  [[nodiscard]] Judgement of_proof(const Conversation& conversation, const Now& now);
  /// The same when PROOF has come, which gives the peer its number, and is counted and reported.
  [[nodiscard]] Judgement accept_proof(Conversation& conversation, const Now& now);
  /// It is counted and, where policy wants it, reported.
  void authorise(const Conversation& conversation, const policy::Decision& decision,
                 const Now& now);
  /// Of a conversation in which nothing was proved; none: it is refused now.
  [[nodiscard]] std::optional<Ruling> of_open(const Conversation& conversation) const;
  /// Policy allows the peer as one without labels. `reason` says why it is taken for one.
  void open(Conversation& conversation, const policy::Decision& decision, Reason reason);

  /// Without a conversation only the ends of the flow are known.
  [[nodiscard]] Event event(const FlowKey& key, const Conversation* conversation) const;
  void count(Reason reason);
  /// Counts the refusal, and reports it; in audit mode as one that passes.
  void refuse(Event&& event, Reason reason);
  void refuse(const Conversation& conversation, const Judgement& judgement);
  /// One that ended by itself: nobody has answered.
  void died(const Conversation& conversation, std::string detail);
  /// Somebody's word that is dropped, whatever the mode. Counted by who drops it.
  void forged(const Conversation& conversation, Reason reason, std::string detail = "");

 private:
  [[nodiscard]] Reason believe(const Conversation& conversation, const Now& now);
  void report(const Conversation& conversation, const policy::Decision& decision, Reason audited);
  void compare_policies(const Conversation& conversation, const Now& now);
  void tell(Event&& event);

  /// Hosts whose policy was compared lately, by a part of their credential's hash.
  struct Compared {
    std::uint64_t host = 0;
    std::chrono::milliseconds until{};
  };

  std::uint8_t protocol_;
  Surroundings around_;
  Judge judge_;
  std::array<Compared, 256> compared_{};
};

}  // namespace trireme::handshake
