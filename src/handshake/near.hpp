// SPDX-License-Identifier: Apache-2.0
// Flows between two workloads of this daemon in different network namespaces: MEET replaces HELLO,
// and nothing is proved. A request *departs* at the client's point and *arrives* at the server's;
// the *rendezvous* holds it in between; the server's decision is the *meeting*, which the client's
// side looks up. The packets: ask_near() and take_meet() in tcp/, and udp/near.cpp.
#pragma once

#include "binding.hpp"
#include "surroundings.hpp"
#include "trireme/handshake/rendezvous.hpp"

namespace trireme::handshake {

/// True if no remote host answers at this address: a workload of this daemon does, or a peer
/// without labels.
[[nodiscard]] bool is_near(const policy::Address& remote, const Surroundings& around);

/// Client: draws the number of the request and adds it to `rendezvous`. False: the random number
/// generator failed.
[[nodiscard]] bool depart(Conversation& conversation, Rendezvous& rendezvous,
                          std::shared_ptr<const LocalIdentity> local, bool is_closing,
                          const Surroundings& around, const Now& now);
/// Client: the same request is sent again.
void depart_again(const Conversation& conversation, Rendezvous& rendezvous, bool is_closing,
                  const Now& now);
/// Client: the decision of the server's side.
[[nodiscard]] Meeting meeting_of(const Conversation& conversation, const Rendezvous& rendezvous,
                                 const Now& now);
/// The number in MEET's tag.
[[nodiscard]] std::uint64_t request_of(Bytes tag);

/// The result of looking up an arriving request.
struct Arrival {
  std::optional<Departure> departure;  // the request with this number, if there is one
  bool fits = false;                   // the addresses match too, see arrival_of()
  Question question = {};              // to be answered by the kernel first
};
/// Server: an arriving request is the one that left if its addresses and ports are those that it
/// left with, those that it had before NAT on this host, or those that NAT in its client's network
/// namespace gave it. If NAT of the server's network namespace applies to the flow (abi::kAnyNat),
/// conntrack knows the translation only after the request has been accepted.
/// `key` is the flow as it arrives; `protocol` is the IANA number.
[[nodiscard]] Arrival arrival_of(const Rendezvous& rendezvous, std::uint64_t request,
                                 std::uint8_t protocol, const FlowKey& key,
                                 const PacketFacts& facts, const Now& now);
/// Server: begins the handshake. `tag` is MEET's. `departure` is null if it is not known yet.
void accept_meet(Conversation& conversation, Bytes tag, const Departure* departure,
                 std::shared_ptr<const LocalIdentity> local,
                 std::shared_ptr<const RemoteIdentity> remote, const Surroundings& around);

/// The identity, with a number, by which the other workload of this host knows `local`. Null with
/// `reason` set: the workload has ended or has other labels now (Reason::unknown_workload), or the
/// book of identities is full (Reason::crowded).
[[nodiscard]] std::shared_ptr<const RemoteIdentity> identity_here(const LocalIdentity& local,
                                                                  const policy::Address& address,
                                                                  const Surroundings& around,
                                                                  const Now& now, Reason& reason);

}  // namespace trireme::handshake
