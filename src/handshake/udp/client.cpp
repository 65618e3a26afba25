// SPDX-License-Identifier: Apache-2.0
// UDP handshake, client's side: the first datagrams of a flow wait while HELLO is sent and REPLY is
// verified. PROOF is sent ahead of them.
#include <algorithm>

#include "near.hpp"
#include "udp/datagrams.hpp"

namespace trireme::handshake {

using wire::Token;

namespace {

/// Repetitions of HELLO after which a peer that policy allows without labels is treated as one
/// without labels: 0.9 s.
constexpr std::uint8_t kShortWait = 4;
/// After a handshake without an answer, the same flow sends no HELLO for this long. The pause
/// doubles with each failure.
constexpr Milliseconds kPause{1'000};
constexpr unsigned kMostDoublings = 5;
/// Minimum interval between two renewals of a flow.
constexpr Milliseconds kRenewal{1'000};

}  // namespace

void Datagrams::leave_as_client(const Packet& packet) {
  DatagramExchange* known = table_.find(packet.key(Role::client));
  if (packet.is(abi::kRenew)) {
    return renew(packet, known);
  }
  if (has_anothers_ends(packet)) {
    return take_over(packet);
  }
  if (known == nullptr || known->is_closing) {
    return begin_as_client(packet, known, {});
  }
  if (known->local->number != packet.number()) {
    return begin_as_client(packet, known, {});
  }
  switch (known->stage) {
    case Stage::asking:
      return hold(packet, *known);
    case Stage::proving:
    case Stage::complete:
      return packet.is(abi::kFresh) ? begin_as_client(packet, known, {}) : rejudge(packet, *known);
    case Stage::open:
      return packet.is(abi::kFresh) ? begin_as_client(packet, known, {})
                                    : rejudge_open(packet, *known);
    case Stage::refused:
    case Stage::answered:
      break;
  }
  return packet.now.monotonic < known->refused_until ? turn_away(packet)
                                                     : begin_as_client(packet, known, {});
}

/// The remote host has refused a datagram of an authorized flow, perhaps because it was restarted.
/// That message can be forged, so the authorization stays while a new handshake runs.
void Datagrams::renew(const Packet& packet, DatagramExchange* known) {
  change(packet.key(Role::client), FlowChange::renewed);
  const bool is_under_way =
      known != nullptr && (known->stage == Stage::asking || known->stage == Stage::proving);
  const bool is_recent = known != nullptr && known->began + kRenewal > packet.now.monotonic;
  if (is_under_way || is_recent) {
    return accept(packet, abi::Ruling::pass);
  }
  return begin_as_client(packet, known, {.renewing = true});
}

void Datagrams::begin_as_client(const Packet& packet, DatagramExchange* known, Purpose purpose) {
  const FlowKey key = packet.key(Role::client);
  const auto found = around_.locals.find(packet.facts.point, packet.number());
  Event report = event(key, nullptr);
  report.local = packet.number();
  if (!purpose.closing && found == nullptr) {
    return refuse(packet, Reason::unknown_workload, std::move(report));
  }
  const auto successor = found != nullptr ? found : packet.is(abi::kFresh) ? host_ : nullptr;
  const auto local = purpose.closing ? closer(packet) : found;
  if (const Reason reason = may_ask(key.remote, *local, around_, packet.now);
      reason != Reason::none) {
    report.detail = reason == Reason::label_constraint ? "this host's own certificate" : "";
    return refuse(packet, reason, std::move(report));
  }
  if (!purpose.closing && !purpose.renewing) {
    const policy::Decision decision = rulings_.of_unlabeled(*local, key);
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
  // With NAT on OUTPUT the datagrams cannot wait: their destination is known only to the conntrack
  // entry, which is about to be removed.
  const bool waits = purpose.closing && !packet.is(abi::kDestinationNat);
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
  exchange.translated = packet.is(abi::kDestinationNat);
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
      exchange.is_renewing || (exchange.is_closing && !packet.is(abi::kFresh));
  if (exchange.translated && !is_known_to_conntrack) {
    // Conntrack knows the translation only after a packet of the flow has passed, so HELLO replaces
    // the datagram.
    wire::write_datagram(packet.ends, exchange.traffic_class, exchange.flow_label,
                         std::span(data_).first(*size), changed_);
    return accept_changed(packet, abi::Ruling::pass);
  }
  send(exchange, *size);
  if (exchange.is_renewing) {
    return accept(packet, exchange.was_open ? abi::Ruling::authorize : abi::Ruling::pass);
  }
  return exchange.is_closing && exchange.successor == nullptr ? drop(packet, Reason::taken_over)
                                                              : hold(packet, exchange);
}

/// Writes HELLO, or MEET for a peer on this host. Returns its size in bytes, or why there is none.
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

/// True if the remote host may still remember a flow of another workload between these addresses
/// and ports, which conntrack here has forgotten.
bool Datagrams::has_anothers_ends(const Packet& packet) const {
  const auto flow = around_.proved.datagrams.find(packet.key(Role::client));
  return flow && flow->local != packet.number() && !rulings_.audits();
}

/// The identity that a closing handshake is sent for. If conntrack has no entry of the flow, HELLO
/// creates one, which must have the number of the process that sends now.
std::shared_ptr<const LocalIdentity> Datagrams::closer(const Packet& packet) const {
  if (!packet.is(abi::kFresh)) {
    return nobody_;
  }
  return packet.number() == abi::kHost
             ? host_
             : std::make_shared<const LocalIdentity>(packet.number(), policy::LabelSet{});
}

/// The former flow is closed: the datagrams that waited begin a new one.
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
    rulings_.report_refused(std::move(report), size.error());
    finish_refused(exchange, now);
    return;
  }
  around_.statistics.hellos++;
  send(exchange, *size);
  table_.repeat(exchange, now.monotonic);
}

/// Does not wait: policy allows the peer without labels, and it recently did not answer a HELLO.
void Datagrams::open_at_once(const Packet& packet, const policy::Decision& decision) {
  DatagramExchange& exchange = make(packet, Role::client);
  exchange.trust = around_.known_peers.trust();
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
    return;  // the server's side has decided, but READY was lost, or the flow is refused
  }
  exchange.attempts++;
  if (!exchange.is_closing && !rulings_.is_here(exchange)) {
    give_up(exchange, now);
    return;
  }
  const bool may_be_open =
      !exchange.is_closing && exchange.attempts >= kShortWait &&
      rulings_.of_unlabeled(*exchange.local, exchange.key).verdict != policy::Verdict::deny;
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
      table_.finish(exchange, Stage::complete, now.monotonic);
    }
    return;
  }
  send(exchange, write_tag(exchange, wire::Message::proof, exchange.proof));
  table_.repeat(exchange, now.monotonic);
}

/// Ends a handshake that got no answer, or whose workload has ended.
void Datagrams::give_up(DatagramExchange& exchange, const Now& now) {
  forget_request(exchange);
  const auto refuse = [&](const Judgement& judgement) {
    rulings_.report_refused(exchange, judgement);
    finish_refused(exchange, now);
  };
  if (exchange.is_closing) {
    refuse({.reason = Reason::taken_over, .decision = {}});
    return;
  }
  if (!rulings_.is_here(exchange)) {
    refuse({.reason = Reason::unknown_workload, .decision = {}});
    return;
  }
  const policy::Decision decision = rulings_.of_unlabeled(*exchange.local, exchange.key);
  if (decision.verdict == policy::Verdict::deny) {
    refuse({.reason = Reason::no_answer, .decision = decision});
    return;
  }
  silent_.add(exchange.key.remote, exchange.key.remote_port, now.monotonic);
  exchange.remote = nullptr;
  open(exchange, decision, now);
}

void Datagrams::open(DatagramExchange& exchange, const policy::Decision& decision, const Now& now) {
  rulings_.report_open(exchange, decision, Reason::no_answer);
  table_.finish(exchange, Stage::open, now.monotonic);
  release(exchange, static_cast<std::uint32_t>(ruling_of(decision)));
}

/// Refuses the held datagrams, and those that follow until the pause is over.
void Datagrams::finish_refused(DatagramExchange& exchange, const Now& now) {
  if (exchange.is_renewing) {
    change(exchange.key, FlowChange::withdraw);
  }
  exchange.refused_until =
      now.monotonic + kPause * (1U << std::min<unsigned>(exchange.failures, kMostDoublings));
  exchange.failures++;
  exchange.is_renewing = false;
  table_.finish(exchange, Stage::refused, now.monotonic);
  release(exchange, static_cast<std::uint32_t>(abi::Ruling::refuse));
}

/// Finds the exchange that this side has begun. Answers to a closing handshake are accepted for any
/// socket that has the ports now, other answers only for the flow's own socket.
DatagramExchange* Datagrams::find_asking(const Packet& packet) {
  DatagramExchange* exchange = table_.find(packet.key(Role::client));
  return exchange != nullptr && (exchange->is_closing || !packet.is(abi::kTakenOver)) ? exchange
                                                                                      : nullptr;
}

void Datagrams::take_reply(const Packet& packet) {
  DatagramExchange* exchange = find_asking(packet);
  if (exchange == nullptr || exchange->stage != Stage::asking) {
    // The REPLY may be a repetition.
    return exchange == nullptr ? drop(packet, Reason::unknown_handshake) : discard(packet);
  }
  const auto token = wire::read_datagram_token(wire::Message::reply, packet.datagram.payload());
  const bool is_ours = token && packet.datagram.is_whole() &&
                       ((token->flags & wire::kClosing) != 0) == exchange->is_closing;
  if (!is_ours) {
    // Nothing in it is proved; the server's valid REPLY may still arrive.
    if (token || token.error() != wire::BadToken::version) {
      return drop(packet, Reason::malformed_token);
    }
    rulings_.report_forged(
        *exchange, Reason::version,
        unreadable(token.error(), exchange->key.remote, packet.datagram.payload()));
    return drop(packet, Reason::version);
  }
  return accept_reply(packet, *exchange, *token);
}

/// An invalid REPLY is reported and dropped: its sender has not proved that it is the server.
void Datagrams::accept_reply(const Packet& packet, DatagramExchange& exchange, const Token& token) {
  const auto text = std::span(text_).first(token.labels.size());
  ServerClaim claim = check_reply(exchange, token, text, around_, packet.now);
  if (claim.refusal == Reason::none) {
    // REPLY is verified first, so that only the real server can make this host query the kernel.
    const auto flow = translation(packet, exchange.key);
    if (!flow) {
      return;
    }
    bind_reply(claim, exchange, token, text, *flow, around_);
  }
  if (claim.refusal != Reason::none) {
    if (claim.refusal != Reason::busy) {
      rulings_.report_forged(exchange, claim.refusal, claim.detail);
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

/// Decides on the server that has answered. None: it is refused, and the exchange is finished.
std::optional<policy::Decision> Datagrams::judge_server(
    DatagramExchange& exchange, std::shared_ptr<const RemoteIdentity> remote, const Now& now) {
  const bool is_another = exchange.remote != nullptr && exchange.remote->number != remote->number;
  if (exchange.is_renewing && (exchange.was_open || is_another)) {
    // The ruleset writes a number into a conntrack label only once, so the next datagram must
    // create a new entry.
    change(exchange.key, FlowChange::forget);
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

/// Sends PROOF, ahead of the held datagrams.
void Datagrams::prove(DatagramExchange& exchange, const Now& now) {
  exchange.stage = Stage::proving;
  exchange.proved = now.monotonic;
  exchange.attempts = 0;
  send(exchange, write_tag(exchange, wire::Message::proof, exchange.proof));
  table_.repeat(exchange, now.monotonic);
}

/// Authorizes the flow and releases the held datagrams.
void Datagrams::admit(DatagramExchange& exchange, const policy::Decision& decision,
                      const Now& now) {
  rulings_.report_authorized(exchange, decision, now);
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
    rulings_.report_forged(*exchange, Reason::forged_reply);
    return drop(packet, Reason::forged_reply);
  }
  if (exchange->is_closing) {
    close(*exchange, packet.now);
  } else {
    table_.finish(*exchange, Stage::complete, packet.now.monotonic);
  }
  return discard(packet);
}

/// Both sides have removed the former flow with these ports.
void Datagrams::close(DatagramExchange& exchange, const Now& now) {
  change(exchange.key, FlowChange::forget);
  around_.proved.datagrams.remove(exchange.key);
  if (exchange.held.count > 0 && exchange.successor != host_) {
    succeed(exchange, now);
  } else {
    release(exchange, static_cast<std::uint32_t>(abi::Ruling::exempt));
    remove(exchange);
  }
}

/// Handles REFUSAL. It is acted on only if its tag is valid and it names this flow.
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
    rulings_.report_forged(*exchange, Reason::forged_reply);
    return drop(packet, Reason::forged_reply);
  }
  Event report = event(exchange->key, exchange);
  report.detail = std::move(*why);
  rulings_.report_refused(std::move(report), Reason::denied_by_peer);
  finish_client(*exchange, packet.now);
  return discard(packet);
}

void Datagrams::refuse_client(DatagramExchange& exchange, const Judgement& judgement,
                              const Now& now) {
  rulings_.report_refused(exchange, judgement);
  finish_client(exchange, now);
}

/// Decides on the held datagrams after a refusal that was reported.
void Datagrams::finish_client(DatagramExchange& exchange, const Now& now) {
  if (rulings_.audits()) {
    table_.finish(exchange, Stage::open, now.monotonic);
    release(exchange, static_cast<std::uint32_t>(abi::Ruling::audit));
  } else {
    finish_refused(exchange, now);
    exchange.failures = 0;
  }
}

}  // namespace trireme::handshake
