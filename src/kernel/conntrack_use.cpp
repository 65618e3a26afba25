// SPDX-License-Identifier: Apache-2.0
#include "trireme/kernel/conntrack_use.hpp"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <sys/socket.h>
// The kernel's headers define what the others have not.
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include <array>
#include <optional>

namespace trireme::kernel {
namespace {

struct Counts {
  std::optional<std::uint32_t> entries;
  std::optional<std::uint32_t> most;
};

int on_count(const nlattr* attribute, void* data) {
  auto& counts = *static_cast<Counts*>(data);
  if (mnl_attr_validate(attribute, MNL_TYPE_U32) < 0) {
    return MNL_CB_OK;
  }
  const std::uint32_t value = ntohl(mnl_attr_get_u32(attribute));
  if (mnl_attr_get_type(attribute) == CTA_STATS_GLOBAL_ENTRIES) {
    counts.entries = value;
  } else if (mnl_attr_get_type(attribute) == CTA_STATS_GLOBAL_MAX_ENTRIES) {
    counts.most = value;
  }
  return MNL_CB_OK;
}

int on_counts(const nlmsghdr* header, void* data) {
  return mnl_attr_parse(header, sizeof(nfgenmsg), on_count, data) < 0 ? MNL_CB_ERROR : MNL_CB_STOP;
}

}  // namespace

Result<ConntrackUse> ConntrackUse::open() {
  Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (!fd.valid()) {
    return fail_errno("cannot open a netlink socket to conntrack");
  }
  return ConntrackUse(std::move(fd));
}

Result<ConntrackUse::Count> ConntrackUse::read() {
  std::array<char, 4096> buffer{};
  nlmsghdr* header = mnl_nlmsg_put_header(buffer.data());
  header->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8U | IPCTNL_MSG_CT_GET_STATS;
  header->nlmsg_flags = NLM_F_REQUEST;
  auto* generic = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(nfgenmsg)));
  generic->nfgen_family = AF_UNSPEC;
  generic->version = NFNETLINK_V0;
  if (::send(fd_.get(), header, header->nlmsg_len, 0) < 0) {
    return fail_errno("cannot ask conntrack for its size");
  }
  const ssize_t length = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
  Counts counts;
  if (length < 0 ||
      mnl_cb_run(buffer.data(), static_cast<std::size_t>(length), 0, 0, on_counts, &counts) < 0) {
    return fail_errno("cannot read conntrack's size");
  }
  if (!counts.entries || !counts.most) {
    return fail("the kernel does not tell how full conntrack is");
  }
  return Count{*counts.entries, *counts.most};
}

}  // namespace trireme::kernel
