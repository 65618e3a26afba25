// SPDX-License-Identifier: Apache-2.0
#include "trireme/kernel/queue.hpp"

#include <libmnl/libmnl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
// These kernel headers must come after netinet/in.h.
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
// Must come after the kernel's nfnetlink_queue.h, because it has an older copy of it.
#include <libnetfilter_queue/libnetfilter_queue.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "netlink.hpp"
#include "trireme/kernel/queue_counters.hpp"

namespace trireme::kernel {
namespace {

constexpr std::size_t kAttributes = 448;      // bytes per packet: 136, and a reserve
constexpr std::size_t kVerdicts = 1U << 16U;  // bytes of verdicts in one send(2)
constexpr std::size_t kVerdict = 64;          // bytes of one verdict without payload, at most
constexpr std::size_t kMaxChanged = 65'000;   // bytes; slightly below the limit of an attribute
constexpr int kMaxReceiveBuffer = 16 << 20;
constexpr int kSendBuffer = 2 * int{kVerdicts};  // net.core.wmem_default may be too small

/// The attributes of a packet message. libnetfilter_queue's own parser is not used: it drops
/// attributes that are newer than its build, such as NFQA_PRIORITY.
struct Message {
  const nfqnl_msg_packet_hdr* header = nullptr;
  const nlattr* payload = nullptr;
  QueuedPacket packet;
};

std::uint32_t be32(const nlattr* attribute) {
  return mnl_attr_get_payload_len(attribute) >= sizeof(std::uint32_t)
             ? ntohl(mnl_attr_get_u32(attribute))
             : 0;
}

void read_attribute(const nlattr* attribute, Message& message) {
  switch (mnl_attr_get_type(attribute)) {
    case NFQA_PACKET_HDR:
      if (mnl_attr_get_payload_len(attribute) >= sizeof(nfqnl_msg_packet_hdr)) {
        message.header = static_cast<const nfqnl_msg_packet_hdr*>(mnl_attr_get_payload(attribute));
      }
      break;
    case NFQA_PAYLOAD:
      message.payload = attribute;
      break;
    case NFQA_PRIORITY:
      message.packet.priority = be32(attribute);
      break;
    case NFQA_MARK:
      message.packet.mark = be32(attribute);
      break;
    case NFQA_IFINDEX_INDEV:
      message.packet.in_device = be32(attribute);
      break;
    case NFQA_IFINDEX_OUTDEV:
      message.packet.out_device = be32(attribute);
      break;
    case NFQA_CAP_LEN:
      message.packet.length = be32(attribute);
      break;
    default:
      break;
  }
}

Message read_message(const nlmsghdr* header) {
  Message message;
  const auto read = [](const nlattr* attribute, void* data) -> int {
    read_attribute(attribute, *static_cast<Message*>(data));
    return MNL_CB_OK;
  };
  mnl_attr_parse(header, sizeof(nfgenmsg), read, &message);
  if (message.header != nullptr) {
    message.packet.id = ntohl(message.header->packet_id);
    message.packet.hook = message.header->hook;
  }
  if (message.payload != nullptr) {
    message.packet.bytes = {static_cast<const std::uint8_t*>(mnl_attr_get_payload(message.payload)),
                            mnl_attr_get_payload_len(message.payload)};
    // NFQA_CAP_LEN is only present if the packet was cut off.
    message.packet.length = std::max(message.packet.length, message.packet.bytes.size());
  }
  return message;
}

/// Binds and configures the queue. Returns the ids of packets that the kernel has handed over ahead
/// of its acknowledgement.
Result<std::vector<std::uint32_t>> configure(const Fd& fd, std::uint16_t number,
                                             const QueueSize& size_wanted) {
  std::vector<char> buffer(std::max<std::size_t>(8192, size_wanted.copied + kAttributes));
  nlmsghdr* header = nfq_nlmsg_put(buffer.data(), NFQNL_MSG_CONFIG, number);
  header->nlmsg_flags |= NLM_F_ACK;
  nfq_nlmsg_cfg_put_cmd(header, AF_UNSPEC, NFQNL_CFG_CMD_BIND);
  nfq_nlmsg_cfg_put_params(header, NFQNL_COPY_PACKET, static_cast<int>(size_wanted.copied));
  nfq_nlmsg_cfg_put_qmaxlen(header, size_wanted.length);
  mnl_attr_put_u32(header, NFQA_CFG_FLAGS, htonl(NFQA_CFG_F_GSO));
  mnl_attr_put_u32(header, NFQA_CFG_MASK, htonl(NFQA_CFG_F_GSO | NFQA_CFG_F_FAIL_OPEN));
  const std::string what = "cannot bind NFQUEUE " + std::to_string(number);
  std::vector<std::uint32_t> early;
  const auto bound = netlink::ask(
      fd, header, buffer, what.c_str(), [](const nlmsghdr* /*answer*/) {},
      [&early](const nlmsghdr* packet) {
        const bool is_packet = packet->nlmsg_type == (NFNL_SUBSYS_QUEUE << 8U | NFQNL_MSG_PACKET);
        const Message read = is_packet ? read_message(packet) : Message{};
        if (read.header != nullptr) {
          early.push_back(read.packet.id);
        }
      });
  const int error = bound ? 0 : bound.error().code;
  // EPERM means that another socket owns the queue: the kernel checks the owner first. It cannot
  // mean that CAP_NET_ADMIN is missing, as the socket could not have been set up without it.
  if (error == EBUSY || error == EPERM) {
    return fail("NFQUEUE " + std::to_string(number) + " is in use by another program",
                "find it in /proc/net/netfilter/nfnetlink_queue (second column: netlink port id)");
  }
  return bound ? Result<std::vector<std::uint32_t>>(std::move(early))
               : tl::unexpected(bound.error());
}

Result<Fd> open_queue_socket(std::uint32_t length) {
  auto fd = netlink::open(NETLINK_NETFILTER, "nfnetlink_queue", SOCK_NONBLOCK);
  if (!fd) {
    return fd;
  }
  // NETLINK_NO_ENOBUFS: a full buffer only drops the packets that do not fit. Without it, the
  // kernel delivers nothing more until the whole buffer was read.
  const int on = 1;
  const auto size =
      static_cast<int>(std::min<std::uint64_t>(std::uint64_t{length} * 2048U, kMaxReceiveBuffer));
  if (::setsockopt(fd->get(), SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on) != 0 ||
      ::setsockopt(fd->get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on) != 0 ||
      ::setsockopt(fd->get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0 ||
      ::setsockopt(fd->get(), SOL_SOCKET, SO_SNDBUFFORCE, &kSendBuffer, sizeof kSendBuffer) != 0) {
    return fail_errno("cannot configure the netlink socket to nfnetlink_queue");
  }
  return fd;
}

}  // namespace

struct Queue::State {
  State(Fd socket_, std::optional<QueueCounters> counters_, std::uint16_t number_,
        const QueueSize& size)
      : socket(std::move(socket_)),
        counters(std::move(counters_)),
        number(number_),
        batch(std::min(size.batch, kBatch)),
        message(size.copied + kAttributes),
        buffer(std::make_unique_for_overwrite<char[]>(batch * message)) {
    for (std::size_t i = 0; i < batch; i++) {
      parts.at(i) = {buffer.get() + i * message, message};
      messages.at(i).msg_hdr.msg_iov = &parts.at(i);
      messages.at(i).msg_hdr.msg_iovlen = 1;
    }
  }

  void read(const mmsghdr& received, const char* bytes);
  nlmsghdr* begin(std::uint32_t id, int verdict, std::size_t payload);
  void end(const nlmsghdr* header) { used += NLMSG_ALIGN(std::size_t{header->nlmsg_len}); }
  void drop(std::uint32_t id) { end(begin(id, NF_DROP, 0)); }
  void flush();
  bool send(const void* bytes, std::size_t size) const;
  [[nodiscard]] std::uint64_t dropped() const;

  Fd socket;
  std::optional<QueueCounters> counters;
  std::uint16_t number = 0;
  std::size_t batch;
  std::size_t message;
  std::unique_ptr<char[]> buffer;
  std::array<iovec, kBatch> parts{};
  std::array<mmsghdr, kBatch> messages{};
  std::array<QueuedPacket, kBatch> packets;
  std::size_t count = 0;
  std::vector<char> verdicts = std::vector<char>(kVerdicts);
  std::size_t used = 0;
  std::uint64_t lost = 0;
};

/// Reads a datagram, which has one netlink message. Error messages are ignored: they answer
/// verdicts on packets that no longer wait.
void Queue::State::read(const mmsghdr& received, const char* bytes) {
  const auto* header = reinterpret_cast<const nlmsghdr*>(bytes);
  const bool whole = mnl_nlmsg_ok(header, static_cast<int>(received.msg_len));
  if (whole && header->nlmsg_type == NLMSG_ERROR) {
    return;
  }
  if (!whole || (received.msg_hdr.msg_flags & MSG_TRUNC) != 0 ||
      header->nlmsg_type != (NFNL_SUBSYS_QUEUE << 8U | NFQNL_MSG_PACKET) ||
      mnl_nlmsg_get_payload_len(header) < sizeof(nfgenmsg)) {
    lost++;
    return;
  }
  const Message read = read_message(header);
  if (read.header != nullptr && read.payload != nullptr) {
    packets.at(count++) = read.packet;
    return;
  }
  lost++;
  if (read.header != nullptr) {
    drop(read.packet.id);
  }
}

nlmsghdr* Queue::State::begin(std::uint32_t id, int verdict, std::size_t payload) {
  if (used + kVerdict + payload > verdicts.size()) {
    flush();
  }
  nlmsghdr* header = nfq_nlmsg_put(verdicts.data() + used, NFQNL_MSG_VERDICT, number);
  nfq_nlmsg_verdict_put(header, static_cast<int>(id), verdict);
  return header;
}

void Queue::State::flush() {
  if (used > 0 && !send(verdicts.data(), used)) {
    // The kernel had no memory for all of them at once: send each verdict on its own. A packet
    // without a verdict would wait forever, and enough of them would fill the queue.
    auto left = static_cast<int>(used);
    for (auto* header = reinterpret_cast<nlmsghdr*>(verdicts.data()); mnl_nlmsg_ok(header, left);
         header = mnl_nlmsg_next(header, &left)) {
      lost += send(header, header->nlmsg_len) ? 0U : 1U;
    }
  }
  used = 0;
}

bool Queue::State::send(const void* bytes, std::size_t size) const {
  ssize_t sent = -1;
  do {
    sent = ::send(socket.get(), bytes, size, 0);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

std::uint64_t Queue::State::dropped() const {
  const auto all = counters ? counters->read() : std::vector<QueueCounter>();
  const auto own = std::ranges::find(all, number, &QueueCounter::number);
  return own == all.end() ? 0 : own->dropped;
}

Queue::Queue(std::unique_ptr<State> state) : state_(std::move(state)) {}
Queue::Queue(Queue&&) noexcept = default;
Queue& Queue::operator=(Queue&&) noexcept = default;
Queue::~Queue() = default;

Result<Queue> Queue::bind(std::uint16_t number, const QueueSize& size) {
  auto socket = open_queue_socket(size.length);
  if (!socket) {
    return tl::unexpected(socket.error());
  }
  const auto early = configure(*socket, number, size);
  if (!early) {
    return tl::unexpected(early.error());
  }
  // The file is not readable if another user namespace owns the network namespace.
  auto counters = QueueCounters::open();
  auto state = std::make_unique<State>(
      std::move(*socket),
      counters ? std::optional<QueueCounters>(std::move(*counters)) : std::nullopt, number, size);
  // Their owners send them again. Without a verdict they would take up the queue.
  for (const std::uint32_t id : *early) {
    state->drop(id);
  }
  state->flush();
  state->lost += early->size();
  return Queue(std::move(state));
}

int Queue::fd() const {
  return state_->socket.get();
}

std::span<const QueuedPacket> Queue::receive() {
  State& state = *state_;
  state.count = 0;
  while (state.count == 0) {
    const int received = ::recvmmsg(state.socket.get(), state.messages.data(),
                                    static_cast<unsigned>(state.batch), MSG_DONTWAIT, nullptr);
    if (received < 0 && errno == EINTR) {
      continue;
    }
    if (received < 0 && errno == ENOBUFS) {
      state.lost++;
      continue;
    }
    if (received <= 0) {
      break;
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(received); i++) {
      state.read(state.messages.at(i), state.buffer.get() + i * state.message);
    }
  }
  return std::span(state.packets).first(state.count);
}

bool Queue::waits() const {
  pollfd readable{.fd = fd(), .events = POLLIN, .revents = 0};
  return ::poll(&readable, 1, 0) > 0;
}

void Queue::accept(std::uint32_t id, std::uint32_t priority) {
  nlmsghdr* header = state_->begin(id, NF_ACCEPT, 0);
  mnl_attr_put_u32(header, NFQA_PRIORITY, htonl(priority));
  state_->end(header);
}

void Queue::accept(std::uint32_t id, std::uint32_t priority,
                   std::span<const std::uint8_t> changed) {
  if (changed.size() > kMaxChanged) {
    drop(id);
    return;
  }
  nlmsghdr* header = state_->begin(id, NF_ACCEPT, changed.size());
  mnl_attr_put_u32(header, NFQA_PRIORITY, htonl(priority));
  mnl_attr_put(header, NFQA_PAYLOAD, changed.size(), changed.data());
  state_->end(header);
}

void Queue::drop(std::uint32_t id) {
  state_->drop(id);
}

void Queue::flush() {
  state_->flush();
}

std::uint64_t Queue::lost() const {
  return state_->lost + state_->dropped();
}

}  // namespace trireme::kernel
