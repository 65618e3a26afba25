#include "trireme/kernel/sockets.hpp"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace trireme::kernel {

namespace {

constexpr std::uint32_t kAllStates = 0xffffffffU;

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
  nlattr attribute;
  inet_diag_bc_op op;
  std::uint64_t cgroup_id;
} __attribute__((packed));

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

}  // namespace

Result<SocketTable> SocketTable::open() {
  Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd.valid()) {
    return fail_errno("cannot open a netlink socket to sock_diag");
  }
  return SocketTable(std::move(fd));
}

Status SocketTable::query(std::uint8_t family, std::uint8_t protocol, std::uint64_t cgroup_id, std::vector<InetSocket>& sockets) {
  Request request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.header.nlmsg_seq = ++sequence_;
  request.body.sdiag_family = family;
  request.body.sdiag_protocol = protocol;
  request.body.idiag_states = kAllStates;
  request.attribute.nla_type = INET_DIAG_REQ_BYTECODE;
  request.attribute.nla_len = sizeof request.attribute + sizeof request.op + sizeof request.cgroup_id;
  // One condition: yes goes to the end of the program (accept), no goes 4 bytes past it (reject).
  request.op.code = INET_DIAG_BC_CGROUP_COND;
  request.op.yes = sizeof request.op + sizeof request.cgroup_id;
  request.op.no = static_cast<std::uint16_t>(request.op.yes + 4);
  request.cgroup_id = cgroup_id;
  if (::send(fd_.get(), &request, sizeof request, 0) < 0) {
    return fail_errno("cannot ask sock_diag");
  }
  std::array<char, 65536> buffer{};
  while (true) {
    const ssize_t length = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (length < 0) {
      return fail_errno("cannot read from sock_diag");
    }
    auto left = static_cast<unsigned int>(length);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_seq != sequence_) {
        continue;
      }
      if (header->nlmsg_type == NLMSG_DONE) {
        return {};
      }
      if (header->nlmsg_type == NLMSG_ERROR) {
        const auto* error = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(header));
        return error->error == -ENOENT ? Status{} : fail_errno("sock_diag refused the question", -error->error);
      }
      const auto* found = static_cast<const inet_diag_msg*>(mnl_nlmsg_get_payload(header));
      sockets.push_back({protocol, address(found->idiag_family, found->id.idiag_src), address(found->idiag_family, found->id.idiag_dst),
                         ntohs(found->id.idiag_sport), ntohs(found->id.idiag_dport)});
    }
  }
}

Result<std::vector<InetSocket>> SocketTable::of_cgroup(std::uint64_t cgroup_id) {
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
