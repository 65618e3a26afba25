#include "near.hpp"

#include <algorithm>
#include <cstring>

#include "judge.hpp"
#include "steps.hpp"

namespace trireme::handshake {

bool is_near(const policy::Address& remote, const Surroundings& around) {
  return contains(around.near, remote) || !contains(around.networks, remote);
}

bool depart(Conversation& conversation, Rendezvous& rendezvous,
            std::shared_ptr<const LocalIdentity> local, bool is_closing, const Surroundings& around,
            const Now& now) {
  conversation.trust = around.peers.trust();
  conversation.type = wire::CredentialType::local;
  conversation.is_near = true;
  conversation.local = std::move(local);
  if (!around.random.fill(conversation.client_nonce)) {
    return false;
  }
  depart_again(conversation, rendezvous, is_closing, now);
  return true;
}

void depart_again(const Conversation& conversation, Rendezvous& rendezvous, bool is_closing,
                  const Now& now) {
  rendezvous.depart({.key = conversation.key,
                     .request = request_of(conversation.client_nonce),
                     .client = conversation.local,
                     .is_closing = is_closing},
                    now.monotonic);
}

Meeting meeting_of(const Conversation& conversation, const Rendezvous& rendezvous, const Now& now) {
  return rendezvous.meeting(conversation.key, request_of(conversation.client_nonce), now.monotonic);
}

std::uint64_t request_of(Bytes tag) {
  std::uint64_t request = 0;
  std::memcpy(&request, tag.data(), sizeof request);
  return request;
}

/// A client on the host's own network is seen behind NAT on OUTPUT, and before the NAT of its
/// source.
std::optional<Departure> departure_of(const Rendezvous& rendezvous, const wire::Ends& ends,
                                      std::uint64_t request, const Flow& flow, const Now& now) {
  auto departure = rendezvous.arrive(ends, request, now.monotonic);
  if (departure) {
    return departure;
  }
  const wire::Ends before = translation(flow.port, flow.protocol, flow.key, flow.priority).before;
  if (before == ends) {
    return std::nullopt;
  }
  departure = rendezvous.arrive(before, request, now.monotonic);
  return departure ? departure
                   : rendezvous.arrive({before.source, ends.destination, before.source_port,
                                        ends.destination_port},
                                       request, now.monotonic);
}

void accept_meet(Conversation& conversation, Bytes tag, std::shared_ptr<const LocalIdentity> local,
                 std::shared_ptr<const RemoteIdentity> remote, const Surroundings& around) {
  conversation.trust = around.peers.trust();
  conversation.type = wire::CredentialType::local;
  conversation.is_near = true;
  conversation.local = std::move(local);
  if (remote != nullptr) {
    conversation.peer = remote->peer;
  }
  conversation.remote = std::move(remote);
  std::ranges::copy(tag, conversation.client_nonce.begin());
}

std::shared_ptr<const RemoteIdentity> identity_here(const LocalIdentity& local,
                                                    const policy::Address& address,
                                                    const Surroundings& around, const Now& now,
                                                    Reason& reason) {
  const auto found = around.locals.find(local.number);
  if (found == around.locals.end() || found->second.get() != &local) {
    reason = Reason::unknown_workload;
    return nullptr;
  }
  constexpr auto kLocal = wire::CredentialType::local;
  const auto self = around.peers.find(kLocal, around.peers.trust()->credential(kLocal), address,
                                      around.budget, now);
  if (!self) {
    reason = self.error();
    return nullptr;
  }
  const Bytes labels{reinterpret_cast<const std::uint8_t*>(local.encoded.data()),
                     local.encoded.size()};
  return identify(**self, labels, around.book, reason);
}

}  // namespace trireme::handshake
