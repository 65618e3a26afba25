// SPDX-License-Identifier: Apache-2.0
// The client's part of a UDP flow's handshake: its first datagrams wait while HELLO is sent, REPLY
// is verified, and PROOF goes ahead of them.
#include <algorithm>

#include "near.hpp"
#include "udp/datagrams.hpp"

namespace trireme::handshake {

using wire::Token;

namespace {

/// Repetitions of HELLO after which a peer that policy allows without proof is taken for one that
/// has none: 0.9 s.
constexpr std::uint8_t kShortWait = 4;
/// After a refusal for want of an answer the same flow does not ask again for this long, doubled
/// each time.
constexpr Milliseconds kPause{1'000};
constexpr unsigned kMostDoublings = 5;
/// A flow is not renewed more often.
constexpr Milliseconds kRenewal{1'000};

}  // namespace

void Datagrams::leave_as_client(const Packet& packet) {
  DatagramExchange* known = table_.find(packet.key(Role::client));
  if (packet.is(kRenew)) {
    return renew(packet, known);
  }
  if (has_anothers_ends(packet)) {
    return take_over(packet);
  }
  if (known == nullptr || known->is_closing) {
    return ask(packet, known, {});
  }
  if (known->local->number != packet.number()) {
    return ask(packet, known, {});
  }
  switch (known->stage) {
    case Stage::asking:
      return hold(packet, *known);
    case Stage::proving:
    case Stage::complete:
      return packet.is(kFresh) ? ask(packet, known, {}) : rejudge(packet, *known);
    case Stage::open:
      return packet.is(kFresh) ? ask(packet, known, {}) : rejudge_open(packet, *known);
    case Stage::refused:
    case Stage::answered:
      break;
  }
  return packet.now.monotonic < known->refused_until ? turn_away(packet) : ask(packet, known, {});
}

/// The far end has refused a datagram of an authorised flow: perhaps it was restarted. Nothing is
/// taken away on that word.
void Datagrams::renew(const Packet& packet, DatagramExchange* known) {
  change(packet.key(Role::client), FlowChange::renewed);
  const bool is_under_way =
      known != nullptr && (known->stage == Stage::asking || known->stage == Stage::proving);
  const bool is_recent = known != nullptr && known->began + kRenewal > packet.now.monotonic;
  if (is_under_way || is_recent) {
    return accept(packet, Ruling::pass);
  }
  return ask(packet, known, {.renewing = true});
}

void Datagrams::ask(const Packet& packet, DatagramExchange* known, Purpose purpose) {
  const FlowKey key = packet.key(Role::client);
  const auto found = around_.locals.find(packet.facts.point, packet.number());
  Event report = event(key, nullptr);
  report.local = packet.number();
  if (!purpose.closing && found == nullptr) {
    return refuse(packet, Reason::unknown_workload, std::move(report));
  }
  const auto successor = found != nullptr ? found : packet.is(kFresh) ? host_ : nullptr;
  const auto local = purpose.closing ? closer(packet) : found;
  if (const Reason reason = may_ask(key.remote, *local, around_, packet.now);
      reason != Reason::none) {
    report.detail = reason == Reason::label_constraint ? "this host's own certificate" : "";
    return refuse(packet, reason, std::move(report));
  }
  if (!purpose.closing && !purpose.renewing) {
    const policy::Decision decision = rulings_.of_unlabelled(*local, key);
    const auto silent = silent_.find(key.remote, key.remote_port, packet.now.monotonic);
    if (decision.verdict != policy::Verdict::deny && silent == SilentPeers::Known::lately) {
      return open_at_once(packet, decision);
    }
    purpose.probing =
        decision.verdict != policy::Verdict::deny && silent == SilentPeers::Known::once;
  }
  const std::uint8_t failures = known == nullptr ? 0 : known->failures;
  const bool had_proof =
      known != nullptr && (known->stage == Stage::complete || known->stage == Stage::proving);
  const auto remote = had_proof ? known->remote : nullptr;
  DatagramExchange& exchange = make(packet, Role::client);
  exchange.is_closing = purpose.closing;
  // NAT on OUTPUT: once the entry has gone nobody knows where its datagrams were sent.
  const bool waits = purpose.closing && !packet.is(kTranslated);
  exchange.successor = waits ? successor : nullptr;
  exchange.is_renewing = purpose.renewing || purpose.probing;
  exchange.was_open = purpose.probing;
  exchange.failures = failures;
  exchange.remote = remote;
  return begin(packet, exchange, local);
}

void Datagrams::begin(const Packet& packet, DatagramExchange& exchange,
                      std::shared_ptr<const LocalIdentity> local) {
  exchange.mark = packet.facts.mark;
  exchange.translated = packet.is(kTranslated);
  exchange.device = exchange.translated ? 0 : packet.facts.out_device;
  exchange.flow_label = packet.datagram.flow_label();
  exchange.traffic_class = packet.datagram.traffic_class();
  const auto size = write_first_hello(exchange, std::move(local), packet.now);
  if (!size) {
    Event report = event(exchange.key, &exchange);
    report.detail = size.error() == Reason::token_too_large ? no_room(exchange) : "";
    remove(exchange);
    return size.error() == Reason::trust_failed ? drop(packet, Reason::trust_failed)
                                                : refuse(packet, size.error(), std::move(report));
  }
  table_.repeat(exchange, packet.now.monotonic);
  around_.statistics.hellos++;
  const bool is_known_to_conntrack =
      exchange.is_renewing || (exchange.is_closing && !packet.is(kFresh));
  if (exchange.translated && !is_known_to_conntrack) {
    // Where it was sent before NAT is known to nobody until a packet of the flow has passed: HELLO
    // goes in the datagram's place.
    wire::write_datagram(packet.ends, exchange.traffic_class, exchange.flow_label,
                         std::span(data_).first(*size), changed_);
    return accept_changed(packet, Ruling::pass);
  }
  send(exchange, *size);
  if (exchange.is_renewing) {
    return accept(packet, exchange.was_open ? Ruling::authorise : Ruling::pass);
  }
  return exchange.is_closing && exchange.successor == nullptr ? drop(packet, Reason::taken_over)
                                                              : hold(packet, exchange);
}

/// Its size, or why there is none.
tl::expected<std::size_t, Reason> Datagrams::write_first_hello(
    DatagramExchange& exchange, std::shared_ptr<const LocalIdentity> local, const Now& now) {
  if (is_near(exchange.key.remote, around_)) {
    return depart(exchange, around_.proved.first_datagrams, std::move(local), exchange.is_closing,
                  around_, now)
               ? write_hello(exchange)
               : tl::expected<std::size_t, Reason>(tl::unexpected(Reason::trust_failed));
  }
  if (!make_hello(exchange, flags_of(exchange), std::move(local), around_)) {
    return tl::unexpected(Reason::trust_failed);
  }
  const std::size_t size = write_hello(exchange);
  return size == 0 ? tl::expected<std::size_t, Reason>(tl::unexpected(Reason::token_too_large))
                   : size;
}

std::string Datagrams::no_room(const DatagramExchange& exchange) {
  const std::size_t labels = exchange.local->encoded.size();
  return too_large(wire::hello_size(exchange.trust->credential(exchange.type).size(), labels),
                   labels, wire::kMaxControl);
}

/// Whether the far end may still know a flow of another's with these ends, which conntrack here has
/// forgotten.
bool Datagrams::has_anothers_ends(const Packet& packet) const {
  const auto flow = around_.proved.datagrams.find(packet.key(Role::client));
  return flow && flow->local != packet.number() && !rulings_.audits();
}

/// In whose name a flow is closed. Where conntrack has no entry of it, HELLO makes one, which is to
/// have the number of the process that sends now.
std::shared_ptr<const LocalIdentity> Datagrams::closer(const Packet& packet) const {
  if (!packet.is(kFresh)) {
    return nobody_;
  }
  return packet.number() == kHost
             ? host_
             : std::make_shared<const LocalIdentity>(packet.number(), policy::LabelSet{});
}

/// What waited begins a flow of its own.
void Datagrams::succeed(DatagramExchange& exchange, const Now& now) {
  const auto local = std::exchange(exchange.successor, nullptr);
  exchange.is_closing = false;
  exchange.remote = nullptr;
  exchange.stage = Stage::asking;
  exchange.attempts = 0;
  exchange.began = now.monotonic;
  const Reason reason = may_ask(exchange.key.remote, *local, around_, now);
  const auto size =
      reason == Reason::none ? write_first_hello(exchange, local, now) : tl::unexpected(reason);
  if (!size) {
    exchange.local = local;
    Event report = event(exchange.key, &exchange);
    report.detail = size.error() == Reason::token_too_large ? no_room(exchange) : "";
    rulings_.refuse(std::move(report), size.error());
    settle_refused(exchange, now);
    return;
  }
  around_.statistics.hellos++;
  send(exchange, *size);
  table_.repeat(exchange, now.monotonic);
}

/// Policy allows the peer without proof, and it had none to offer a moment ago.
void Datagrams::open_at_once(const Packet& packet, const policy::Decision& decision) {
  DatagramExchange& exchange = make(packet, Role::client);
  exchange.trust = around_.peers.trust();
  exchange.local = around_.locals.find(packet.number());
  open(exchange, decision, packet.now);
  return accept(packet, ruling_of(decision));
}

std::size_t Datagrams::write_hello(const DatagramExchange& exchange) {
  if (exchange.is_near) {
    return write_tag(exchange, wire::Message::meet, exchange.client_nonce);
  }
  return wire::write_datagram_token(hello_token(exchange, flags_of(exchange)), data_);
}

void Datagrams::repeat_hello(DatagramExchange& exchange, const Now& now) {
  if (exchange.is_near && meet(exchange, now)) {
    return;  // READY was lost, or it is refused
  }
  exchange.attempts++;
  if (!exchange.is_closing && !rulings_.is_here(exchange)) {
    give_up(exchange, now);
    return;
  }
  const bool may_be_open =
      !exchange.is_closing && exchange.attempts >= kShortWait &&
      rulings_.of_unlabelled(*exchange.local, exchange.key).verdict != policy::Verdict::deny;
  if (may_be_open || exchange.attempts >= DatagramTable::kRepeat.size()) {
    give_up(exchange, now);
    return;
  }
  if (exchange.is_near) {
    depart_again(exchange, around_.proved.first_datagrams, exchange.is_closing, now);
  }
  around_.statistics.hellos++;
  send(exchange, write_hello(exchange));
  table_.repeat(exchange, now.monotonic);
}

void Datagrams::repeat_proof(DatagramExchange& exchange, const Now& now) {
  exchange.attempts++;
  if (exchange.attempts >= DatagramTable::kRepeat.size()) {
    if (exchange.is_closing) {
      give_up(exchange, now);
    } else {
      table_.settle(exchange, Stage::complete, now.monotonic);
    }
    return;
  }
  send(exchange, write_tag(exchange, wire::Message::proof, exchange.proof));
  table_.repeat(exchange, now.monotonic);
}

/// Nobody has answered, or nobody is there any more who has asked.
void Datagrams::give_up(DatagramExchange& exchange, const Now& now) {
  forget_request(exchange);
  const auto refuse = [&](const Judgement& judgement) {
    rulings_.refuse(exchange, judgement);
    settle_refused(exchange, now);
  };
  if (exchange.is_closing) {
    refuse({.reason = Reason::taken_over, .decision = {}});
    return;
  }
  if (!rulings_.is_here(exchange)) {
    refuse({.reason = Reason::unknown_workload, .decision = {}});
    return;
  }
  const policy::Decision decision = rulings_.of_unlabelled(*exchange.local, exchange.key);
  if (decision.verdict == policy::Verdict::deny) {
    refuse({.reason = Reason::no_answer, .decision = decision});
    return;
  }
  silent_.add(exchange.key.remote, exchange.key.remote_port, now.monotonic);
  exchange.remote = nullptr;
  open(exchange, decision, now);
}

void Datagrams::open(DatagramExchange& exchange, const policy::Decision& decision, const Now& now) {
  rulings_.open(exchange, decision, Reason::no_answer);
  table_.settle(exchange, Stage::open, now.monotonic);
  release(exchange, static_cast<std::uint32_t>(ruling_of(decision)));
}

/// What waited is refused, and so is what comes until the pause is over.
void Datagrams::settle_refused(DatagramExchange& exchange, const Now& now) {
  if (exchange.is_renewing) {
    change(exchange.key, FlowChange::withdraw);
  }
  exchange.refused_until =
      now.monotonic + kPause * (1U << std::min<unsigned>(exchange.failures, kMostDoublings));
  exchange.failures++;
  exchange.is_renewing = false;
  table_.settle(exchange, Stage::refused, now.monotonic);
  release(exchange, static_cast<std::uint32_t>(Ruling::refuse));
}

/// What this end has begun. Answers to a closing handshake reach whatever socket has the ports now;
/// others only the flow's own.
DatagramExchange* Datagrams::find_asking(const Packet& packet) {
  DatagramExchange* exchange = table_.find(packet.key(Role::client));
  return exchange != nullptr && (exchange->is_closing || !packet.is(kTakenOver)) ? exchange
                                                                                 : nullptr;
}

void Datagrams::take_reply(const Packet& packet) {
  DatagramExchange* exchange = find_asking(packet);
  if (exchange == nullptr || exchange->stage != Stage::asking) {
    // A repeated one is nothing new.
    return exchange == nullptr ? drop(packet, Reason::unknown_handshake) : discard(packet);
  }
  const auto token = wire::read_datagram_token(wire::Message::reply, packet.datagram.payload());
  const bool is_ours = token && packet.datagram.is_whole() &&
                       ((token->flags & wire::kClosing) != 0) == exchange->is_closing;
  if (!is_ours) {
    // Nothing in it is proved: the server's own word may still come.
    if (token || token.error() != wire::BadToken::version) {
      return drop(packet, Reason::malformed_token);
    }
    rulings_.forged(*exchange, Reason::version,
                    unreadable(token.error(), exchange->key.remote, packet.datagram.payload()));
    return drop(packet, Reason::version);
  }
  return accept_reply(packet, *exchange, *token);
}

/// What does not hold is reported, and not acted upon: whoever sent it has not shown that it is the
/// server.
void Datagrams::accept_reply(const Packet& packet, DatagramExchange& exchange, const Token& token) {
  const auto text = std::span(text_).first(token.labels.size());
  ServerClaim claim = check_reply(exchange, token, text, around_, packet.now);
  if (claim.refusal == Reason::none) {
    // Checked first: only the server makes this host ask the kernel.
    const auto flow = translation(packet, exchange.key);
    if (!flow) {
      return;
    }
    bind_reply(claim, exchange, token, text, *flow, around_);
  }
  if (claim.refusal != Reason::none) {
    if (claim.refusal != Reason::busy) {
      rulings_.forged(exchange, claim.refusal, claim.detail);
    }
    return drop(packet, claim.refusal);
  }
  exchange.failures = 0;
  discard(packet);
  if (exchange.is_closing) {
    return prove(exchange, packet.now);
  }
  Reason reason = Reason::none;
  auto remote = identify(*claim.peer, claim.labels, around_.book, reason);
  if (remote == nullptr) {
    return refuse_client(exchange, {.reason = reason, .decision = {}}, packet.now);
  }
  exchange.peer = claim.peer->peer;
  if (const auto decision = judge_server(exchange, std::move(remote), packet.now)) {
    prove(exchange, packet.now);
    admit(exchange, *decision, packet.now);
  }
}

/// Who has answered. Nothing: that is refused, and done with.
std::optional<policy::Decision> Datagrams::judge_server(
    DatagramExchange& exchange, std::shared_ptr<const RemoteIdentity> remote, const Now& now) {
  const bool is_another = exchange.remote != nullptr && exchange.remote->number != remote->number;
  if (exchange.is_renewing && (exchange.was_open || is_another)) {
    change(exchange.key,
           FlowChange::forget);  // a number is written once: the next datagram makes a new entry
  }
  exchange.remote = std::move(remote);
  const Judgement judgement = rulings_.of_proof(exchange, now);
  if (judgement.reason != Reason::none) {
    refuse_client(exchange, judgement, now);
    return std::nullopt;
  }
  silent_.remove(exchange.key.remote, exchange.key.remote_port);
  return judgement.decision;
}

/// PROOF, which goes ahead of what waited.
void Datagrams::prove(DatagramExchange& exchange, const Now& now) {
  exchange.stage = Stage::proving;
  exchange.proved = now.monotonic;
  exchange.attempts = 0;
  send(exchange, write_tag(exchange, wire::Message::proof, exchange.proof));
  table_.repeat(exchange, now.monotonic);
}

/// The flow is authorised, and what waited goes on.
void Datagrams::admit(DatagramExchange& exchange, const policy::Decision& decision,
                      const Now& now) {
  rulings_.authorise(exchange, decision, now);
  around_.proved.datagrams.enter({exchange.key, exchange.local->number, exchange.remote->number},
                                 now.monotonic);
  release_proved(exchange,
                 static_cast<std::uint32_t>(ruling_of(decision)) | exchange.remote->number);
}

void Datagrams::take_ready(const Packet& packet) {
  DatagramExchange* exchange = find_asking(packet);
  if (exchange != nullptr && exchange->is_near && exchange->stage == Stage::asking) {
    std::ignore = meet(*exchange, packet.now);
    return discard(packet);
  }
  const auto ready = wire::read_tag_message(wire::Message::ready, packet.datagram.payload());
  if (exchange == nullptr || exchange->stage != Stage::proving) {
    return discard(packet);
  }
  if (!ready || !belongs_to(*ready, *exchange)) {
    return drop(packet, Reason::malformed_token);
  }
  if (!credentials::equal(ready->tag, exchange->ready)) {
    rulings_.forged(*exchange, Reason::forged_reply);
    return drop(packet, Reason::forged_reply);
  }
  if (exchange->is_closing) {
    close(*exchange, packet.now);
  } else {
    table_.settle(*exchange, Stage::complete, packet.now.monotonic);
  }
  return discard(packet);
}

/// Both ends have forgotten the flow that had these ports.
void Datagrams::close(DatagramExchange& exchange, const Now& now) {
  change(exchange.key, FlowChange::forget);
  around_.proved.datagrams.remove(exchange.key);
  if (exchange.held.count > 0 && exchange.successor != host_) {
    succeed(exchange, now);
  } else {
    release(exchange, static_cast<std::uint32_t>(Ruling::exempt));
    remove(exchange);
  }
}

/// REPLY holds, but policy or credentials do not allow the flow.
void Datagrams::take_refusal(const Packet& packet) {
  DatagramExchange* exchange = find_asking(packet);
  const auto token = wire::read_datagram_token(wire::Message::refusal, packet.datagram.payload());
  if (exchange == nullptr || exchange->stage != Stage::asking || exchange->is_closing) {
    return exchange == nullptr ? drop(packet, Reason::unknown_handshake) : discard(packet);
  }
  std::array<std::uint8_t, wire::kReplyStart> text{};
  const bool holds = token && packet.datagram.is_whole() &&
                     open_refusal(*exchange, *token, text, around_, packet.now);
  const auto flow = holds ? translation(packet, exchange->key) : std::nullopt;
  if (holds && !flow) {
    return;
  }
  auto why = holds ? why_refused(*exchange, text, *flow, around_) : std::nullopt;
  if (!why) {
    rulings_.forged(*exchange, Reason::forged_reply);
    return drop(packet, Reason::forged_reply);
  }
  Event report = event(exchange->key, exchange);
  report.detail = std::move(*why);
  rulings_.refuse(std::move(report), Reason::denied_by_peer);
  settle_client(*exchange, packet.now);
  return discard(packet);
}

void Datagrams::refuse_client(DatagramExchange& exchange, const Judgement& judgement,
                              const Now& now) {
  rulings_.refuse(exchange, judgement);
  settle_client(exchange, now);
}

/// What waited, after a refusal that is reported.
void Datagrams::settle_client(DatagramExchange& exchange, const Now& now) {
  if (rulings_.audits()) {
    table_.settle(exchange, Stage::open, now.monotonic);
    release(exchange, static_cast<std::uint32_t>(Ruling::audit));
  } else {
    settle_refused(exchange, now);
    exchange.failures = 0;
  }
}

}  // namespace trireme::handshake
