// SPDX-License-Identifier: Apache-2.0
// One NFQUEUE of a network namespace: packets are received in batches, and verdicts are sent in the
// order given, many of them in one send(2).
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
  std::uint32_t priority = 0;   // skb->priority, host byte order
  std::uint32_t mark = 0;       // skb->mark, host byte order
  std::uint32_t in_device = 0;  // ifindex; 0: none
  std::uint32_t out_device = 0;
  /// The packet from the IP header on, at most QueueSize::copied bytes. In packets that this host
  /// sends, the TCP or UDP checksum may be incomplete (only the sum of the pseudo-header, if the
  /// device computes the rest): recompute it, do not adjust it.
  std::span<const std::uint8_t> bytes;
  std::size_t length = 0;  // bytes of the whole packet
};

struct QueueSize {
  std::uint32_t length = 0;  // packets that can wait; the kernel drops further ones
  // Bytes of each packet that the kernel copies: enough for any token, and for all headers.
  std::size_t copied = 1600;
  std::size_t batch = 64;  // packets per receive(), at most Queue::kBatch
};

class Queue {
 public:
  static constexpr std::size_t kBatch = 64;

  /// Binds queue `number` in the current network namespace. Fails closed: packets beyond its
  /// length, or without a listener, are dropped. Segmentation offload (GSO) packets are not split.
  /// Memory for the batch is touched only as packets need it. Errors: another program has bound the
  /// queue; no nfnetlink_queue; no CAP_NET_ADMIN.
  [[nodiscard]] static Result<Queue> bind(std::uint16_t number, const QueueSize& size);
  [[nodiscard]] static Result<Queue> bind(std::uint16_t number, std::uint32_t length) {
    return bind(number, QueueSize{.length = length});
  }
  Queue(Queue&&) noexcept;
  Queue& operator=(Queue&&) noexcept;
  ~Queue();

  [[nodiscard]] int fd() const;
  /// Waiting packets in arrival order, at most a batch; empty if none wait. Never blocks. The span
  /// and the bytes are valid until the next call.
  [[nodiscard]] std::span<const QueuedPacket> receive();
  /// True if receive() would return packets.
  [[nodiscard]] bool waits() const;
  /// Adds an accept verdict, which flush() sends. Sets the packet's priority (NFQA_PRIORITY, Linux
  /// 5.18).
  void accept(std::uint32_t id, std::uint32_t priority);
  /// The same, and replaces the packet by `changed`: at most 65,000 bytes, with complete checksums.
  /// A larger one is dropped.
  void accept(std::uint32_t id, std::uint32_t priority, std::span<const std::uint8_t> changed);
  void drop(std::uint32_t id);
  /// Sends the verdicts since the last call, in the order given. A packet that no longer waits is
  /// no error.
  void flush();
  /// Number of packets that the kernel dropped since bind() because the queue or its socket's
  /// buffer was full (/proc/net/netfilter/nfnetlink_queue), of malformed messages, and of verdicts
  /// that could not be sent. Reads a file: do not call it for every packet.
  [[nodiscard]] std::uint64_t lost() const;

 private:
  struct State;
  explicit Queue(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// How rules pass packets to a queue.
enum class QueueMechanism : std::uint8_t {
  native,  // the `queue` expression of nf_tables (CONFIG_NFT_QUEUE)
  target,  // the xtables target NFQUEUE, revision 3 (CONFIG_NETFILTER_XT_TARGET_NFQUEUE and
           // CONFIG_NFT_COMPAT)
};
/// "nf_tables queue" or "xtables NFQUEUE target": the value of "queues" in the JSON of status.
[[nodiscard]] const char* text(QueueMechanism mechanism);
/// Which mechanism this kernel has, tried with a table that the same transaction removes; `native`
/// if it has both. Errors: it has neither.
[[nodiscard]] Result<QueueMechanism> probe_queue();

}  // namespace trireme::kernel
