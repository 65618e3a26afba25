// SPDX-License-Identifier: Apache-2.0
// Table inet trireme: its sets and its fixed chains. docs/datapath.md tells the story; the order of
// rules here is the story's order.
#pragma once

#include <array>
#include <string>

#include "trireme/kernel/nft.hpp"
#include "trireme/verifier/verifier.hpp"

namespace trireme::enforcer {

inline constexpr const char* kTable = "trireme";
/// Group of the log messages (nfnetlink_log) that the daemon listens to.
inline constexpr std::uint16_t kLogGroup = 7434;
/// Deepest cgroup that can be enrolled, counted from the root of the hierarchy.
inline constexpr std::uint32_t kMaxLevel = 8;

/// What differs between network namespaces.
struct Layout {
  std::uint64_t home = 0;  // kernel::netns_cookie() of the daemon; 0: it is this very namespace
  bool owned =
      false;  // a workload has the whole namespace: what no enrolled cgroup has is its (level 0)
  std::uint32_t point = 0;  // the enforcement point's id within this process
  std::size_t queues =
      0;  // threads of the verifier; 0: there is none, and what would be asked is dropped
  kernel::QueueMechanism mechanism = kernel::QueueMechanism::native;
};

/// Every named set and map. Numbers, groups, classes, profiles and outcomes are 32-bit values in
/// host order, shown by nft as marks.
struct Sets {
  kernel::NftSet workloads;                         // cgroup id (8 bytes, host order) -> number
  kernel::NftSet groups;                            // number -> group
  kernel::NftSet classes;                           // number -> class
  kernel::NftSet same;                              // group . group, equal pairs only
  kernel::NftSet pairs;                             // source class . destination class -> profile
  kernel::NftSet ports;                             // protocol . port -> port class
  kernel::NftSet outcomes;                          // profile . port class -> policy::Outcome
  kernel::NftSet ends;                              // policy::Outcome -> chain
  kernel::NftSet local4, local6, remote4, remote6;  // address -> class of an unlabelled peer there
  kernel::NftSet local_named4, local_named6;  // the same of addresses that have a name, for a while
  kernel::NftSet remote_named4, remote_named6;
  kernel::NftSet named4, named6;       // those addresses: maps cannot be asked before Linux 6.9
  kernel::NftSet answers;              // family -> chain: whether answers of name servers are read
  kernel::NftSet source, destination;  // number -> conntrack label
  kernel::NftSet enter_out_net, enter_in_lo,
      enter_in_net;                     // family -> chain of the deepest level in use
  kernel::NftSet refusal;               // family -> chain: what [defaults] refuse and mode say
  kernel::NftSet auditing;              // family: [defaults] mode is audit
  kernel::NftSet steady;                // family: no sets are being exchanged
  kernel::NftSet owner;                 // family -> number of the workload that has the namespace
  kernel::NftSet speakers4, speakers6;  // addresses whose peers are expected to speak tokens
  kernel::NftSet neighbours;            // ICMPv6 types of neighbour and router discovery, and MLD
  kernel::NftSet hashes;                // symmetric hash of a flow -> chain of its queue
  kernel::NftSet rulings_in, rulings_out;  // handshake::Ruling in the packet's priority -> chain
  kernel::NftSet selves;                   // number . number, equal pairs only: of every workload
  kernel::NftSet
      refused;  // source . destination . protocol . port, for seconds: each refusal is logged once
  kernel::NftSet clients4, clients6;  // ends of workloads' UDP flows that were proved: source .
                                      // port . destination . port; entered by rules

  [[nodiscard]] std::array<const kernel::NftSet*, 38> all() const;
};

[[nodiscard]] const Sets& sets();

/// What the table of a container's namespace says of itself: which daemon has written it, so that
/// `trirectl flush` takes no other's away.
[[nodiscard]] std::string table_comment(std::uint64_t home);

/// The table anew: chains, sets, rules, and the elements that never change. Comes first in a batch.
void write_ruleset(kernel::NftBatch& batch, const Layout& layout);
/// The hook by which answers of name servers come to the daemon, in a table that has none yet.
/// Every packet for this host pays for it, so it is there only where policy has names; once there
/// it stays, since the kernel drops whatever waits in a queue when a hook goes.
void write_answers_hook(kernel::NftBatch& batch);

/// Elements for the three `enter_*` maps, new or flushed: start at `level`.
void write_depth(kernel::NftBatch& batch, std::uint32_t level);

/// The queue of answers of name servers; see handshakes' in verifier.hpp.
inline constexpr std::uint16_t kAnswerQueue = verifier::kFirstQueue + verifier::kMostThreads;
/// Chains that `answers` may name: without the daemon, answers are dropped, or pass and nobody
/// learns of them.
inline constexpr const char* kAnswersHeld = "answers_held";
inline constexpr const char* kAnswersPass = "answers_pass";

/// Chains that `refusal` may name.
inline constexpr const char* kReject = "refuse_reject";
inline constexpr const char* kSilent = "refuse_drop";
inline constexpr const char* kAudit = "refuse_audit";

}  // namespace trireme::enforcer
