#include "trireme/kernel/nft.hpp"
#include "trireme/kernel/queue.hpp"

namespace trireme::kernel {
namespace {

constexpr const char* kTable = "trireme_probe";
constexpr const char* kChain = "queue";

/// One transaction that adds a table with a rule and deletes it: the kernel checks the rule, and no
/// packet ever meets it.
Status attempt(NftSocket& socket, QueueMechanism mechanism) {
  NftBatch batch(kTable);
  batch.add_table();
  batch.add_chain(kChain);
  NftRule rule;
  rule.queue(mechanism, 0);
  batch.add_rule(kChain, rule);
  batch.delete_table();
  return socket.commit(std::move(batch));
}

}  // namespace

const char* text(QueueMechanism mechanism) {
  return mechanism == QueueMechanism::native ? "nf_tables queue" : "xtables NFQUEUE target";
}

Result<QueueMechanism> probe_queue() {
  auto socket = NftSocket::open();
  if (!socket) {
    return tl::unexpected(socket.error());
  }
  if (attempt(*socket, QueueMechanism::native)) {
    return QueueMechanism::native;
  }
  const Status target = attempt(*socket, QueueMechanism::target);
  if (!target) {
    return fail("rules cannot hand packets to user space: " + target.error().message,
                "the kernel needs CONFIG_NFT_QUEUE, or CONFIG_NETFILTER_XT_TARGET_NFQUEUE and "
                "CONFIG_NFT_COMPAT");
  }
  return QueueMechanism::target;
}

}  // namespace trireme::kernel
