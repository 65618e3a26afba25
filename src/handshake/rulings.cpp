// SPDX-License-Identifier: Apache-2.0
#include "rulings.hpp"

#include <cstring>

#include "steps.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::handshake {
namespace {

constexpr std::chrono::seconds kCompareAgain(60);

}  // namespace

void say(Event& told, const policy::Decision& decision) {
  told.detail = policy::sentence(decision.reason);
  told.rule = decision.rule != nullptr ? decision.rule->text() : "";
}

Ruling ruling_of(const policy::Decision& decision) {
  return decision.verdict == policy::Verdict::audit ? Ruling::audit : Ruling::authorise;
}

bool Rulings::is_here(const Conversation& conversation) const {
  return around_.locals.find(conversation.local->number) == conversation.local;
}

Reason Rulings::believe(const Conversation& conversation, const Now& now) {
  if (!is_here(conversation)) {
    return Reason::unknown_workload;
  }
  const credentials::Peer& peer = *conversation.peer;
  if (conversation.trust == around_.peers.trust()) {
    return now.wall <= peer.not_after ? Reason::none : Reason::expired;
  }
  // The trust has changed since: so may have what this credential is worth.
  const auto known =
      around_.peers.find(peer.type, peer.credential, conversation.key.remote, around_.budget, now);
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
    authorise(conversation, judgement.decision, now);
  }
  return judgement;
}

void Rulings::authorise(const Conversation& conversation, const policy::Decision& decision,
                        const Now& now) {
  report(conversation, decision, Reason::policy);
  around_.statistics.authorised++;
  compare_policies(conversation, now);
}

/// Once in a while for each host: the warning stays as long as it is repeated.
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
                 ") has another policy than this host: digest " +
                 policy::hex(conversation.peers_policy) + ", here " + policy::hex(around_.policy);
  tell(std::move(found));
}

std::optional<Ruling> Rulings::of_open(const Conversation& conversation) const {
  if (audits()) {
    return Ruling::audit;
  }
  if (!conversation.is_unlabelled || !is_here(conversation)) {
    return std::nullopt;
  }
  const policy::Decision decision = of_unlabelled(*conversation.local, conversation.key);
  return decision.verdict == policy::Verdict::deny ? std::nullopt
                                                   : std::optional(ruling_of(decision));
}

void Rulings::open(Conversation& conversation, const policy::Decision& decision, Reason reason) {
  report(conversation, decision, reason);
  around_.statistics.unproved++;
  conversation.is_unlabelled = true;
}

Event Rulings::event(const FlowKey& key, const Conversation* conversation) const {
  Event told;
  told.protocol = protocol_;
  told.local_is_client = key.role == Role::client;
  told.ends = told.local_is_client
                  ? wire::Ends{key.local, key.remote, key.local_port, key.remote_port}
                  : wire::Ends{key.remote, key.local, key.remote_port, key.local_port};
  if (conversation != nullptr && conversation->local) {
    told.local = conversation->local->number;
    told.self = conversation->local;
    told.remote = conversation->remote;
  }
  return told;
}

void Rulings::count(Reason reason) {
  around_.statistics.refused[static_cast<std::size_t>(reason)]++;
}

void Rulings::refuse(Event&& event, Reason reason) {
  count(reason);
  event.reason = reason;
  event.verdict = audits() ? policy::Verdict::audit : policy::Verdict::deny;
  tell(std::move(event));
}

void Rulings::refuse(const Conversation& conversation, const Judgement& judgement) {
  Event told = event(conversation.key, &conversation);
  if (judgement.reason == Reason::policy) {
    say(told, judgement.decision);
  }
  refuse(std::move(told), judgement.reason);
}

void Rulings::died(const Conversation& conversation, std::string detail) {
  count(Reason::no_answer);
  Event report = event(conversation.key, &conversation);
  report.reason = Reason::no_answer;
  report.verdict = audits() ? policy::Verdict::audit : policy::Verdict::deny;
  report.detail = std::move(detail);
  tell(std::move(report));
}

void Rulings::forged(const Conversation& conversation, Reason reason, std::string detail) {
  Event told = event(conversation.key, &conversation);
  told.reason = reason;
  told.detail = std::move(detail);
  tell(std::move(told));
}

void Rulings::report(const Conversation& conversation, const policy::Decision& decision,
                     Reason audited) {
  const bool is_audited = decision.verdict == policy::Verdict::audit;
  if (!is_audited && !decision.log) {
    return;
  }
  Event told = event(conversation.key, &conversation);
  told.verdict = decision.verdict;
  told.reason = is_audited ? audited : Reason::none;
  say(told, decision);
  tell(std::move(told));
}

void Rulings::tell(Event&& event) {
  if (around_.on_event) {
    around_.on_event(std::move(event));
  }
}

}  // namespace trireme::handshake
