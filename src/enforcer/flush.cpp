// SPDX-License-Identifier: Apache-2.0
#include "live_flows.hpp"
#include "trireme/abi/flow_label.hpp"
#include "trireme/enforcer/enforcer.hpp"
#include "trireme/enforcer/flow_log.hpp"
#include "trireme/gate/gate.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::enforcer {
namespace {

/// Clears trireme's bits in all conntrack labels: a later table, in which numbers stand for other
/// workloads, must not trust verdicts of this one.
Status forget_flows() {
  auto conntrack = kernel::Conntrack::open();
  if (!conntrack) {
    return tl::unexpected(conntrack.error());
  }
  const auto changed = change_flows(
      *conntrack,
      [](const kernel::TrackedFlow& flow) { return (flow.label[0] & abi::kFlowBits) != 0; },
      [&](const kernel::TrackedFlow& flow) {
        return conntrack->clear_label_bits(flow, abi::kFlowBits);
      });
  return changed ? Status{} : Status(tl::unexpected(changed.error()));
}

/// Removes the table of the current network namespace if the daemon of namespace `home` wrote it
/// (0: if any daemon wrote it). Returns true if there was such a table.
Result<bool> remove_table(std::uint64_t home) {
  auto socket = kernel::NftSocket::open();
  if (!socket) {
    return tl::unexpected(socket.error());
  }
  const auto comment = socket->table_comment(abi::kTable);
  if (!comment) {
    return tl::unexpected(comment.error());
  }
  if (!comment->has_value() || (home != 0 && **comment != datapath::table_comment(home))) {
    return false;
  }
  kernel::NftBatch batch(abi::kTable);
  batch.delete_table();
  Status removed = socket->commit(std::move(batch));
  removed = removed ? forget_flows() : removed;
  return removed ? Result<bool>(true) : tl::unexpected(removed.error());
}

/// Removes the tables of this daemon in other network namespaces that have a process. Tries all of
/// them, and returns the number removed or an error.
Result<std::size_t> remove_containers_tables() {
  const std::uint64_t home = kernel::netns_cookie();
  Result<std::size_t> count = std::size_t{0};
  for (const auto& network : kernel::other_networks()) {
    Result<bool> removed = false;
    if (Status entered = network->within([&] { removed = remove_table(home); }); !entered) {
      removed = tl::unexpected(entered.error());
    }
    if (!removed) {
      count = tl::unexpected(removed.error());
    } else if (count && *removed) {
      ++*count;
    }
  }
  return count;
}

}  // namespace

Result<Flushed> flush(const kernel::CgroupTree& tree, const std::string& runtime_dir) {
  // A running daemon would continue with a part of its state removed. Whatever its runtime
  // directory is, it has the log group open, so opening the group fails.
  const auto alone = FlowLog::open();
  if (!alone) {
    return fail("triremed may be running in this network namespace: " + alone.error().message,
                "run 'systemctl stop trireme' first");
  }
  const auto here = remove_table(0);
  const auto there = remove_containers_tables();
  if (!here || !there) {
    return tl::unexpected(!here ? here.error() : there.error());
  }
  if (Status detached = gate::Gate::detach(tree.absolute("/")); !detached) {
    return tl::unexpected(detached.error());
  }
  verifier::forget_identities(runtime_dir);
  return Flushed{.table = *here, .containers = *there, .workloads = workload::clear_records(tree)};
}

}  // namespace trireme::enforcer
