// SPDX-License-Identifier: Apache-2.0
// Writes an enforcer's table: all of it, or one change.
#include <netinet/in.h>
// Must follow netinet/in.h: the kernel's headers then leave out what it already defines.
#include <linux/netfilter.h>

#include <set>
#include <span>

#include "enforcer_change.hpp"
#include "learned_names.hpp"
#include "trireme/abi/flow_label.hpp"
#include "trireme/datapath/elements.hpp"
#include "version.hpp"

namespace trireme::enforcer {

using kernel::NftBatch;
using kernel::NftBytes;
using kernel::NftElement;
using policy::Number;

namespace {

void write_owner(NftBatch& batch, Number number) {
  std::vector<NftElement> list;
  for (const std::uint8_t nfproto : {std::uint8_t{NFPROTO_IPV4}, std::uint8_t{NFPROTO_IPV6}}) {
    list.push_back({.key = NftBytes::u8(nfproto), .data = NftBytes::twice(number)});
  }
  batch.add_elements(datapath::sets().owner, list);
}

/// A proved flow of a client, in the direction of its requests.
wire::Ends ends_of(const handshake::FlowKey& flow) {
  return {flow.local, flow.remote, flow.local_port, flow.remote_port};
}

}  // namespace

/// The kernel exchanges rules and plain sets at one moment, but interval sets only at the end of
/// the transaction, milliseconds later. Until then a lookup finds neither old nor new elements.
/// Packets without a match are not refused in that time but dropped silently, so that TCP
/// retransmits them. If the daemon is killed before end_exchange(), this lasts until its next
/// start.
void Enforcer::begin_exchange() {
  NftBatch batch(abi::kTable);
  batch.flush_set(datapath::sets().steady);
  // Fails if there is no table, or one of an earlier version without this set.
  std::ignore = socket_.commit(std::move(batch));
}

Status Enforcer::end_exchange() {
  NftBatch batch(abi::kTable);
  datapath::write_steady(batch);
  const Status committed = socket_.commit(std::move(batch));
  behind_ = behind_ || !committed;
  return committed;
}

Status Enforcer::write_everything(const Version& version) {
  begin_exchange();
  NftBatch batch(abi::kTable);
  datapath::write_ruleset(batch, layout_);
  const bool answers = datapath::reads_answers(*version.policy);
  if (answers) {
    datapath::write_answers_hook(batch);
  }
  datapath::write_refusal(batch, *version.policy);
  datapath::write_tables(batch, version.compiler.tables(), version.compiler.first_id());
  datapath::write_elements(batch, version.compiler.elements(), version.compiler.first_id(), false);
  datapath::write_named(
      batch, named_elements(version.names, version.names.all(), version.compiler.elements()));
  datapath::write_answers(batch, *version.policy);
  std::vector<Number> numbers = {abi::kHost};
  for (const auto& [number, labels] : labels_) {
    numbers.push_back(number);
  }
  datapath::write_numbers(batch, numbers, false);
  std::vector<NftElement> list;
  std::optional<Number> owner = unowned_ ? std::nullopt : std::optional<Number>(abi::kQuarantine);
  for (const auto& [id, member] : members_) {
    if (member.is_owner) {
      owner = member.number;
    }
    if (member.level != 0) {
      list.push_back({.key = NftBytes::u64(id), .data = NftBytes::twice(member.number)});
      for (const std::uint64_t former : member.former) {
        list.push_back({.key = NftBytes::u64(former), .data = NftBytes::twice(member.number)});
      }
    }
  }
  batch.add_elements(datapath::sets().workloads, list);
  if (layout_.owned && owner) {
    write_owner(batch, *owner);
  }
  datapath::write_speakers(batch, speakers_, false);
  std::vector<NftBytes> keys;
  for (const handshake::FlowKey& flow : clients()) {
    keys.push_back(datapath::client_key(ends_of(flow)));
  }
  datapath::write_clients(batch, keys, false);
  datapath::write_depth(batch, depth());
  Status committed = socket_.commit(std::move(batch));
  behind_ = !committed;
  if (committed) {
    written_depth_ = depth();
    has_answers_hook_ = answers;
    committed = end_exchange();
  }
  return committed;
}

std::vector<handshake::FlowKey> Enforcer::clients() const {
  return common_.clients ? common_.clients(layout_.point) : std::vector<handshake::FlowKey>();
}

/// A rule may add a client between the listing and the removal of stale keys, and the removal may
/// delete it. The second round restores it; until then conntrack still has its flow.
Status Enforcer::keep_clients(std::vector<handshake::FlowKey> wanted) {
  const auto bytes = [](std::span<const std::uint8_t> key) {
    return std::string(key.begin(), key.end());
  };
  for (int look = 0; look < 2 && live_ && !behind_; look++) {
    std::set<std::string> there;
    for (const kernel::NftSet* set : {&datapath::sets().clients4, &datapath::sets().clients6}) {
      const auto keys = socket_.keys(abi::kTable, set->name);
      if (!keys) {
        return tl::unexpected(keys.error());
      }
      for (const auto& key : *keys) {
        there.insert(bytes(key));
      }
    }
    std::vector<NftBytes> missing;
    for (const handshake::FlowKey& flow : wanted) {
      const NftBytes key = datapath::client_key(ends_of(flow));
      if (there.erase(bytes(key.view())) == 0) {
        missing.push_back(key);
      }
    }
    std::vector<NftBytes> stale;
    for (const std::string& key : there) {
      stale.push_back(
          NftBytes().add_raw({reinterpret_cast<const std::uint8_t*>(key.data()), key.size()}));
    }
    if (missing.empty() && stale.empty()) {
      break;
    }
    NftBatch batch(abi::kTable);
    datapath::write_clients(batch, stale, true);
    datapath::write_clients(batch, missing, false);
    if (Status committed = socket_.commit(std::move(batch)); !committed || stale.empty()) {
      return committed;
    }
    wanted = clients();
  }
  return {};
}

Status Enforcer::commit(const Change& change) {
  if (!live_) {
    return {};
  }
  if (behind_) {
    return write_everything(*version_);
  }
  NftBatch batch(abi::kTable);
  if (depth() != written_depth_) {
    for (const kernel::NftSet* set :
         {&datapath::sets().enter_out_net, &datapath::sets().enter_in_lo,
          &datapath::sets().enter_in_net}) {
      batch.flush_set(*set);
    }
    datapath::write_depth(batch, depth());
  }
  std::vector<NftElement> leaving;
  for (const std::uint64_t id : change.leaving) {
    leaving.push_back({.key = NftBytes::u64(id)});
  }
  batch.delete_elements(datapath::sets().workloads, leaving);
  datapath::write_numbers(batch, change.unnamed, true);
  datapath::remove_named(batch, change.forgotten);
  for (const policy::Delta& delta : change.deltas) {
    datapath::write_elements(batch, delta.remove, version_->compiler.first_id(), true);
    datapath::write_elements(batch, delta.add, version_->compiler.first_id(), false);
  }
  datapath::write_numbers(batch, change.named, false);
  datapath::write_named(
      batch, named_elements(version_->names, change.learned, version_->compiler.elements()));
  std::vector<NftElement> joining;
  for (const auto& [id, number] : change.joining) {
    joining.push_back({.key = NftBytes::u64(id), .data = NftBytes::twice(number)});
  }
  batch.add_elements(datapath::sets().workloads, joining);
  if (change.owner) {
    batch.flush_set(datapath::sets().owner);
    write_owner(batch, *change.owner);
  }
  const Status committed = socket_.commit(std::move(batch));
  if (committed) {
    written_depth_ = depth();
    return {};
  }
  // Another program changed or deleted the table: rewrite everything, including this change.
  return write_everything(*version_);
}

std::uint32_t Enforcer::depth() const {
  return levels_.empty() ? (layout_.owned ? 0 : 1) : levels_.rbegin()->first;
}

}  // namespace trireme::enforcer
