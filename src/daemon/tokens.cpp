// SPDX-License-Identifier: Apache-2.0
#include "tokens.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>

#include "trireme/base/counted.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/kernel/probe.hpp"

namespace trireme::daemon {
namespace {

/// The same as for the kernel's log messages.
constexpr std::int64_t kEventsPriority = event::kNormal + 10;
/// After a save, pause nine times as long as it took, so that saving uses at most a tenth of the
/// time, however many identities there are.
constexpr int kSavePauseFactor = 9;
constexpr std::chrono::seconds kLately(30);
constexpr std::chrono::minutes kOtherVersion(10);
/// The verifier reports a difference once per minute.
constexpr std::chrono::seconds kOtherPolicy(150);
constexpr std::size_t kOtherVersions = 8;  // notes of each kind
constexpr std::size_t kFailingPeers = 8;   // that are named

policy::FlowEnd remote_end(const handshake::Event& event, const policy::Address& address,
                           const workload::Registry& registry) {
  policy::FlowEnd end;
  end.address = address;
  if (event.remote != nullptr) {
    end.labels = event.remote->labels;
    const credentials::Peer& peer = *event.remote->peer;
    end.host = peer.type == wire::CredentialType::local ? "" : peer.name;
    end.number = event.near;
    if (const workload::Workload* workload = registry.find_number(event.near)) {
      end.workload = workload->name;
    }
  } else {
    end.entity = "@world";
  }
  return end;
}

policy::FlowEnd local_end(const handshake::Event& event, const policy::Address& address,
                          const workload::Registry& registry) {
  policy::FlowEnd end;
  end.address = address;
  if (const workload::Workload* workload = registry.find_number(event.local)) {
    end.number = event.local;
    end.workload = workload->name;
    end.labels = workload->labels;
  } else if (event.self != nullptr && event.self->number != 0) {
    end.number = event.local;
    end.labels = event.self->labels;
  } else {
    end.entity = "@host";
  }
  return end;
}

/// The verdicts of the two ends. If both are on this host, they are one decision by one policy, of
/// which the other side's report is a repetition. What a remote host decided is known only where it
/// said that it denies the flow; then this end has not decided.
void set_verdicts(policy::Flow& flow, const handshake::Event& event) {
  auto& own = event.local_is_client ? flow.at_source : flow.at_destination;
  auto& other = event.local_is_client ? flow.at_destination : flow.at_source;
  flow.reporter = event.local_is_client ? policy::Reporter::client : policy::Reporter::server;
  if (event.reason == handshake::Reason::denied_by_peer) {
    other = event.verdict;
    return;
  }
  own = event.verdict;
  if (event.near != 0) {
    other = event.verdict;
  }
}

std::string holder_text(const handshake::Owner& owner, const workload::Registry& registry) {
  if (!owner.is_local()) {
    return "remote host " + owner.address_text();
  }
  const auto number = static_cast<policy::Number>(owner.id);
  const workload::Workload* workload = registry.find_number(number);
  return workload != nullptr          ? "workload " + workload->name
         : number < abi::kFirstNumber ? "@host"
                                      : "a workload that has ended";
}

std::string reason_text(handshake::Reason reason, const std::string& detail) {
  const std::string sentence = handshake::sentence(reason);
  return detail.empty()     ? sentence
         : sentence.empty() ? detail
                            : fmt::format("{}: {}", sentence, detail);
}

}  // namespace

std::string text(const handshake::PeerOutcomes& peer) {
  return fmt::format("peer {}: {} of {} to it failed in the last minutes; the newest: {}",
                     peer.address.text(), peer.refused,
                     counted(peer.refused + peer.allowed, "connection"),
                     reason_text(peer.reason, peer.detail));
}

Result<std::unique_ptr<Tokens>> Tokens::start(
    const std::string& runtime_dir, policy::Numbers& numbers,
    const std::shared_ptr<const policy::Policy>& policy,
    const std::shared_ptr<const credentials::Trust>& trust) {
  auto random = credentials::Random::open();
  if (!random) {
    return tl::unexpected(random.error());
  }
  std::array<std::uint8_t, sizeof(std::uint64_t)> bytes{};
  if (!random->fill(bytes)) {
    return fail("the random number generator failed");
  }
  std::uint64_t seed = 0;
  std::memcpy(&seed, bytes.data(), sizeof seed);
  std::unique_ptr<Tokens> tokens(new Tokens(runtime_dir, numbers, seed));
  tokens->trust_ = trust;
  const auto known = tokens->identities_.load(*trust, std::chrono::system_clock::now());
  if (!known) {
    spdlog::error("{}", known.error().text());
  }
  const auto mechanism = kernel::probe_queue();
  tokens->mechanism_ = mechanism.value_or(tokens->mechanism_);
  const Status possible =
      mechanism ? kernel::probe_queue_priority() : tl::unexpected(mechanism.error());
  if (!possible) {
    tokens->problem_ = "no handshakes with containers of other networks or with remote hosts: " +
                       possible.error().text();
    return tokens;
  }
  auto verifier = verifier::Verifier::start(std::thread::hardware_concurrency(),
                                            tokens->identities_, tokens->proved_);
  if (!verifier) {
    return tl::unexpected(verifier.error());
  }
  tokens->verifier_ = std::move(*verifier);
  tokens->verifier_->set_policy(policy);
  tokens->verifier_->set_trust(trust);
  spdlog::info("handshakes: {}, {}; {}", counted(tokens->verifier_->threads(), "thread"),
               kernel::text(*mechanism), trust->description());
  return tokens;
}

Tokens::~Tokens() {
  events_.close();
  verifier_.reset();
  if (Status saved = identities_.save(); !saved) {  // what came since the last save
    spdlog::error("cannot save remote identities; flows with remote hosts end with this daemon: {}",
                  saved.error().text());
  }
}

Status Tokens::follow(sd_event* loop, FlowFeed& feed, const workload::Registry& registry) {
  feed_ = &feed;
  registry_ = &registry;
  if (verifier_ == nullptr) {
    return {};
  }
  for (Status opened : {events_.open(
                            loop, verifier_->fd(), EPOLLIN,
                            [this](std::uint32_t /*events*/) { take_events(); }, kEventsPriority),
                        entered_.open(loop, identities_.fd(), EPOLLIN,
                                      [this](std::uint32_t /*events*/) { save_identities(); }),
                        resume_timer_.open(
                            loop, [this] { entered_.resume(); }, event::kNormal, event::kExact)}) {
    if (!opened) {
      return opened;
    }
  }
  return {};
}

void Tokens::set_peers(const config::Host& host) {
  peers_ = host.peers;
  if (verifier_ != nullptr) {
    verifier_->set_peers(host.peers, host.nat);
  }
}

void Tokens::set_trust(const std::shared_ptr<const credentials::Trust>& trust) {
  if (trust == trust_) {
    return;
  }
  trust_ = trust;
  if (verifier_ != nullptr) {
    verifier_->set_trust(trust);
  }
  identities_.set_trust(*trust, std::chrono::system_clock::now());
  if (Status saved = identities_.save(); !saved) {
    spdlog::error("{}", saved.error().text());
  }
}

Status Tokens::check_labels(const policy::LabelSet& labels) const {
  const std::size_t size = labels.encode().size();
  const std::size_t room = credentials::room_for_labels(*trust_);
  if (verifier_ == nullptr) {
    return {};
  }
  if (size > room) {
    return fail(
        fmt::format("remote hosts refuse it: its labels take {} bytes, but a token with this "
                    "host's credential has room for {}",
                    size, room),
        "use fewer or shorter labels; [docker] labels and ignore_labels leave out those that no "
        "policy uses");
  }
  if (trust_->offered() && !trust_->constraints().permit(labels)) {
    return fail("remote hosts refuse it: this host's certificate does not permit its labels");
  }
  return {};
}

std::vector<Tokens::Crowded> Tokens::crowded() const {
  std::vector<Crowded> list;
  if (verifier_ == nullptr || registry_ == nullptr) {
    return list;
  }
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now().time_since_epoch());
  const auto add = [&](handshake::Bounded what, const handshake::Crowding& crowding) {
    if (crowding.given_up > 0) {
      list.push_back({what, crowding, holder_text(crowding.holder.owner, *registry_),
                      now < crowding.last + kLately});
    }
  };
  const auto all = verifier_->statistics().crowding;
  for (std::size_t i = 0; i < all.size(); i++) {
    add(static_cast<handshake::Bounded>(i), all.at(i));
  }
  add(handshake::Bounded::proved_connections, proved_.connections.crowding());
  add(handshake::Bounded::proved_datagrams, proved_.datagrams.crowding());
  add(handshake::Bounded::requests, proved_.requests.crowding());
  add(handshake::Bounded::first_datagrams, proved_.first_datagrams.crowding());
  return list;
}

/// A peer's version is not proved and can be forged, so only addresses of [host] peers are noted,
/// and at most kOtherVersions.
void Tokens::note_version(const handshake::Event& event) {
  const policy::Address& peer = event.local_is_client ? event.ends.destination : event.ends.source;
  const bool is_ours = std::ranges::any_of(
      peers_, [&peer](const policy::Prefix& network) { return network.contains(peer); });
  if (event.reason != handshake::Reason::version || !is_ours) {
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  std::erase_if(other_versions_,
                [now](const auto& known) { return known.second.seen + kOtherVersion < now; });
  if (other_versions_.size() < kOtherVersions || other_versions_.contains(peer)) {
    other_versions_[peer] = {event.detail, now};
  }
}

std::vector<std::string> Tokens::other_versions() const {
  const auto now = std::chrono::steady_clock::now();
  std::vector<std::string> list;
  for (const auto& [peer, version] : other_versions_) {
    if (now < version.seen + kOtherVersion) {
      list.push_back(version.text);
    }
  }
  return list;
}

void Tokens::note_policy(const handshake::Event& event) {
  const auto now = std::chrono::steady_clock::now();
  std::erase_if(other_policies_,
                [now](const auto& known) { return known.second.seen + kOtherPolicy < now; });
  const std::string& host = event.remote->peer->name;
  if (other_policies_.size() < kOtherVersions || other_policies_.contains(host)) {
    other_policies_[host] = {event.detail, now};
  }
}

std::vector<std::string> Tokens::other_policies() const {
  const auto now = std::chrono::steady_clock::now();
  std::vector<std::string> list;
  for (const auto& [host, note] : other_policies_) {
    if (now < note.seen + kOtherPolicy) {
      list.push_back(note.text);
    }
  }
  return list;
}

std::vector<handshake::PeerOutcomes> Tokens::peers() const {
  return proved_.peers.recent(std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now().time_since_epoch()));
}

std::vector<std::string> Tokens::failing_peers() const {
  std::vector<std::string> list;
  std::size_t more = 0;  // a workload that scans [host] peers must not bury other warnings
  for (const handshake::PeerOutcomes& peer : peers()) {
    if (peer.fails() && list.size() < kFailingPeers) {
      list.push_back(text(peer));
    } else if (peer.fails()) {
      more++;
    }
  }
  if (more > 0) {
    list.push_back(
        fmt::format("most connections to {} failed too: see \"peers\" in 'trirectl status "
                    "--json'",
                    counted(more, "more peer")));
  }
  return list;
}

void Tokens::take_events() {
  for (const handshake::Event& event : verifier_->take_events()) {
    if (event.is_other_policy) {
      note_policy(event);
      continue;
    }
    note_version(event);
    feed_->take(flow_of(event));
  }
}

void Tokens::save_identities() {
  const auto began = std::chrono::steady_clock::now();
  if (Status saved = identities_.save(); !saved && log_shares().admit("identities")) {
    spdlog::error("cannot save remote identities; flows with remote hosts end with this daemon: {}",
                  saved.error().text());
  }
  const auto taken = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - began);
  entered_.pause();
  resume_timer_.arm(kSavePauseFactor * taken);
}

policy::Flow Tokens::flow_of(const handshake::Event& event) const {
  policy::Flow flow;
  flow.time = std::chrono::system_clock::now();
  flow.verdict = event.verdict;
  flow.sampled = event.sample != 0;
  flow.protocol = event.protocol;
  flow.port = event.ends.destination_port;
  const auto end = [&](bool is_local, const policy::Address& address) {
    return is_local ? local_end(event, address, *registry_)
                    : remote_end(event, address, *registry_);
  };
  flow.source = end(event.local_is_client, event.ends.source);
  flow.destination = end(!event.local_is_client, event.ends.destination);
  set_verdicts(flow, event);
  flow.rule = event.rule;
  flow.cause = flow.sampled ? "" : handshake::text(event.reason);
  flow.reason = reason_text(event.reason, event.detail);
  return flow;
}

}  // namespace trireme::daemon
