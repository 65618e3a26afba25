// The client's part of a UDP flow's handshake: its first datagrams wait while HELLO is sent, REPLY
// is verified, and PROOF goes ahead of them.
#include <algorithm>

#include "datagrams.hpp"

namespace trireme::handshake {

using wire::CredentialType;
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

Answer Datagrams::leave_as_client(const Packet& packet) {
  DatagramExchange* known = table_.find(packet.key(Role::client));
  if (packet.is(kRenew)) {
    return renew(packet, known);
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
Answer Datagrams::renew(const Packet& packet, DatagramExchange* known) {
  change(packet.key(Role::client), FlowChange::renewed);
  const bool is_under_way =
      known != nullptr && (known->stage == Stage::asking || known->stage == Stage::proving);
  const bool is_recent = known != nullptr && known->began + kRenewal > packet.now.monotonic;
  if (is_under_way || is_recent) {
    return accept(Ruling::pass);
  }
  return ask(packet, known, {.renewing = true});
}

Reason Datagrams::may_ask(const FlowKey& key, const LocalIdentity& local, const Now& now) const {
  if (!contains(around_.networks, key.remote)) {
    return Reason::none;  // an enforcement point of this daemon
  }
  if (!around_.peers.trust()->offered()) {
    return Reason::no_credential;
  }
  if (!around_.peers.trust()->is_current(now.wall)) {
    return Reason::own_expired;
  }
  return around_.peers.trust()->constraints().permit(local.labels) ? Reason::none
                                                                   : Reason::label_constraint;
}

Answer Datagrams::ask(const Packet& packet, DatagramExchange* known, Purpose purpose) {
  const FlowKey key = packet.key(Role::client);
  const auto found = around_.locals.find(packet.number());
  Event told = event(key, nullptr);
  told.local = packet.number();
  if (!purpose.closing && found == around_.locals.end()) {
    return refuse(packet, Reason::unknown_workload, std::move(told));
  }
  const auto local = purpose.closing ? nobody_ : found->second;
  if (const Reason reason = may_ask(key, *local, packet.now); reason != Reason::none) {
    told.detail = reason == Reason::label_constraint ? "this host's own certificate" : "";
    return refuse(packet, reason, std::move(told));
  }
  if (!purpose.closing && !purpose.renewing) {
    const policy::Decision decision =
        judge_.unlabelled(*local, key.point, key.remote, key.remote_port);
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
  const bool waits = purpose.closing && found != around_.locals.end() && !packet.is(kTranslated);
  exchange.successor = waits ? found->second : nullptr;
  exchange.is_renewing = purpose.renewing || purpose.probing;
  exchange.was_open = purpose.probing;
  exchange.failures = failures;
  exchange.remote = remote;
  return begin(packet, exchange, local);
}

Answer Datagrams::begin(const Packet& packet, DatagramExchange& exchange,
                        std::shared_ptr<const LocalIdentity> local) {
  exchange.mark = packet.facts.mark;
  exchange.translated = packet.is(kTranslated);
  exchange.device = exchange.translated ? 0 : packet.facts.out_device;
  exchange.flow_label = packet.datagram.flow_label();
  exchange.traffic_class = packet.datagram.traffic_class();
  const auto size = write_first_hello(exchange, std::move(local));
  if (!size) {
    Event told = event(exchange.key, &exchange);
    told.detail = size.error() == Reason::token_too_large ? too_large(exchange) : "";
    table_.remove(exchange);
    return size.error() == Reason::trust_failed ? drop(Reason::trust_failed)
                                                : refuse(packet, size.error(), std::move(told));
  }
  table_.repeat(exchange, packet.now.monotonic);
  around_.statistics.hellos++;
  const bool is_known_to_conntrack = exchange.is_renewing || exchange.is_closing;
  if (exchange.translated && !is_known_to_conntrack) {
    // Where it was sent before NAT is known to nobody until a packet of the flow has passed: HELLO
    // goes in the datagram's place.
    wire::write_datagram(packet.ends, exchange.traffic_class, exchange.flow_label,
                         std::span(data_).first(*size), changed_);
    Answer answer = accept(Ruling::pass);
    answer.changed = &changed_;
    return answer;
  }
  send(exchange, *size);
  if (exchange.is_renewing) {
    return accept(exchange.was_open ? Ruling::authorise : Ruling::pass);
  }
  return exchange.is_closing && exchange.successor == nullptr ? drop(Reason::taken_over)
                                                              : hold(packet, exchange);
}

/// Its size, or why there is none.
tl::expected<std::size_t, Reason> Datagrams::write_first_hello(
    DatagramExchange& exchange, std::shared_ptr<const LocalIdentity> local) {
  const bool elsewhere = contains(around_.networks, exchange.key.remote);
  exchange.trust = around_.peers.trust();
  exchange.type = elsewhere ? *exchange.trust->offered() : CredentialType::local;
  exchange.local = std::move(local);
  if (!around_.random.fill(exchange.client_nonce)) {
    return tl::unexpected(Reason::trust_failed);
  }
  const auto flags =
      static_cast<std::uint8_t>(wire::kDatagram | (exchange.is_closing ? wire::kClosing : 0U));
  exchange.hello = hello_transcript({exchange.type, flags}, exchange.client_nonce,
                                    exchange.trust->hash(exchange.type), exchange.local->hash);
  const std::size_t size = write_hello(exchange);
  return size == 0 ? tl::expected<std::size_t, Reason>(tl::unexpected(Reason::token_too_large))
                   : size;
}

std::string Datagrams::too_large(const DatagramExchange& exchange) {
  const std::size_t labels = exchange.local->encoded.size();
  return "the token takes " +
         std::to_string(
             wire::hello_size(exchange.trust->credential(exchange.type).size(), labels)) +
         " bytes, " + std::to_string(labels) + " of them labels; there is room for " +
         std::to_string(wire::kMaxControl);
}

/// Both ends have forgotten the flow that had these ports: what waited begins one of its own.
void Datagrams::succeed(DatagramExchange& exchange, const Now& now) {
  const auto local = std::exchange(exchange.successor, nullptr);
  exchange.is_closing = false;
  exchange.remote = nullptr;
  exchange.stage = Stage::asking;
  exchange.attempts = 0;
  exchange.began = now.monotonic;
  const Reason reason = may_ask(exchange.key, *local, now);
  const auto size =
      reason == Reason::none ? write_first_hello(exchange, local) : tl::unexpected(reason);
  if (!size) {
    exchange.local = local;
    Event told = event(exchange.key, &exchange);
    told.detail = size.error() == Reason::token_too_large ? too_large(exchange) : "";
    around_.statistics.refused[static_cast<std::size_t>(size.error())]++;
    tell(std::move(told), size.error());
    settle_refused(exchange, now);
    return;
  }
  around_.statistics.hellos++;
  send(exchange, *size);
  table_.repeat(exchange, now.monotonic);
}

/// Policy allows the peer without proof, and it had none to offer a moment ago.
Answer Datagrams::open_at_once(const Packet& packet, const policy::Decision& decision) {
  DatagramExchange& exchange = make(packet, Role::client);
  exchange.trust = around_.peers.trust();
  exchange.local = around_.locals.at(packet.number());
  open(exchange, decision, packet.now);
  return accept(decision.verdict == policy::Verdict::audit ? Ruling::audit : Ruling::authorise);
}

std::size_t Datagrams::write_hello(const DatagramExchange& exchange) {
  const std::string& labels = exchange.local->encoded;
  return wire::write_datagram_token(
      {.message = wire::Message::hello,
       .type = exchange.type,
       .flags =
           static_cast<std::uint8_t>(wire::kDatagram | (exchange.is_closing ? wire::kClosing : 0U)),
       .nonce = exchange.client_nonce,
       .credential = exchange.trust->credential(exchange.type),
       .labels = Bytes(reinterpret_cast<const std::uint8_t*>(labels.data()), labels.size()),
       .tag = {}},
      data_);
}

void Datagrams::repeat_hello(DatagramExchange& exchange, const Now& now) {
  exchange.attempts++;
  if (!exchange.is_closing && !is_here(exchange)) {
    give_up(exchange, now);
    return;
  }
  const bool may_be_open = !exchange.is_closing && exchange.attempts >= kShortWait &&
                           judge_.unlabelled(*exchange.local, exchange.key.point,
                                             exchange.key.remote, exchange.key.remote_port)
                                   .verdict != policy::Verdict::deny;
  if (may_be_open || exchange.attempts >= DatagramTable::kRepeat.size()) {
    give_up(exchange, now);
    return;
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
  Event told = event(exchange.key, &exchange);
  if (!exchange.is_closing && !is_here(exchange)) {
    around_.statistics.refused[static_cast<std::size_t>(Reason::unknown_workload)]++;
    tell(std::move(told), Reason::unknown_workload);
    settle_refused(exchange, now);
    return;
  }
  if (exchange.is_closing) {
    around_.statistics.refused[static_cast<std::size_t>(Reason::taken_over)]++;
    tell(std::move(told), Reason::taken_over);
    settle_refused(exchange, now);
    return;
  }
  const policy::Decision decision = judge_.unlabelled(
      *exchange.local, exchange.key.point, exchange.key.remote, exchange.key.remote_port);
  if (decision.verdict != policy::Verdict::deny) {
    silent_.add(exchange.key.remote, exchange.key.remote_port, now.monotonic);
    exchange.remote = nullptr;
    open(exchange, decision, now);
    return;
  }
  around_.statistics.refused[static_cast<std::size_t>(Reason::no_answer)]++;
  say(told, decision);
  tell(std::move(told), Reason::no_answer);
  settle_refused(exchange, now);
}

void Datagrams::open(DatagramExchange& exchange, const policy::Decision& decision, const Now& now) {
  const bool audited = decision.verdict == policy::Verdict::audit;
  if ((audited || decision.log) && around_.on_event) {
    Event told = event(exchange.key, &exchange);
    say(told, decision);
    told.verdict = decision.verdict;
    told.reason = audited ? Reason::no_answer : Reason::none;
    around_.on_event(std::move(told));
  }
  around_.statistics.unproved++;
  table_.settle(exchange, Stage::open, now.monotonic);
  release(exchange, static_cast<std::uint32_t>(audited ? Ruling::audit : Ruling::authorise));
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

Answer Datagrams::take_reply(const Packet& packet) {
  DatagramExchange* exchange = find_asking(packet);
  if (exchange == nullptr || exchange->stage != Stage::asking) {
    return drop(exchange == nullptr ? Reason::unknown_handshake
                                    : Reason::none);  // a repeated one is nothing new
  }
  const auto token = wire::read_datagram_token(wire::Message::reply, packet.datagram.payload());
  const bool is_ours = token && packet.datagram.is_whole() &&
                       ((token->flags & wire::kClosing) != 0) == exchange->is_closing;
  if (!is_ours) {
    // Nothing in it is proved: the server's own word may still come.
    return drop(token || token.error() != wire::BadToken::version ? Reason::malformed_token
                                                                  : Reason::version);
  }
  return check_reply(packet, *exchange, *token);
}

Answer Datagrams::check_reply(const Packet& packet, DatagramExchange& exchange,
                              const Token& token) {
  if (token.type != exchange.type) {
    return drop(Reason::unknown_type);
  }
  const auto known = around_.peers.find(token.type, token.credential, exchange.key.remote,
                                        around_.budget, packet.now);
  if (!known) {
    // Told, but not acted upon: whoever sent this has not shown that it is the server.
    Event told = event(exchange.key, &exchange);
    if (known.error() != Reason::busy) {
      tell(std::move(told), known.error());
    }
    return drop(known.error());
  }
  const auto keys = around_.peers.client_keys(exchange.trust, exchange.type, **known, packet.now);
  return keys ? finish_reply(packet, exchange, token, **known, **keys) : drop(keys.error());
}

Answer Datagrams::finish_reply(const Packet& packet, DatagramExchange& exchange, const Token& token,
                               KnownPeer& peer, PairKeys& keys) {
  std::copy(token.nonce.begin(), token.nonce.end(), exchange.server_nonce.begin());
  const ReplyContext context{
      {token.type, token.flags}, exchange.hello, exchange.server_nonce, peer.peer->hash};
  const auto labels = std::span(labels_).first(token.labels.size());
  if (!open_reply(around_.aead, keys.reply_key(exchange.hello, exchange.server_nonce), context,
                  token.labels, token.tag, labels)) {
    tell(event(exchange.key, &exchange), Reason::forged_reply);
    return drop(Reason::forged_reply);
  }
  const Digest transcript = reply_transcript(context, token.labels, token.tag);
  exchange.proof = keys.proof(transcript);
  exchange.ready = keys.ready(transcript);
  exchange.failures = 0;
  if (exchange.is_closing) {
    prove(exchange, {}, packet.now);
    return drop(Reason::none);
  }
  Reason reason = Reason::crowded;
  auto remote = peer.identity(labels, reason);
  if (remote != nullptr && remote->number == 0) {
    remote = peer.enter(around_.book, *remote);
  }
  if (remote == nullptr) {
    return refuse_client(packet, exchange, reason, event(exchange.key, &exchange));
  }
  const bool is_another = exchange.remote != nullptr && exchange.remote->number != remote->number;
  if (exchange.is_renewing && (exchange.was_open || is_another)) {
    change(exchange.key,
           FlowChange::forget);  // a number is written once: the next datagram makes a new entry
  }
  exchange.remote = std::move(remote);
  exchange.peer = peer.peer;
  const policy::Decision decision = decide(exchange);
  const Reason doubt =
      decision.verdict == policy::Verdict::deny ? Reason::policy : believe(exchange, packet.now);
  if (doubt != Reason::none) {
    Event told = event(exchange.key, &exchange);
    if (doubt == Reason::policy) {
      say(told, decision);
    }
    return refuse_client(packet, exchange, doubt, std::move(told));
  }
  silent_.remove(exchange.key.remote, exchange.key.remote_port);
  prove(exchange, decision, packet.now);
  return drop(Reason::none);
}

/// PROOF, and behind it what waited.
void Datagrams::prove(DatagramExchange& exchange, const policy::Decision& decision,
                      const Now& now) {
  exchange.stage = Stage::proving;
  exchange.proved = now.monotonic;
  exchange.attempts = 0;
  send(exchange, write_tag(exchange, wire::Message::proof, exchange.proof));
  table_.repeat(exchange, now.monotonic);
  if (exchange.is_closing) {
    return;
  }
  report(exchange, decision);
  around_.statistics.authorised++;
  const Ruling ruling =
      decision.verdict == policy::Verdict::audit ? Ruling::audit : Ruling::authorise;
  release_proved(exchange, static_cast<std::uint32_t>(ruling) | exchange.remote->number);
}

Answer Datagrams::take_ready(const Packet& packet) {
  DatagramExchange* exchange = find_asking(packet);
  const auto ready = wire::read_tag_message(wire::Message::ready, packet.datagram.payload());
  if (exchange == nullptr || exchange->stage != Stage::proving) {
    return drop(Reason::none);
  }
  if (!ready || !belongs_to(*ready, *exchange)) {
    return drop(Reason::malformed_token);
  }
  if (!credentials::equal(ready->tag, exchange->ready)) {
    tell(event(exchange->key, exchange), Reason::forged_reply);
    return drop(Reason::forged_reply);
  }
  if (exchange->is_closing) {
    change(exchange->key, FlowChange::forget);
    if (exchange->held.count > 0) {
      succeed(*exchange, packet.now);
    } else {
      table_.remove(*exchange);
    }
  } else {
    table_.settle(*exchange, Stage::complete, packet.now.monotonic);
  }
  return drop(Reason::none);
}

/// REPLY holds, but policy or credentials do not allow the flow.
Answer Datagrams::refuse_client(const Packet& packet, DatagramExchange& exchange, Reason reason,
                                Event told) {
  around_.statistics.refused[static_cast<std::size_t>(reason)]++;
  tell(std::move(told), reason);
  if (audits()) {
    table_.settle(exchange, Stage::open, packet.now.monotonic);
    release(exchange, static_cast<std::uint32_t>(Ruling::audit));
  } else {
    settle_refused(exchange, packet.now);
    exchange.failures = 0;
  }
  return drop(Reason::none);
}

}  // namespace trireme::handshake
