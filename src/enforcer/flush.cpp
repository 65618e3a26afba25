#include "live_flows.hpp"
#include "trireme/enforcer/enforcer.hpp"
#include "trireme/enforcer/flow_label.hpp"
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
      [&](const kernel::TrackedFlow& flow) { return conntrack->clear_label_bits(flow, kFlowBits); });
  return changed ? Status{} : Status(tl::unexpected(changed.error()));
}

}  // namespace

Result<Flushed> flush(const kernel::CgroupTree& tree, const std::string& runtime_dir) {
  auto socket = kernel::NftSocket::open();
  if (!socket) {
    return tl::unexpected(socket.error());
  }
  const auto exists = socket->table_exists(kTable);
  if (!exists) {
    return tl::unexpected(exists.error());
  }
  Flushed flushed{.table = *exists};
  if (*exists) {
    kernel::NftBatch batch(kTable);
    batch.delete_table();
    if (Status removed = socket->commit(std::move(batch)); !removed) {
      return tl::unexpected(removed.error());
    }
  }
  if (Status forgotten = forget_flows(); !forgotten) {
    return tl::unexpected(forgotten.error());
  }
  if (Status detached = kernel::MulticastFilter::detach(tree.absolute(workload::strict_slice(runtime_dir))); !detached) {
    return tl::unexpected(detached.error());
  }
  flushed.workloads = workload::clear_records(tree);
  return flushed;
}

}  // namespace trireme::enforcer
