// SPDX-License-Identifier: Apache-2.0
#include <netinet/in.h>
// Must follow netinet/in.h: the kernel's headers then leave out what it already defines.
#include <linux/netfilter.h>

#include "trireme/datapath/table.hpp"

namespace trireme::datapath {

using kernel::NftSet;
using kernel::SetType;

namespace {

NftSet set_of(const char* name, std::vector<SetType> key, std::uint32_t key_size) {
  return {.name = name, .key_types = std::move(key), .key_size = key_size, .data_types = {}};
}

/// A map to numbers, each of which is stored twice: see NftRule::map.
NftSet numbers(const char* name, std::vector<SetType> key, std::uint32_t key_size) {
  NftSet set = set_of(name, std::move(key), key_size);
  set.data_types = {SetType::mark, SetType::mark};
  set.data_size = 8;
  return set;
}

NftSet intervals(const char* name, std::vector<SetType> key, std::uint32_t key_size) {
  NftSet set = numbers(name, std::move(key), key_size);
  set.interval = true;
  return set;
}

/// A set whose elements have timeouts.
NftSet timed(NftSet set) {
  set.timeouts = true;
  return set;
}

/// Address . port . address . port, added by rules. `size` is that of an address in bytes; a port
/// takes four bytes.
NftSet ends(const char* name, SetType address, std::uint32_t size) {
  NftSet set =
      set_of(name, {address, SetType::inet_service, address, SetType::inet_service}, 2 * size + 8);
  set.dynamic = true;
  set.size = 65'536;
  return set;
}

/// Two numbers, added by rules. An owner without reports for five seconds has its whole burst
/// again.
NftSet owners(const char* name) {
  NftSet set = set_of(name, {SetType::mark, SetType::mark}, 8);
  set.dynamic_timeout_ms = 5000;
  set.size = 32'768;  // one for each workload as source, and up to two as destination
  return set;
}

NftSet labels(const char* name) {
  NftSet set = set_of(name, {SetType::mark}, 4);
  set.data_types = {SetType::integer};
  set.data_size = 16;
  return set;
}

NftSet verdicts(const char* name, SetType key, std::uint32_t key_size) {
  NftSet set = set_of(name, {key}, key_size);
  set.data_types = {SetType::verdict};
  return set;
}

Sets make() {
  Sets sets;
  const std::vector<SetType> pair = {SetType::mark, SetType::mark};
  sets.workloads = numbers("workloads", {SetType::integer}, 8);
  sets.groups = numbers("groups", {SetType::mark}, 4);
  sets.classes = numbers("classes", {SetType::mark}, 4);
  sets.same = set_of("same", pair, 8);
  sets.pairs = numbers("pairs", pair, 8);
  sets.ports = intervals("ports", {SetType::inet_proto, SetType::inet_service}, 8);
  sets.outcomes = numbers("outcomes", pair, 8);
  sets.ends = verdicts("ends", SetType::mark, 4);
  sets.local4 = intervals("local4", {SetType::ipv4_addr}, 4);
  sets.local6 = intervals("local6", {SetType::ipv6_addr}, 16);
  sets.remote4 = intervals("remote4", {SetType::ipv4_addr}, 4);
  sets.remote6 = intervals("remote6", {SetType::ipv6_addr}, 16);
  sets.local_named4 = timed(numbers("local_named4", {SetType::ipv4_addr}, 4));
  sets.local_named6 = timed(numbers("local_named6", {SetType::ipv6_addr}, 16));
  sets.remote_named4 = timed(numbers("remote_named4", {SetType::ipv4_addr}, 4));
  sets.remote_named6 = timed(numbers("remote_named6", {SetType::ipv6_addr}, 16));
  sets.named4 = timed(set_of("named4", {SetType::ipv4_addr}, 4));
  sets.named6 = timed(set_of("named6", {SetType::ipv6_addr}, 16));
  sets.answers = verdicts("answers", SetType::nfproto, 1);
  sets.source = labels("source");
  sets.destination = labels("destination");
  sets.enter_out_net = verdicts("enter_out_net", SetType::nfproto, 1);
  sets.enter_in_lo = verdicts("enter_in_lo", SetType::nfproto, 1);
  sets.enter_in_net = verdicts("enter_in_net", SetType::nfproto, 1);
  sets.refusal = verdicts("refusal", SetType::nfproto, 1);
  sets.auditing = set_of("auditing", {SetType::nfproto}, 1);
  sets.steady = set_of("steady", {SetType::nfproto}, 1);
  sets.owner = numbers("owner", {SetType::nfproto}, 1);
  sets.speakers4 = set_of("speakers4", {SetType::ipv4_addr}, 4);
  sets.speakers4.interval = true;
  sets.speakers6 = set_of("speakers6", {SetType::ipv6_addr}, 16);
  sets.speakers6.interval = true;
  sets.neighbors = set_of("neighbors", {SetType::icmpv6_type}, 1);
  sets.hashes = verdicts("hashes", SetType::mark, 4);
  sets.rulings_in = verdicts("rulings_in", SetType::mark, 4);
  sets.rulings_out = verdicts("rulings_out", SetType::mark, 4);
  sets.selves = set_of("selves", pair, 8);
  sets.refused = set_of(
      "refused", {SetType::mark, SetType::mark, SetType::inet_proto, SetType::inet_service}, 16);
  sets.refused.dynamic_timeout_ms = 5000;
  sets.refused.size = 4096;
  // The flow's label: nft 1.0 cannot list a set with its own type, nor the sets behind it.
  sets.sampled =
      set_of("sampled", {SetType::ipv6_addr, SetType::inet_proto, SetType::inet_service}, 24);
  sets.sampled.dynamic_timeout_ms = 60'000;
  sets.sampled.size = 4096;
  sets.refused_shares = owners("refused_shares");
  sets.sampled_shares = owners("sampled_shares");
  sets.clients4 = ends("clients4", SetType::ipv4_addr, 4);
  sets.clients6 = ends("clients6", SetType::ipv6_addr, 16);
  return sets;
}

}  // namespace

std::array<const NftSet*, 41> Sets::all() const {
  return {
      &workloads,    &groups,         &classes,        &same,          &pairs,       &ports,
      &outcomes,     &ends,           &local4,         &local6,        &remote4,     &remote6,
      &local_named4, &local_named6,   &remote_named4,  &remote_named6, &named4,      &named6,
      &answers,      &source,         &destination,    &enter_out_net, &enter_in_lo, &enter_in_net,
      &refusal,      &auditing,       &owner,          &speakers4,     &speakers6,   &neighbors,
      &hashes,       &rulings_in,     &rulings_out,    &selves,        &refused,     &steady,
      &sampled,      &refused_shares, &sampled_shares, &clients4,      &clients6};
}

const Sets& sets() {
  static const Sets instance = make();
  return instance;
}

}  // namespace trireme::datapath
