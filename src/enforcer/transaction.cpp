// SPDX-License-Identifier: Apache-2.0
// What an enforcer writes: all of its table, or one change of it.
#include <netinet/in.h>
// The kernel's headers define what netinet/in.h has not.
#include <linux/netfilter.h>

#include <set>
#include <span>

#include "enforcer_change.hpp"
#include "learned_names.hpp"
#include "trireme/enforcer/elements.hpp"
#include "trireme/enforcer/flow_label.hpp"

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
  batch.add_elements(sets().owner, list);
}

}  // namespace

/// The kernel exchanges rules and plain sets at one moment, sets of intervals only when it has gone
/// through the whole transaction, milliseconds later: until then it finds none of their elements,
/// neither old nor new ones. Who is not found is not refused meanwhile: dropped without a word, so
/// that TCP repeats it. Where this is cut off it stays so until the next start.
void Enforcer::begin_exchange() {
  NftBatch batch(kTable);
  batch.flush_set(sets().steady);
  std::ignore = socket_.commit(std::move(batch));  // there may be no table, or a former version's
}

Status Enforcer::end_exchange() {
  NftBatch batch(kTable);
  write_steady(batch);
  const Status committed = socket_.commit(std::move(batch));
  behind_ = behind_ || !committed;
  return committed;
}

Status Enforcer::write_everything() {
  begin_exchange();
  NftBatch batch(kTable);
  write_ruleset(batch, layout_);
  const bool answers = reads_answers(*policy_);
  if (answers) {
    write_answers_hook(batch);
  }
  write_refusal(batch, *policy_);
  write_tables(batch, compiler_.tables(), compiler_.first_id());
  write_elements(batch, compiler_.elements(), compiler_.first_id(), false);
  write_named(batch, named_elements(*names_, names_->all(), compiler_.elements()));
  write_answers(batch, *policy_);
  std::vector<Number> numbers = {kHost};
  for (const auto& [number, labels] : labels_) {
    numbers.push_back(number);
  }
  write_numbers(batch, numbers, false);
  std::vector<NftElement> list;
  std::optional<Number> owner = unowned_ ? std::nullopt : std::optional<Number>(kQuarantine);
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
  batch.add_elements(sets().workloads, list);
  if (layout_.owned && owner) {
    write_owner(batch, *owner);
  }
  write_speakers(batch, speakers_, false);
  std::vector<NftBytes> keys;
  for (const handshake::FlowKey& flow : clients()) {
    keys.push_back(client_key(flow));
  }
  write_clients(batch, keys, false);
  write_depth(batch, depth());
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

/// A client that a rule enters meanwhile may go with those that are taken out: the second look puts
/// it back, and until then conntrack remembers its flow.
Status Enforcer::keep_clients(std::vector<handshake::FlowKey> wanted) {
  const auto bytes = [](std::span<const std::uint8_t> key) {
    return std::string(key.begin(), key.end());
  };
  for (int look = 0; look < 2 && live_ && !behind_; look++) {
    std::set<std::string> there;
    for (const kernel::NftSet* set : {&sets().clients4, &sets().clients6}) {
      const auto keys = socket_.keys(kTable, set->name);
      if (!keys) {
        return tl::unexpected(keys.error());
      }
      for (const auto& key : *keys) {
        there.insert(bytes(key));
      }
    }
    std::vector<NftBytes> missing;
    for (const handshake::FlowKey& flow : wanted) {
      const NftBytes key = client_key(flow);
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
    NftBatch batch(kTable);
    write_clients(batch, stale, true);
    write_clients(batch, missing, false);
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
    return write_everything();
  }
  NftBatch batch(kTable);
  if (depth() != written_depth_) {
    for (const kernel::NftSet* set :
         {&sets().enter_out_net, &sets().enter_in_lo, &sets().enter_in_net}) {
      batch.flush_set(*set);
    }
    write_depth(batch, depth());
  }
  std::vector<NftElement> leaving;
  for (const std::uint64_t id : change.leaving) {
    leaving.push_back({.key = NftBytes::u64(id)});
  }
  batch.delete_elements(sets().workloads, leaving);
  write_numbers(batch, change.unnamed, true);
  remove_named(batch, change.forgotten);
  for (const policy::Delta& delta : change.deltas) {
    write_elements(batch, delta.remove, compiler_.first_id(), true);
    write_elements(batch, delta.add, compiler_.first_id(), false);
  }
  write_numbers(batch, change.named, false);
  write_named(batch, named_elements(*names_, change.learned, compiler_.elements()));
  std::vector<NftElement> joining;
  for (const auto& [id, number] : change.joining) {
    joining.push_back({.key = NftBytes::u64(id), .data = NftBytes::twice(number)});
  }
  batch.add_elements(sets().workloads, joining);
  if (change.owner) {
    batch.flush_set(sets().owner);
    write_owner(batch, *change.owner);
  }
  const Status committed = socket_.commit(std::move(batch));
  if (committed) {
    written_depth_ = depth();
    return {};
  }
  // Somebody else changed the table, or it is gone: everything is written anew, the change
  // included.
  return write_everything();
}

std::uint32_t Enforcer::depth() const {
  return levels_.empty() ? (layout_.owned ? 0 : 1) : levels_.rbegin()->first;
}

}  // namespace trireme::enforcer
