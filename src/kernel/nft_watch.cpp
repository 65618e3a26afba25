// SPDX-License-Identifier: Apache-2.0
#include "trireme/kernel/nft_watch.hpp"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/filter.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "netlink.hpp"

namespace trireme::kernel {

namespace {

constexpr const char* kUnknownProgram = "another program";

/// Drops the notifications of this process' own transactions before they can fill the socket's
/// buffer.
Status ignore_port(int fd, std::uint32_t port) {
  std::array<sock_filter, 4> code = {{
      {BPF_LD | BPF_W | BPF_ABS, 0, 0,
       offsetof(nlmsghdr, nlmsg_pid)},  // BPF reads big-endian; the field has host byte order
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, htonl(port)},
      {BPF_RET | BPF_K, 0, 0, 0},
      {BPF_RET | BPF_K, 0, 0, 0xffffffffU},
  }};
  const sock_fprog program{code.size(), code.data()};
  return ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0
             ? Status{}
             : fail_errno("cannot filter nf_tables notifications");
}

std::string text(const nlattr* attribute) {
  const auto* bytes = static_cast<const char*>(mnl_attr_get_payload(attribute));
  return {bytes, ::strnlen(bytes, mnl_attr_get_payload_len(attribute))};
}

struct Wanted {
  std::uint16_t type = 0;
  const nlattr* found = nullptr;
};

const nlattr* attribute(const nlmsghdr* header, std::uint16_t type) {
  Wanted wanted{.type = type};
  const auto look = [](const nlattr* each, void* data) -> int {
    auto& sought = *static_cast<Wanted*>(data);
    sought.found = mnl_attr_get_type(each) == sought.type ? each : sought.found;
    return MNL_CB_OK;
  };
  mnl_attr_parse(header, sizeof(nfgenmsg), look, &wanted);
  return wanted.found;
}

/// True if the notification is about `table` or a chain, rule, set or element of it. All of these
/// have the name of the table in the attribute with the number of NFTA_TABLE_NAME.
bool touches(const nlmsghdr* header, const std::string& table) {
  const auto* generic = static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(header));
  const nlattr* name = attribute(header, NFTA_TABLE_NAME);
  return generic->nfgen_family == NFPROTO_INET && name != nullptr && text(name) == table;
}

/// The program that made the transaction. `header` is its NEWGEN message, which ends a transaction.
std::string author(const nlmsghdr* header) {
  const nlattr* name = attribute(header, NFTA_GEN_PROC_NAME);
  const nlattr* pid = attribute(header, NFTA_GEN_PROC_PID);
  if (name == nullptr || pid == nullptr || mnl_attr_get_payload_len(pid) < sizeof(std::uint32_t)) {
    return kUnknownProgram;
  }
  return text(name) + " (pid " + std::to_string(ntohl(mnl_attr_get_u32(pid))) + ")";
}

}  // namespace

Result<NftWatch> NftWatch::open(std::string table, std::uint32_t own_port) {
  auto fd = netlink::open(NETLINK_NETFILTER, "nf_tables notifications");
  if (!fd) {
    return tl::unexpected(fd.error());
  }
  if (Status filtered = ignore_port(fd->get(), own_port); !filtered) {
    return tl::unexpected(filtered.error());
  }
  const int size = 1 << 22;
  (void)::setsockopt(fd->get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  const int group = NFNLGRP_NFTABLES;
  if (::setsockopt(fd->get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) {
    return fail_errno("cannot subscribe to nf_tables notifications");
  }
  return NftWatch(std::move(*fd), std::move(table));
}

NftWatch::News NftWatch::drain() {
  News news;
  std::array<char, 65536> buffer{};
  bool touched = false;  // by the transaction whose notifications are being read
  const auto read = [&](const nlmsghdr* header) {
    if (header->nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8U | NFT_MSG_NEWGEN)) {
      news.who = touched ? author(header) : news.who;
      touched = false;
    } else if (header->nlmsg_type >> 8U == NFNL_SUBSYS_NFTABLES &&
               mnl_nlmsg_get_payload_len(header) >= sizeof(nfgenmsg)) {
      touched = touched || touches(header, table_);
    }
  };
  while (true) {
    const auto received = netlink::receive(fd_, buffer, netlink::Wait::no, read);
    if (!received || *received == netlink::Received::nothing) {
      if (touched && !news.who) {
        news.who = kUnknownProgram;
      }
      return news;
    }
    news.any = true;
    if (*received == netlink::Received::overrun) {
      news.who = news.who.value_or(kUnknownProgram);
    }
  }
}

}  // namespace trireme::kernel
