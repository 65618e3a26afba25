// SPDX-License-Identifier: Apache-2.0
#include "rulings.hpp"

#include <cstring>

#include "near.hpp"
#include "steps.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::handshake {
namespace {

constexpr std::chrono::seconds kCompareAgain(60);

/// A hash of what is equal for flows of one kind; not 0. A peer without labels has no number, so
/// all such peers are one end, as in the rules of the kernel.
std::uint64_t kind_of(const Event& event) {
  std::uint64_t kind = 0;
  for (const std::uint64_t part :
       {std::uint64_t{event.local},
        std::uint64_t{event.remote != nullptr ? event.remote->number : policy::Number{0}},
        std::uint64_t{event.near},
        std::uint64_t{event.ends.destination_port} << 9U | std::uint64_t{event.protocol} << 1U |
            std::uint64_t{event.local_is_client}}) {
    kind = (kind ^ part) * 0x9e3779b97f4a7c15U;
    kind ^= kind >> 32U;
  }
  return kind | 1U;
}

}  // namespace

Owner owner_of(const Event& event) {
  return event.local_is_client ? Owner::workload(event.local)
         : event.near != 0     ? Owner::workload(event.near)
                               : Owner::address(event.ends.source);
}

void say(Event& event, const policy::Decision& decision) {
  event.detail = policy::sentence(decision.reason);
  event.rule = decision.rule != nullptr ? decision.rule->text() : "";
}

abi::Ruling ruling_of(const policy::Decision& decision) {
  return decision.verdict == policy::Verdict::audit ? abi::Ruling::audit : abi::Ruling::authorize;
}

bool Rulings::is_here(const Conversation& conversation) const {
  return around_.locals.find(conversation.local->number) == conversation.local;
}

Reason Rulings::believe(const Conversation& conversation, const Now& now) {
  if (!is_here(conversation)) {
    return Reason::unknown_workload;
  }
  const credentials::Peer& peer = *conversation.peer;
  if (conversation.trust == around_.known_peers.trust()) {
    return now.wall <= peer.not_after ? Reason::none : Reason::expired;
  }
  // The trust has changed since, so the credential may no longer be trusted.
  const auto known = around_.known_peers.find(peer.type, peer.credential, conversation.key.remote,
                                              around_.budget, now);
  if (!known) {
    return known.error();
  }
  return (*known)->peer->constraints.permit(conversation.remote->labels) ? Reason::none
                                                                         : Reason::label_constraint;
}

Judgement Rulings::of_proof(const Conversation& conversation, const Now& now) {
  Judgement judgement{.reason = believe(conversation, now), .decision = {}};
  if (judgement.reason == Reason::none) {
    judgement.decision = of_pair(*conversation.local, *conversation.remote, conversation.key);
    judgement.reason =
        judgement.decision.verdict == policy::Verdict::deny ? Reason::policy : Reason::none;
  }
  return judgement;
}

Judgement Rulings::accept_proof(Conversation& conversation, const Now& now) {
  Judgement judgement = of_proof(conversation, now);
  if (judgement.reason == Reason::none) {
    judgement.reason = number_peer(conversation, around_, now);
  }
  if (judgement.reason == Reason::none) {
    report_authorized(conversation, judgement.decision, now);
  }
  return judgement;
}

void Rulings::report_authorized(const Conversation& conversation, const policy::Decision& decision,
                                const Now& now) {
  report(conversation, decision, Reason::policy);
  around_.statistics.authorized++;
  note_allowed(conversation.key);
  compare_policies(conversation, now);
}

/// Reports once per kCompareAgain for each host. The daemon shows the warning for as long as it is
/// repeated.
void Rulings::compare_policies(const Conversation& conversation, const Now& now) {
  const wire::PolicyDigest nothing{};
  const bool is_own = conversation.type == wire::CredentialType::local;
  if (is_own || conversation.peers_policy == around_.policy ||
      conversation.peers_policy == nothing || around_.policy == nothing) {
    return;
  }
  std::uint64_t host = 0;
  std::memcpy(&host, conversation.peer->hash.data(), sizeof host);
  Compared& compared = compared_.at(host % compared_.size());
  if (compared.host == host && now.monotonic < compared.until) {
    return;
  }
  compared = {host, now.monotonic + kCompareAgain};
  Event found = event(conversation.key, &conversation);
  found.verdict = policy::Verdict::allow;
  found.is_other_policy = true;
  found.detail = "peer " + conversation.peer->name + " (" + conversation.key.remote.text() +
                 ") has a different policy than this host: digest " +
                 policy::hex(conversation.peers_policy) + ", here " + policy::hex(around_.policy);
  tell(std::move(found));
}

std::optional<abi::Ruling> Rulings::of_open(const Conversation& conversation) const {
  if (audits()) {
    return abi::Ruling::audit;
  }
  if (!conversation.is_unlabeled || !is_here(conversation)) {
    return std::nullopt;
  }
  const policy::Decision decision = of_unlabeled(*conversation.local, conversation.key);
  return decision.verdict == policy::Verdict::deny ? std::nullopt
                                                   : std::optional(ruling_of(decision));
}

void Rulings::report_open(Conversation& conversation, const policy::Decision& decision,
                          Reason reason) {
  report(conversation, decision, reason);
  around_.statistics.unproved++;
  note_allowed(conversation.key);
  conversation.is_unlabeled = true;
}

Event Rulings::event(const FlowKey& key, const Conversation* conversation) const {
  Event result;
  result.protocol = protocol_;
  result.local_is_client = key.role == Role::client;
  result.ends = result.local_is_client
                    ? wire::Ends{key.local, key.remote, key.local_port, key.remote_port}
                    : wire::Ends{key.remote, key.local, key.remote_port, key.local_port};
  if (conversation != nullptr && conversation->local) {
    result.local = conversation->local->number;
    result.self = conversation->local;
    result.remote = conversation->remote;
    result.near = conversation->is_near ? conversation->near_number : 0;
  }
  return result;
}

void Rulings::count(Reason reason) {
  around_.statistics.refused[static_cast<std::size_t>(reason)]++;
}

void Rulings::report_refused(Event&& event, Reason reason) {
  count(reason);
  event.reason = reason;
  event.verdict = audits() ? policy::Verdict::audit : policy::Verdict::deny;
  note_refused(event);
  tell(std::move(event));
}

/// In audit mode the flow passes in spite of it.
void Rulings::note_refused(const Event& event) const {
  const policy::Address& peer = event.ends.destination;
  if (event.local_is_client && !audits() && !is_near(peer, around_)) {
    around_.proved.peers.note_refused(peer, event.reason, event.detail, around_.now);
  }
}

void Rulings::note_allowed(const FlowKey& key) const {
  if (key.role == Role::client && !is_near(key.remote, around_)) {
    around_.proved.peers.note_allowed(key.remote, around_.now);
  }
}

void Rulings::report_refused(const Conversation& conversation, const Judgement& judgement) {
  Event refusal = event(conversation.key, &conversation);
  if (judgement.reason == Reason::policy) {
    say(refusal, judgement.decision);
  }
  report_refused(std::move(refusal), judgement.reason);
}

void Rulings::report_timeout(const Conversation& conversation, std::string detail) {
  count(Reason::no_answer);
  Event report = event(conversation.key, &conversation);
  report.reason = Reason::no_answer;
  report.verdict = audits() ? policy::Verdict::audit : policy::Verdict::deny;
  report.detail = std::move(detail);
  note_refused(report);
  tell(std::move(report));
}

void Rulings::report_forged(const Conversation& conversation, Reason reason, std::string detail) {
  Event forgery = event(conversation.key, &conversation);
  forgery.reason = reason;
  forgery.detail = std::move(detail);
  tell(std::move(forgery));
}

void Rulings::report(const Conversation& conversation, const policy::Decision& decision,
                     Reason audited) {
  const bool is_audited = decision.verdict == policy::Verdict::audit;
  Event allowed = event(conversation.key, &conversation);
  if (!is_audited && !decision.log) {
    // The rules of the kernel cannot report this flow: they do not know the peer's labels.
    allowed.sample = kind_of(allowed);
    if (decision.verdict != policy::Verdict::allow ||
        !around_.samples.admit(allowed.sample, owner_of(allowed), around_.now)) {
      return;
    }
  }
  allowed.verdict = decision.verdict;
  allowed.reason = is_audited ? audited : Reason::none;
  say(allowed, decision);
  tell(std::move(allowed));
}

void Rulings::tell(Event&& event) {
  if (around_.on_event) {
    around_.on_event(std::move(event));
  }
}

}  // namespace trireme::handshake
