// SPDX-License-Identifier: Apache-2.0
#include "trireme/kernel/sockets.hpp"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "netlink.hpp"

namespace trireme::kernel {

namespace {

/// A TCP state that netinet/tcp.h lacks; linux/tcp.h conflicts with that header.
enum : std::uint8_t { TCP_NEW_SYN_RECV = 12 };

constexpr std::uint32_t kAllStates = 0xffffffffU;
constexpr std::uint32_t kConnections =
    kAllStates & ~(1U << TCP_LISTEN | 1U << TCP_TIME_WAIT | 1U << TCP_CLOSE | 1U << TCP_SYN_RECV |
                   1U << TCP_NEW_SYN_RECV);
constexpr std::uint32_t kListenersToo = (kConnections & ~(1U << TCP_SYN_SENT)) | 1U << TCP_LISTEN;

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
  nlattr attribute;
  inet_diag_bc_op op;
  std::uint64_t cgroup_id;
} __attribute__((packed, aligned(4)));

/// Value of `idiag_timer` of a TIME_WAIT socket, whatever its state (it may be FIN_WAIT2).
constexpr std::uint8_t kTimeWaitTimer = 3;

void write_address(const policy::Address& address, __be32* words) {
  std::memcpy(words, address.bytes.data(), address.size());
}

/// Where `tcpi_bytes_acked` and, behind it, `tcpi_bytes_received` are in the kernel's `tcp_info`
/// (Linux 4.1). The libc's has neither, and linux/tcp.h conflicts with netinet/tcp.h.
constexpr std::size_t kBytesAcked = 120;

std::optional<std::uint64_t> read_bytes(const nlattr* info) {
  std::array<std::uint64_t, 2> counts{};
  if (mnl_attr_get_payload_len(info) < kBytesAcked + sizeof counts) {
    return std::nullopt;
  }
  std::memcpy(counts.data(), static_cast<const char*>(mnl_attr_get_payload(info)) + kBytesAcked,
              sizeof counts);
  return counts[0] + counts[1];
}

/// Callback of mnl_attr_parse(); `data` points to an InetSocket.
int read_attribute(const nlattr* attribute, void* data) {
  auto* socket = static_cast<InetSocket*>(data);
  switch (mnl_attr_get_type(attribute)) {
    case INET_DIAG_CGROUP_ID:
      socket->cgroup_id = mnl_attr_get_u64(attribute);
      break;
    case INET_DIAG_INFO:
      socket->bytes = read_bytes(attribute);
      break;
    default:
      break;
  }
  return MNL_CB_OK;
}

policy::Address address(std::uint8_t family, const __be32* words) {
  policy::Address result;
  constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(words);
  if (family == AF_INET6 && std::memcmp(bytes, kMapped.data(), kMapped.size()) != 0) {
    result.family = policy::Address::Family::v6;
    std::memcpy(result.bytes.data(), bytes, 16);
  } else {
    std::memcpy(result.bytes.data(), family == AF_INET6 ? bytes + kMapped.size() : bytes, 4);
  }
  return result;
}

TcpSocket read_connection(const inet_diag_msg& found) {
  const std::uint8_t state = found.idiag_state;
  if (found.idiag_timer == kTimeWaitTimer || state == TCP_CLOSE || state == TCP_TIME_WAIT) {
    return {};
  }
  const bool is_half = state == TCP_LISTEN || state == TCP_SYN_RECV || state == TCP_NEW_SYN_RECV;
  return {.state = is_half ? TcpState::half_open : TcpState::open,
          .cookie = std::uint64_t{found.id.idiag_cookie[1]} << 32U | found.id.idiag_cookie[0]};
}

}  // namespace

Result<SocketTable> SocketTable::open() {
  auto fd = netlink::open(NETLINK_SOCK_DIAG, "sock_diag");
  if (!fd) {
    return tl::unexpected(fd.error());
  }
  return SocketTable(std::move(*fd));
}

Status SocketTable::query(std::uint8_t family, std::uint8_t protocol,
                          std::optional<std::uint64_t> cgroup_id,
                          std::vector<InetSocket>& sockets) {
  Request request{};
  request.header.nlmsg_len = cgroup_id ? sizeof request : NLMSG_LENGTH(sizeof(inet_diag_req_v2));
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = family;
  request.body.sdiag_protocol = protocol;
  request.body.idiag_states = kAllStates;
  request.attribute.nla_type = INET_DIAG_REQ_BYTECODE;
  request.attribute.nla_len =
      sizeof request.attribute + sizeof request.op + sizeof request.cgroup_id;
  // One condition. `yes` jumps to the end of the program (accept), `no` 4 bytes beyond it (reject).
  request.op.code = INET_DIAG_BC_CGROUP_COND;
  request.op.yes = sizeof request.op + sizeof request.cgroup_id;
  request.op.no = static_cast<std::uint16_t>(request.op.yes + 4);
  request.cgroup_id = cgroup_id.value_or(0);
  return read_list(&request.header, protocol, sockets);
}

/// Sends the query and reads its answer.
Status SocketTable::read_list(nlmsghdr* request, std::uint8_t protocol,
                              std::vector<InetSocket>& sockets) {
  std::array<char, 65536> buffer{};
  const auto answered = netlink::ask(
      fd_, request, buffer, "cannot list sockets with sock_diag", [&](const nlmsghdr* header) {
        const auto* found = static_cast<const inet_diag_msg*>(mnl_nlmsg_get_payload(header));
        InetSocket& socket = sockets.emplace_back(
            InetSocket{.protocol = protocol,
                       .local = address(found->idiag_family, found->id.idiag_src),
                       .remote = address(found->idiag_family, found->id.idiag_dst),
                       .local_port = ntohs(found->id.idiag_sport),
                       .remote_port = ntohs(found->id.idiag_dport),
                       .inode = found->idiag_inode});
        std::ranges::copy(found->id.idiag_cookie, socket.cookie.begin());
        mnl_attr_parse(header, sizeof *found, read_attribute, &socket);
      });
  return answered || answered.error().code == ENOENT ? Status{}
                                                     : Status(tl::unexpected(answered.error()));
}

/// Passes the TCP socket with these endpoints to `on_found`. That there is none is no error.
Status SocketTable::find(const InetSocket& ends, std::uint32_t device,
                         const std::function<void(const inet_diag_msg&)>& on_found) {
  struct {
    nlmsghdr header;
    inet_diag_req_v2 body;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.body.sdiag_family = ends.local.family == policy::Address::Family::v4 ? AF_INET : AF_INET6;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = kAllStates;
  write_address(ends.local, request.body.id.idiag_src);
  write_address(ends.remote, request.body.id.idiag_dst);
  request.body.id.idiag_sport = htons(ends.local_port);
  request.body.id.idiag_dport = htons(ends.remote_port);
  request.body.id.idiag_if = device;
  std::ranges::fill(request.body.id.idiag_cookie, INET_DIAG_NOCOOKIE);
  std::array<char, 8192> buffer{};
  const auto answered =
      netlink::ask(fd_, &request.header, buffer, "cannot find a socket with sock_diag",
                   [&on_found](const nlmsghdr* header) {
                     on_found(*static_cast<const inet_diag_msg*>(mnl_nlmsg_get_payload(header)));
                   });
  return answered || answered.error().code == ENOENT ? Status{}
                                                     : Status(tl::unexpected(answered.error()));
}

Result<TcpSocket> SocketTable::find_connection(const InetSocket& ends, std::uint32_t device) {
  TcpSocket socket;
  const Status asked = find(
      ends, device, [&socket](const inet_diag_msg& found) { socket = read_connection(found); });
  if (!asked) {
    return tl::unexpected(asked.error());
  }
  return socket;
}

Result<std::optional<std::uint32_t>> SocketTable::owner_of(const InetSocket& ends) {
  std::optional<std::uint32_t> owner;
  const Status asked = find(ends, 0, [&owner](const inet_diag_msg& found) {
    // A TIME_WAIT socket has no inode either.
    if (found.idiag_inode != 0) {
      owner = found.idiag_uid;
    }
  });
  if (!asked) {
    return tl::unexpected(asked.error());
  }
  return owner;
}

Result<std::vector<InetSocket>> SocketTable::connections() {
  return list_tcp(kConnections);
}

Result<std::vector<InetSocket>> SocketTable::connections_and_listeners() {
  return list_tcp(kListenersToo);
}

Result<std::vector<InetSocket>> SocketTable::connections_with_bytes() {
  return list_tcp(kListenersToo, 1U << (INET_DIAG_INFO - 1U));
}

Result<std::vector<InetSocket>> SocketTable::list_tcp(std::uint32_t states,
                                                      std::uint8_t extensions) {
  std::vector<InetSocket> sockets;
  for (const std::uint8_t family : {std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}}) {
    struct {
      nlmsghdr header;
      inet_diag_req_v2 body;
    } request{};
    request.header.nlmsg_len = sizeof request;
    request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.body.sdiag_family = family;
    request.body.sdiag_protocol = IPPROTO_TCP;
    request.body.idiag_ext = extensions;
    request.body.idiag_states = states;
    if (Status read = read_list(&request.header, IPPROTO_TCP, sockets); !read) {
      return tl::unexpected(read.error());
    }
  }
  return sockets;
}

Status SocketTable::destroy(const InetSocket& connection) {
  // The kernel finds the connection of an IPv4-mapped socket as an IPv4 one.
  struct {
    nlmsghdr header;
    inet_diag_req_v2 body;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DESTROY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  request.body.sdiag_family =
      connection.local.family == policy::Address::Family::v4 ? AF_INET : AF_INET6;
  request.body.sdiag_protocol = connection.protocol;
  request.body.idiag_states = kConnections;
  write_address(connection.local, request.body.id.idiag_src);
  write_address(connection.remote, request.body.id.idiag_dst);
  request.body.id.idiag_sport = htons(connection.local_port);
  request.body.id.idiag_dport = htons(connection.remote_port);
  std::ranges::copy(connection.cookie, request.body.id.idiag_cookie);
  const Status ended = netlink::confirm(fd_, &request.header, "cannot end a connection");
  return ended || ended.error().code == ENOENT ? Status{} : ended;
}

Result<std::vector<InetSocket>> SocketTable::datagram_sockets() {
  std::vector<InetSocket> sockets;
  for (const std::uint8_t family : {std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}}) {
    if (Status read = query(family, IPPROTO_UDP, std::nullopt, sockets); !read) {
      return tl::unexpected(read.error());
    }
  }
  return sockets;
}

Result<std::vector<InetSocket>> SocketTable::of_cgroup(std::uint64_t cgroup_id) {
  return list(cgroup_id);
}

/// For each query the kernel walks all sockets, so one query is made for several cgroups.
Result<std::vector<InetSocket>> SocketTable::of_cgroups(
    const std::unordered_set<std::uint64_t>& cgroup_ids) {
  if (cgroup_ids.size() == 1) {
    return list(*cgroup_ids.begin());
  }
  auto sockets = cgroup_ids.empty() ? Result<std::vector<InetSocket>>({}) : list(std::nullopt);
  if (sockets) {
    std::erase_if(*sockets, [&cgroup_ids](const InetSocket& socket) {
      return !cgroup_ids.contains(socket.cgroup_id);
    });
  }
  return sockets;
}

Result<std::vector<InetSocket>> SocketTable::list(std::optional<std::uint64_t> cgroup_id) {
  std::vector<InetSocket> sockets;
  for (const std::uint8_t family : {std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}}) {
    for (const std::uint8_t protocol : {std::uint8_t{IPPROTO_TCP}, std::uint8_t{IPPROTO_UDP}}) {
      const Status status = query(family, protocol, cgroup_id, sockets);
      if (!status) {
        return tl::unexpected(status.error());
      }
    }
  }
  return sockets;
}

}  // namespace trireme::kernel
