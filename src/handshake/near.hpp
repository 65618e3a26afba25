// SPDX-License-Identifier: Apache-2.0
// Flows between two workloads of this daemon in different network namespaces: MEET in the place of
// HELLO, and nothing else on the wire. See Rendezvous.
#pragma once

#include "binding.hpp"
#include "surroundings.hpp"
#include "trireme/handshake/rendezvous.hpp"

namespace trireme::handshake {

/// Whether what answers at this address is a workload of this daemon, or nobody who could prove
/// anything.
[[nodiscard]] bool is_near(const policy::Address& remote, const Surroundings& around);

/// The client's part: draws the number, which `rendezvous` remembers with the flow. False: no
/// randomness.
[[nodiscard]] bool depart(Conversation& conversation, Rendezvous& rendezvous,
                          std::shared_ptr<const LocalIdentity> local, bool is_closing,
                          const Surroundings& around, const Now& now);
/// The same request leaves again.
void depart_again(const Conversation& conversation, Rendezvous& rendezvous, bool is_closing,
                  const Now& now);
/// What the server's end made of it.
[[nodiscard]] Meeting meeting_of(const Conversation& conversation, const Rendezvous& rendezvous,
                                 const Now& now);
/// The number in MEET's tag.
[[nodiscard]] std::uint64_t request_of(Bytes tag);

/// What a request is that arrives.
struct Arrival {
  std::optional<Departure> departure;  // with its number; none: nobody's
  bool fits = false;                   // and it is that one: see arrival_of()
  Question question = {};              // what has to be known first
};
/// The server's part. A request is the one that left if it has the ends that it left with, or those
/// that it had before this host translated them, or those that its client's own network namespace
/// gave it. Where NAT of the server's network namespace has part in the flow (kChanged), conntrack
/// says so only when the request has gone on.
/// `key`: of the flow as it arrives; `protocol` is IANA's number.
[[nodiscard]] Arrival arrival_of(const Rendezvous& rendezvous, std::uint64_t request,
                                 std::uint8_t protocol, const FlowKey& key,
                                 const PacketFacts& facts, const Now& now);
/// `tag`: MEET's; `departure`: whose it is, if that is known by now.
void accept_meet(Conversation& conversation, Bytes tag, const Departure* departure,
                 std::shared_ptr<const LocalIdentity> local,
                 std::shared_ptr<const RemoteIdentity> remote, const Surroundings& around);

/// A workload of this host as its peer on this host has it, with its number. Null, and why: it has
/// ended or has other labels by now (Reason::unknown_workload), or there is no room
/// (Reason::crowded).
[[nodiscard]] std::shared_ptr<const RemoteIdentity> identity_here(const LocalIdentity& local,
                                                                  const policy::Address& address,
                                                                  const Surroundings& around,
                                                                  const Now& now, Reason& reason);

}  // namespace trireme::handshake
