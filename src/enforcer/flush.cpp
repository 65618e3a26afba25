// SPDX-License-Identifier: Apache-2.0
#include "live_flows.hpp"
#include "trireme/enforcer/enforcer.hpp"
#include "trireme/enforcer/flow_label.hpp"
#include "trireme/enforcer/flow_log.hpp"
#include "trireme/gate/gate.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::enforcer {
namespace {

/// The bits of a table that is gone must not speak for anybody in a later one.
Status forget_flows() {
  auto conntrack = kernel::Conntrack::open();
  if (!conntrack) {
    return tl::unexpected(conntrack.error());
  }
  const auto changed = change_flows(
      *conntrack, [](const kernel::TrackedFlow& flow) { return (flow.label[0] & kFlowBits) != 0; },
      [&](const kernel::TrackedFlow& flow) {
        return conntrack->clear_label_bits(flow, kFlowBits);
      });
  return changed ? Status{} : Status(tl::unexpected(changed.error()));
}

/// In the present network namespace, where its table is one of the daemon's of `home` (0:
/// whoever's). Returns whether there was one.
Result<bool> remove_table(std::uint64_t home) {
  auto socket = kernel::NftSocket::open();
  if (!socket) {
    return tl::unexpected(socket.error());
  }
  const auto comment = socket->table_comment(kTable);
  if (!comment) {
    return tl::unexpected(comment.error());
  }
  if (!comment->has_value() || (home != 0 && **comment != table_comment(home))) {
    return false;
  }
  kernel::NftBatch batch(kTable);
  batch.delete_table();
  Status removed = socket->commit(std::move(batch));
  removed = removed ? forget_flows() : removed;
  return removed ? Result<bool>(true) : tl::unexpected(removed.error());
}

/// Those of containers' network namespaces, as long as a process is in them. All are tried.
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
  // Whatever its runtime directory: a daemon that enforces here has the log group, and would be
  // left with half of what it knows.
  const auto alone = FlowLog::open();
  if (!alone) {
    return fail("a triremed may be running in this network namespace: " + alone.error().message,
                "stop it first");
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
