// SPDX-License-Identifier: Apache-2.0
// Decisions that TCP and UDP handshakes share: whether a workload still exists, whether its peer is
// trusted, what policy decides on the two, and which events are reported.
#pragma once

#include <optional>

#include "conversation.hpp"
#include "judge.hpp"
#include "surroundings.hpp"

namespace trireme::handshake {

/// Writes why policy decided so, and the rule, into the event.
void say(Event& event, const policy::Decision& decision);
/// The ruling for a decision that allows the flow.
[[nodiscard]] abi::Ruling ruling_of(const policy::Decision& decision);

/// The decision on a proof: allowed if `reason` is none.
struct Judgement {
  Reason reason = Reason::none;
  policy::Decision decision;  // valid if both sides are trusted
};

/// Decides, counts and reports. Nothing here changes what happens to a packet: the carrier gives
/// the verdict (Carrier::accept(), turn_away()).
class Rulings {
 public:
  /// `protocol` is the IANA number.
  Rulings(std::uint8_t protocol, const Surroundings& around)
      : protocol_(protocol), around_(around), judge_(protocol) {}

  void set_policy(std::shared_ptr<const policy::Policy> policy) {
    judge_.set_policy(std::move(policy));
  }
  void set_named(const NamedPeers* named) { judge_.set_named(named); }
  [[nodiscard]] const policy::Policy& policy() const { return judge_.policy(); }
  [[nodiscard]] bool audits() const { return policy().mode == policy::Mode::audit; }

  /// True if REFUSAL may be sent to a peer with a verified credential.
  [[nodiscard]] bool tells_peers() const {
    return policy().tell_peers && policy().refuse == policy::Refuse::reject && !audits();
  }

  /// True if the local workload still exists, with the labels that it had when the handshake began.
  [[nodiscard]] bool is_here(const Conversation& conversation) const;
  /// The policy decision on a server's workload and the client identity that HELLO claims.
  [[nodiscard]] policy::Decision of_claim(const LocalIdentity& local, const RemoteIdentity& remote,
                                          std::uint16_t port) {
    return judge_.labeled(local, remote, false, port);
  }
  /// The policy decision on a workload and a peer that proves nothing.
  [[nodiscard]] policy::Decision of_unlabeled(const LocalIdentity& local,
                                              const FlowKey& key) const {
    const bool is_client = key.role == Role::client;
    return judge_.unlabeled(local, key.point, key.remote, is_client,
                            is_client ? key.remote_port : key.local_port);
  }
  /// The policy decision on a workload and a peer whose labels are proved and trusted.
  [[nodiscard]] policy::Decision of_pair(const LocalIdentity& local, const RemoteIdentity& remote,
                                         const FlowKey& key) {
    const bool is_client = key.role == Role::client;
    return judge_.labeled(local, remote, is_client, is_client ? key.remote_port : key.local_port);
  }
  /// Decides on a peer that proved its labels: the workload must still exist, the trust in force
  /// must accept the peer, and policy must allow the flow. Reason::busy: not known yet.
  [[nodiscard]] Judgement of_proof(const Conversation& conversation, const Now& now);
  /// As of_proof(), for a PROOF that has just arrived. If it is allowed, assigns a number to the
  /// peer, and counts and reports the flow.
  [[nodiscard]] Judgement accept_proof(Conversation& conversation, const Now& now);
  /// Counts an authorized flow, and reports it: as a sample unless it is audited or its rule is
  /// logged.
  void report_authorized(const Conversation& conversation, const policy::Decision& decision,
                         const Now& now);
  /// The ruling on a flow in which nothing was proved. None: policy refuses it now.
  [[nodiscard]] std::optional<abi::Ruling> of_open(const Conversation& conversation) const;
  /// Records that policy allows the peer without labels. `reason` says why it has none.
  void report_open(Conversation& conversation, const policy::Decision& decision, Reason reason);

  /// `conversation` may be null: then only the endpoints of the flow are known.
  [[nodiscard]] Event event(const FlowKey& key, const Conversation* conversation) const;
  void count(Reason reason);
  /// Counts and reports the refusal; in audit mode with verdict audit, because the packet passes.
  void report_refused(Event&& event, Reason reason);
  void report_refused(const Conversation& conversation, const Judgement& judgement);
  /// Counts and reports a handshake that timed out without an answer.
  void report_timeout(const Conversation& conversation, std::string detail);
  /// Reports a message that is not valid. It is dropped in audit mode too; the caller counts it.
  void report_forged(const Conversation& conversation, Reason reason, std::string detail = "");

 private:
  [[nodiscard]] Reason believe(const Conversation& conversation, const Now& now);
  void report(const Conversation& conversation, const policy::Decision& decision, Reason audited);
  void compare_policies(const Conversation& conversation, const Now& now);
  void note_refused(const Event& event) const;
  void note_allowed(const FlowKey& key) const;
  void tell(Event&& event);

  /// A host with a different policy that was reported recently, by the first 8 bytes of its
  /// credential's hash.
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
