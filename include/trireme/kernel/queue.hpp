// SPDX-License-Identifier: Apache-2.0
// One NFQUEUE of the present network namespace: packets in batches, verdicts in arrival order and
// coalesced into one message.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::kernel {

struct QueuedPacket {
  std::uint32_t id = 0;
  std::uint8_t hook = 0;        // enum nf_inet_hooks
  std::uint32_t priority = 0;   // skb->priority, host order
  std::uint32_t mark = 0;       // skb->mark, host order
  std::uint32_t in_device = 0;  // ifindex; 0: none
  std::uint32_t out_device = 0;
  /// From the IP header on, the first QueueSize::copied of them. Of a packet that this host made,
  /// the TCP or UDP checksum may be unfinished (the pseudo-header's sum alone; left to the device):
  /// compute it anew rather than adjust it.
  std::span<const std::uint8_t> bytes;
  std::size_t length = 0;  // of the whole packet
};

struct QueueSize {
  std::uint32_t length = 0;  // packets that wait at most
  std::size_t copied =
      1600;  // bytes of a packet that are copied to us: any token, and the headers of anything else
  std::size_t batch = 64;  // packets at a time, at most Queue::kBatch
};

class Queue {
 public:
  static constexpr std::size_t kBatch = 64;

  /// Binds queue `number` in the present network namespace. Without fail-open: packets beyond its
  /// length, or without a listener, are dropped. Segmentation offload packets come whole. Memory is
  /// taken as packets need it. Errors: another program has the queue, no nfnetlink_queue.
  [[nodiscard]] static Result<Queue> bind(std::uint16_t number, const QueueSize& size);
  [[nodiscard]] static Result<Queue> bind(std::uint16_t number, std::uint32_t length) {
    return bind(number, QueueSize{.length = length});
  }
  Queue(Queue&&) noexcept;
  Queue& operator=(Queue&&) noexcept;
  ~Queue();

  [[nodiscard]] int fd() const;
  /// What waits, at most a batch, in arrival order; never blocks. Valid until the next call. Empty:
  /// nothing waits.
  [[nodiscard]] std::span<const QueuedPacket> receive();
  /// Whether there is something to receive.
  [[nodiscard]] bool waits() const;
  /// Verdicts, sent by flush() in this order. The priority becomes the packet's (NFQA_PRIORITY,
  /// Linux 5.18).
  void accept(std::uint32_t id, std::uint32_t priority);
  /// With other bytes in the packet's place, at most 65,000; checksums must be right and whole.
  void accept(std::uint32_t id, std::uint32_t priority, std::span<const std::uint8_t> changed);
  void drop(std::uint32_t id);
  /// Sends the verdicts given since the last call, in as few messages as they fit. A packet that is
  /// gone is fine.
  void flush();
  /// Packets that the kernel dropped since bind() because the queue or its socket's buffer was full
  /// (/proc/net/netfilter/nfnetlink_queue), messages that were malformed, and flushes that failed.
  /// Reads a file: not for every packet.
  [[nodiscard]] std::uint64_t lost() const;

 private:
  struct State;
  explicit Queue(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// How rules hand packets to a queue.
enum class QueueMechanism : std::uint8_t {
  native,  // nf_tables' own `queue` expression (CONFIG_NFT_QUEUE)
  target,  // the xtables target NFQUEUE, revision 3 (CONFIG_NETFILTER_XT_TARGET_NFQUEUE through
           // nft_compat)
};
[[nodiscard]] const char* text(
    QueueMechanism mechanism);  // "nf_tables queue", "xtables NFQUEUE target"
/// Which this kernel has, tried in a table that is never committed or is removed at once; `native`
/// where both are. Errors: neither.
[[nodiscard]] Result<QueueMechanism> probe_queue();

}  // namespace trireme::kernel
