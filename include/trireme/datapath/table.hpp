// SPDX-License-Identifier: Apache-2.0
// Table inet trireme: its sets and its fixed chains. docs/datapath.md explains them.
#pragma once

#include <array>
#include <string>

#include "trireme/abi/abi.hpp"
#include "trireme/kernel/nft.hpp"
#include "trireme/kernel/queue.hpp"

namespace trireme::datapath {

/// What differs between network namespaces.
struct Layout {
  std::uint64_t home = 0;  // kernel::netns_cookie() of the daemon; 0: this is its namespace
  /// Not the daemon's own namespace. It can have an owner: the workload that gets every socket of
  /// no enrolled cgroup (level 0, set `owner`). Without an element in `owner` such sockets are
  /// @host's.
  bool owned = false;
  std::uint32_t point = 0;  // id of the enforcement point within this process
  /// Threads of the verifier; 0: there is no verifier, and packets that need it are dropped.
  std::size_t queues = 0;
  kernel::QueueMechanism mechanism = kernel::QueueMechanism::native;
};

/// Every named set and map. Numbers, groups, classes, profiles and outcomes are 32-bit values in
/// host byte order; nft lists them as marks.
struct Sets {
  kernel::NftSet workloads;                         // cgroup id (8 bytes, host order) -> number
  kernel::NftSet groups;                            // number -> group
  kernel::NftSet classes;                           // number -> class
  kernel::NftSet same;                              // group . group, equal pairs only
  kernel::NftSet pairs;                             // source class . destination class -> profile
  kernel::NftSet ports;                             // protocol . port -> port class
  kernel::NftSet outcomes;                          // profile . port class -> policy::Outcome
  kernel::NftSet ends;                              // policy::Outcome -> chain
  kernel::NftSet local4, local6, remote4, remote6;  // address -> class of an unlabeled peer there
  kernel::NftSet local_named4, local_named6;  // the same for addresses with a DNS name; timeouts
  kernel::NftSet remote_named4, remote_named6;
  kernel::NftSet named4, named6;       // addresses with a DNS name; before Linux 6.9 the maps above
                                       // cannot be matched as sets
  kernel::NftSet answers;              // family -> chain that reads answers of name servers
  kernel::NftSet source, destination;  // number -> conntrack label
  kernel::NftSet enter_out_net, enter_in_lo,
      enter_in_net;                     // family -> chain of the deepest level in use
  kernel::NftSet refusal;               // family -> chain, by [defaults] refuse and mode
  kernel::NftSet auditing;              // family; present if [defaults] mode is audit
  kernel::NftSet steady;                // family; absent while sets are exchanged
  kernel::NftSet owner;                 // family -> number of the workload that owns the namespace
  kernel::NftSet speakers4, speakers6;  // addresses that requests to go to the verifier
  kernel::NftSet neighbors;             // ICMPv6 types of neighbor and router discovery, and MLD
  kernel::NftSet hashes;                // symmetric hash of a flow -> chain of its queue
  kernel::NftSet rulings_in, rulings_out;  // abi::Ruling in the packet's priority -> chain
  kernel::NftSet selves;                   // number . number, an equal pair for every workload
  /// source . destination . protocol . port, for 5 s: each refusal is logged once in that time.
  kernel::NftSet refused;
  /// Label . protocol . port of allowed flows, for 60 s.
  kernel::NftSet sampled;
  /// Owners of the reports of the two sets above, each with a limit: see within_share().
  kernel::NftSet refused_shares, sampled_shares;
  /// source . port . destination . port of workloads' proved UDP flows; added by rules.
  kernel::NftSet clients4, clients6;

  [[nodiscard]] std::array<const kernel::NftSet*, 41> all() const;
};

[[nodiscard]] const Sets& sets();

/// The comment of a table. In a container's namespace it names the daemon that wrote the table, so
/// that `trirectl flush` removes only the tables of its own daemon. `home` is as in Layout.
[[nodiscard]] std::string table_comment(std::uint64_t home);

/// Replaces the table: chains, sets, rules, and the elements that never change. Must come first in
/// a batch.
void write_ruleset(kernel::NftBatch& batch, const Layout& layout);
/// Adds the base chain that sends answers of name servers to the daemon, to a table that has none
/// yet. It costs time for every packet that this host receives, so it is added only once the policy
/// has DNS names. It is not removed afterwards, because the kernel drops all packets that wait in
/// queues when a base chain is deleted.
void write_answers_hook(kernel::NftBatch& batch);

/// Elements of the three `enter_*` maps, which must be empty: the lookup starts at `level`.
void write_depth(kernel::NftBatch& batch, std::uint32_t level);

/// Chains that `answers` may name. Without a daemon, the first drops answers; the second lets them
/// pass unread.
inline constexpr const char* kAnswersHeld = "answers_held";
inline constexpr const char* kAnswersPass = "answers_pass";

/// Chains that `refusal` may name.
inline constexpr const char* kReject = "refuse_reject";
inline constexpr const char* kSilent = "refuse_drop";
inline constexpr const char* kAudit = "refuse_audit";

}  // namespace trireme::datapath
