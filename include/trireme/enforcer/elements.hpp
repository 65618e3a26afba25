// SPDX-License-Identifier: Apache-2.0
// The compiler's sets as nf_tables elements.
#pragma once

#include "trireme/handshake/flow_key.hpp"
#include "trireme/kernel/nft.hpp"
#include "trireme/policy/compile.hpp"

namespace trireme::enforcer {

/// Adds (or, with `remove`, deletes) elements of the hash sets. Port classes are written as
/// first_id + class: see policy::Compiler.
void write_elements(kernel::NftBatch& batch, const policy::Elements& elements,
                    std::uint32_t first_id, bool remove);

/// Fills the interval maps, ports and addresses; flush_tables() empties them, earlier in the same
/// batch or never where the table is new.
void flush_tables(kernel::NftBatch& batch);
void write_tables(kernel::NftBatch& batch, const policy::Tables& tables, std::uint32_t first_id);

/// Conntrack labels of these numbers.
void write_numbers(kernel::NftBatch& batch, const std::vector<policy::Number>& numbers,
                   bool remove);

/// Addresses at which tokens are expected; the sets are new or flushed.
void write_speakers(kernel::NftBatch& batch, const std::vector<policy::Prefix>& speakers,
                    bool remove);

/// What happens to refused packets; the map and the set are new or flushed.
void write_refusal(kernel::NftBatch& batch, const policy::Policy& policy);
/// Keys of the sets of UDP clients; in or out of them.
[[nodiscard]] kernel::NftBytes client_key(const handshake::FlowKey& flow);
void write_clients(kernel::NftBatch& batch, const std::vector<kernel::NftBytes>& keys, bool remove);
/// From here on refusals are logged and answered.
void write_steady(kernel::NftBatch& batch);

/// An address that is in networks by a DNS name.
struct NamedAddress {
  policy::Address address;
  std::uint32_t local_class = 0;
  std::uint32_t remote_class = 0;
  std::chrono::milliseconds timeout{};
  std::string comment;  // its names
};
void write_named(kernel::NftBatch& batch, const std::vector<NamedAddress>& addresses);
void remove_named(kernel::NftBatch& batch, const std::vector<policy::Address>& addresses);
void flush_named(kernel::NftBatch& batch);
/// Whether answers of name servers are read: where `policy` has networks with names.
[[nodiscard]] bool reads_answers(const policy::Policy& policy);
void write_answers(kernel::NftBatch& batch, const policy::Policy& policy);

}  // namespace trireme::enforcer
