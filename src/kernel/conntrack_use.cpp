// SPDX-License-Identifier: Apache-2.0
#include "trireme/kernel/conntrack_use.hpp"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <sys/socket.h>
// These kernel headers must come after the headers of libc.
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include <array>
#include <optional>

#include "netlink.hpp"

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

}  // namespace

Result<ConntrackUse> ConntrackUse::open() {
  auto fd = netlink::open(NETLINK_NETFILTER, "conntrack");
  if (!fd) {
    return tl::unexpected(fd.error());
  }
  return ConntrackUse(std::move(*fd));
}

Result<ConntrackUse::Count> ConntrackUse::read() {
  std::array<char, 8192> buffer{};
  nlmsghdr* header = mnl_nlmsg_put_header(buffer.data());
  header->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8U | IPCTNL_MSG_CT_GET_STATS;
  header->nlmsg_flags = NLM_F_REQUEST;
  auto* generic = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(nfgenmsg)));
  generic->nfgen_family = AF_UNSPEC;
  generic->version = NFNETLINK_V0;
  Counts counts;
  const auto answered =
      netlink::ask(fd_, header, buffer, "cannot read the size of the conntrack table",
                   [&counts](const nlmsghdr* message) {
                     mnl_attr_parse(message, sizeof(nfgenmsg), on_count, &counts);
                   });
  if (!answered) {
    return tl::unexpected(answered.error());
  }
  if (!counts.entries || !counts.most) {
    return fail("the kernel does not report the size of the conntrack table",
                "Linux 4.18 or later is required");
  }
  return Count{*counts.entries, *counts.most};
}

}  // namespace trireme::kernel
