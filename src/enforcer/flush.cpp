#include "trireme/enforcer/enforcer.hpp"
#include "trireme/enforcer/flow_label.hpp"
#include "trireme/workload/registry.hpp"
#include "trireme/workload/scope.hpp"

namespace trireme::enforcer {
namespace {

/// The bits of a table that is gone must not speak for anybody in a later one.
Status forget_flows() {
  auto conntrack = kernel::Conntrack::open();
  if (!conntrack) {
    return tl::unexpected(conntrack.error());
  }
  constexpr std::uint32_t kBits = kAuthorised | kExempt | kAudited | kLogged;
  std::vector<kernel::TrackedFlow> marked;
  Status done = conntrack->each([&](const kernel::TrackedFlow& flow) {
    if ((flow.label[0] & kBits) != 0) {
      marked.push_back(flow);
    }
  });
  for (auto flow = marked.begin(); done && flow != marked.end(); ++flow) {
    done = conntrack->clear_label_bits(*flow, kBits);
  }
  return done;
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
