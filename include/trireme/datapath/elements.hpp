// SPDX-License-Identifier: Apache-2.0
// Writes the compiler's output and other sets of table inet trireme as nf_tables elements.
#pragma once

#include "trireme/kernel/nft.hpp"
#include "trireme/policy/compile.hpp"
#include "trireme/wire/segment.hpp"

namespace trireme::datapath {

/// Adds elements of the hash sets, or deletes them with `remove`. Port classes are written as
/// first_id + class (see policy::Compiler).
void write_elements(kernel::NftBatch& batch, const policy::Elements& elements,
                    std::uint32_t first_id, bool remove);

/// write_tables() fills the interval maps (ports and addresses), which must be empty: in a new
/// table, or after flush_tables() earlier in the same batch.
void flush_tables(kernel::NftBatch& batch);
void write_tables(kernel::NftBatch& batch, const policy::Tables& tables, std::uint32_t first_id);

/// Elements of the maps from these numbers to their conntrack labels, and of the set `selves`.
void write_numbers(kernel::NftBatch& batch, const std::vector<policy::Number>& numbers,
                   bool remove);

/// Addresses to which requests go by way of the verifier: disjoint prefixes.
void write_speakers(kernel::NftBatch& batch, const std::vector<policy::Prefix>& speakers,
                    bool remove);

/// Elements that select reject, drop or audit for refused packets. The map `refusal` and the set
/// `auditing` must be empty: new or flushed earlier in the batch.
void write_refusal(kernel::NftBatch& batch, const policy::Policy& policy);
/// Key of a flow in the sets of UDP clients: local address, local port, remote address, remote
/// port, in network byte order. write_clients() adds or removes such keys.
[[nodiscard]] kernel::NftBytes client_key(const wire::Ends& client);
void write_clients(kernel::NftBatch& batch, const std::vector<kernel::NftBytes>& keys, bool remove);
/// Ends an exchange of sets: refusals are logged and answered again.
void write_steady(kernel::NftBatch& batch);

/// An address that is in a network by a DNS name.
struct NamedAddress {
  policy::Address address;
  std::uint32_t local_class = 0;
  std::uint32_t remote_class = 0;
  std::chrono::milliseconds timeout{};  // after which the kernel removes the element
  std::string comment;                  // the names, separated by spaces
};
void write_named(kernel::NftBatch& batch, const std::vector<NamedAddress>& addresses);
void remove_named(kernel::NftBatch& batch, const std::vector<policy::Address>& addresses);
void flush_named(kernel::NftBatch& batch);
/// True if answers of name servers are read: `policy` has networks with DNS names, or is in audit
/// mode, in which the names of destinations are wanted for suggestions.
[[nodiscard]] bool reads_answers(const policy::Policy& policy);
void write_answers(kernel::NftBatch& batch, const policy::Policy& policy);

}  // namespace trireme::datapath
