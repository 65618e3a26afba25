// SPDX-License-Identifier: Apache-2.0
#include "near.hpp"

#include <algorithm>
#include <cstring>

#include "judge.hpp"
#include "steps.hpp"
#include "trireme/abi/abi.hpp"

namespace trireme::handshake {

bool is_near(const policy::Address& remote, const Surroundings& around) {
  return contains(around.near, remote) || !contains(around.host_peers, remote);
}

bool depart(Conversation& conversation, Rendezvous& rendezvous,
            std::shared_ptr<const LocalIdentity> local, bool is_closing, const Surroundings& around,
            const Now& now) {
  conversation.trust = around.known_peers.trust();
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

Arrival arrival_of(const Rendezvous& rendezvous, std::uint64_t request, std::uint8_t protocol,
                   const FlowKey& key, const PacketFacts& facts, const Now& now) {
  // Check the number first: it cannot be guessed, and what follows may query the kernel.
  Arrival arrival{.departure = rendezvous.arrive(request, now.monotonic)};
  if (!arrival.departure) {
    return arrival;
  }
  const FlowKey& from = arrival.departure->key;
  const wire::Ends left{from.local, from.remote, from.local_port, from.remote_port};
  const wire::Ends ends = ends_of_client(key);
  if (left == ends) {
    arrival.fits = true;
    return arrival;
  }
  const auto flow = known_translation(key, facts);
  if (!flow) {
    arrival.question = about_translation(protocol, key, facts.priority);
    return arrival;
  }
  // The request of a client on the host's own network is seen here after NAT on OUTPUT
  // (destination) but before NAT of its source.
  const wire::Ends& before = flow->before;
  const wire::Ends mixed{before.source, ends.destination, before.source_port,
                         ends.destination_port};
  if (left == before || left == mixed) {
    arrival.fits = true;
    return arrival;
  }
  if (!facts.departure) {
    arrival.question = about_translation(protocol, from, abi::kAnyNat);
    arrival.question.about = Question::About::departure;
    return arrival;
  }
  const wire::Ends& gone = facts.departure->after;
  arrival.fits = gone == ends || gone == before;
  return arrival;
}

void accept_meet(Conversation& conversation, Bytes tag, const Departure* departure,
                 std::shared_ptr<const LocalIdentity> local,
                 std::shared_ptr<const RemoteIdentity> remote, const Surroundings& around) {
  conversation.trust = around.known_peers.trust();
  conversation.type = wire::CredentialType::local;
  conversation.is_near = true;
  conversation.local = std::move(local);
  if (departure != nullptr) {
    conversation.near_point = departure->key.point;
    conversation.near_number = departure->client->number;
  }
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
  if (around.locals.find(local.number).get() != &local) {
    reason = Reason::unknown_workload;
    return nullptr;
  }
  constexpr auto kLocal = wire::CredentialType::local;
  const auto self = around.known_peers.find(kLocal, around.known_peers.trust()->credential(kLocal),
                                            address, around.budget, now);
  if (!self) {
    reason = self.error();
    return nullptr;
  }
  const Bytes labels{reinterpret_cast<const std::uint8_t*>(local.encoded.data()),
                     local.encoded.size()};
  return identify(**self, labels, around.book, reason);
}

}  // namespace trireme::handshake
