// SPDX-License-Identifier: Apache-2.0
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "netlink.hpp"
#include "trireme/kernel/addresses.hpp"

namespace trireme::kernel {
namespace {

constexpr int kTries = 8;  // attempts if the list changes while it is read

struct Attributes {
  const nlattr* local = nullptr;    // own address; only set if the link has a peer address as well
  const nlattr* address = nullptr;  // own address; the peer's if `local` is set
};

int on_address_attribute(const nlattr* attribute, void* data) {
  auto& found = *static_cast<Attributes*>(data);
  if (mnl_attr_get_type(attribute) == IFA_LOCAL) {
    found.local = attribute;
  } else if (mnl_attr_get_type(attribute) == IFA_ADDRESS) {
    found.address = attribute;
  }
  return MNL_CB_OK;
}

void read_address(const nlmsghdr* header, std::vector<InterfaceAddress>& list) {
  const auto* message = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(header));
  Attributes found;
  mnl_attr_parse(header, sizeof *message, on_address_attribute, &found);
  const nlattr* attribute = found.local != nullptr ? found.local : found.address;
  InterfaceAddress result;
  result.address.family =
      message->ifa_family == AF_INET6 ? policy::Address::Family::v6 : policy::Address::Family::v4;
  if (attribute == nullptr || mnl_attr_get_payload_len(attribute) != result.address.size() ||
      (message->ifa_family != AF_INET && message->ifa_family != AF_INET6)) {
    return;
  }
  std::memcpy(result.address.bytes.data(), mnl_attr_get_payload(attribute), result.address.size());
  result.length = message->ifa_prefixlen;
  result.device = message->ifa_index;
  list.push_back(result);
}

}  // namespace

Result<AddressWatch> AddressWatch::open() {
  auto events = netlink::open(NETLINK_ROUTE, "rtnetlink");
  auto requests = netlink::open(NETLINK_ROUTE, "rtnetlink");
  if (!events || !requests) {
    return tl::unexpected(events ? requests.error() : events.error());
  }
  for (const int group : {RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR}) {
    if (::setsockopt(events->get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) !=
        0) {
      return fail_errno("cannot subscribe to changes of addresses");
    }
  }
  return AddressWatch(std::move(*events), std::move(*requests));
}

Result<std::vector<InterfaceAddress>> AddressWatch::list() {
  struct {
    nlmsghdr header;
    ifaddrmsg body;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_GETADDR;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.ifa_family = AF_UNSPEC;
  std::array<char, 65536> buffer{};
  for (int tried = 0; tried < kTries; tried++) {
    std::vector<InterfaceAddress> list;
    const auto whole = netlink::ask(requests_, &request.header, buffer, "cannot list the addresses",
                                    [&list](const nlmsghdr* header) {
                                      if (header->nlmsg_type == RTM_NEWADDR &&
                                          mnl_nlmsg_get_payload_len(header) >= sizeof(ifaddrmsg)) {
                                        read_address(header, list);
                                      }
                                    });
    if (!whole) {
      return tl::unexpected(whole.error());
    }
    if (*whole) {
      std::sort(list.begin(), list.end());
      return list;
    }
  }
  return fail("cannot list the addresses: they changed during every attempt");
}

bool AddressWatch::drain() {
  bool changed = false;
  std::array<char, 65536> buffer{};
  while (true) {
    const auto received =
        netlink::receive(events_, buffer, netlink::Wait::no, [](const nlmsghdr* /*header*/) {});
    if (!received || *received == netlink::Received::nothing) {
      return changed;
    }
    changed = true;  // after an overrun, perhaps
  }
}

}  // namespace trireme::kernel
