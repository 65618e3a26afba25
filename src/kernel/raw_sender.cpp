// SPDX-License-Identifier: Apache-2.0
#include "trireme/kernel/raw_sender.hpp"

#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstring>

namespace trireme::kernel {
namespace {

/// `level` and `option`: the socket option by which packets bring their own IP header.
Result<Fd> open_raw_socket(int family, int level, int option, std::uint32_t priority) {
  const std::string name = family == AF_INET ? "IPv4" : "IPv6";
  Fd fd(::socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW));
  if (!fd.valid()) {
    return fail_errno("cannot open a raw " + name + " socket");
  }
  // Without the filter, the socket would receive packets of protocol 255 (IPPROTO_RAW).
  std::array<sock_filter, 1> nothing = {{{BPF_RET | BPF_K, 0, 0, 0}}};
  const sock_fprog program{nothing.size(), nothing.data()};
  const int on = 1;
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0 ||
      ::setsockopt(fd.get(), level, option, &on, sizeof on) != 0 ||
      ::setsockopt(fd.get(), SOL_SOCKET, SO_PRIORITY, &priority, sizeof priority) != 0) {
    return fail_errno("cannot set up a raw " + name + " socket");
  }
  return fd;
}

/// Control messages for one sendmsg(2).
class Ancillary {
 public:
  template <typename T>
  void add(int level, int type, const T& value) {
    cmsghdr header{};
    header.cmsg_len = CMSG_LEN(sizeof value);
    header.cmsg_level = level;
    header.cmsg_type = type;
    std::memcpy(buffer_.data() + size_, &header, sizeof header);
    std::memcpy(buffer_.data() + size_ + CMSG_LEN(0), &value, sizeof value);
    size_ += CMSG_SPACE(sizeof value);
  }
  void attach(msghdr& message) {
    message.msg_control = buffer_.data();
    message.msg_controllen = size_;
  }

 private:
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(std::uint32_t)) +
                                        CMSG_SPACE(sizeof(in6_pktinfo))> buffer_{};
  std::size_t size_ = 0;
};

/// `info` has the device and the source. A SO_MARK control message affects routing since Linux 5.5.
template <typename To, typename Info>
Status send_message(const Fd& fd, std::span<const std::uint8_t> packet, To to, int level, int type,
                    const Info& info, std::uint32_t mark) {
  Ancillary ancillary;
  ancillary.add(SOL_SOCKET, SO_MARK, mark);
  ancillary.add(level, type, info);
  iovec part{const_cast<std::uint8_t*>(packet.data()), packet.size()};
  msghdr message{};
  message.msg_name = &to;
  message.msg_namelen = sizeof to;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  ancillary.attach(message);
  const ssize_t sent = ::sendmsg(fd.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent >= 0 ? Status{} : fail_errno("cannot send a packet");
}

constexpr std::size_t kSourceAt4 = 12, kSourceAt6 = 8;  // byte offsets in the IP header

/// With `by_source`, the packet's source address is given for routing: routes can depend on it, and
/// the kernel does not take it from a header that user space brings.
Status send4(const Fd& fd, std::span<const std::uint8_t> packet, const policy::Address& destination,
             std::uint32_t device, std::uint32_t mark, bool by_source) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  std::memcpy(&to.sin_addr, destination.bytes.data(), sizeof to.sin_addr);
  in_pktinfo info{};
  info.ipi_ifindex = static_cast<int>(device);
  if (by_source) {
    std::memcpy(&info.ipi_spec_dst, packet.data() + kSourceAt4, sizeof info.ipi_spec_dst);
  }
  return send_message(fd, packet, to, IPPROTO_IP, IP_PKTINFO, info, mark);
}

Status send6(const Fd& fd, std::span<const std::uint8_t> packet, const policy::Address& destination,
             std::uint32_t device, std::uint32_t mark, bool by_source) {
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  std::memcpy(&to.sin6_addr, destination.bytes.data(), sizeof to.sin6_addr);
  in6_pktinfo info{};
  info.ipi6_ifindex = device;  // also takes the place of sin6_scope_id
  if (by_source) {
    std::memcpy(&info.ipi6_addr, packet.data() + kSourceAt6, sizeof info.ipi6_addr);
  }
  return send_message(fd, packet, to, IPPROTO_IPV6, IPV6_PKTINFO, info, mark);
}

}  // namespace

Result<RawSender> RawSender::open(std::uint32_t priority) {
  auto four = open_raw_socket(AF_INET, IPPROTO_IP, IP_HDRINCL, priority);
  if (!four) {
    return tl::unexpected(four.error());
  }
  auto six = open_raw_socket(AF_INET6, IPPROTO_IPV6, IPV6_HDRINCL, priority);
  return RawSender(std::move(*four), six ? std::move(*six) : Fd(), priority);
}

Status RawSender::set_priority(std::uint32_t priority) {
  if (priority == priority_) {
    return {};
  }
  for (const Fd* fd : {&four_, &six_}) {
    if (fd->valid() &&
        ::setsockopt(fd->get(), SOL_SOCKET, SO_PRIORITY, &priority, sizeof priority) != 0) {
      return fail_errno("cannot set the priority of packets");
    }
  }
  priority_ = priority;
  return {};
}

Status RawSender::send(std::span<const std::uint8_t> packet, const policy::Address& destination,
                       std::uint32_t device, std::uint32_t mark) const {
  const bool is_v4 = destination.family == policy::Address::Family::v4;
  if (!is_v4 && !six_.valid()) {
    return fail("cannot send an IPv6 packet: no raw IPv6 socket (is IPv6 disabled?)");
  }
  const Fd& fd = is_v4 ? four_ : six_;
  const auto send = is_v4 ? send4 : send6;
  // The kernel rejects a source address that this host does not have (of a transparent proxy):
  // retry without it. IPv6 treats the device as a hint if a source is given, so try the device
  // alone first.
  const bool by_source = is_v4 || device == 0;
  const Status sent = send(fd, packet, destination, device, mark, by_source);
  return sent ? sent : send(fd, packet, destination, device, mark, !by_source);
}

}  // namespace trireme::kernel
