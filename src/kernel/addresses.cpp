// SPDX-License-Identifier: Apache-2.0
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "trireme/kernel/addresses.hpp"

namespace trireme::kernel {
namespace {

constexpr int kTries = 8;  // of a listing that changes while it is read

Result<Fd> open_route_socket(std::uint32_t groups) {
  Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  sockaddr_nl self{};
  self.nl_family = AF_NETLINK;
  self.nl_groups = groups;
  if (!fd.valid() || ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&self), sizeof self) != 0) {
    return fail_errno("cannot open a netlink socket to the addresses");
  }
  return fd;
}

struct Attributes {
  const nlattr* local = nullptr;    // the own address, where the link has a peer's as well
  const nlattr* address = nullptr;  // the own address, or the peer's
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

/// Reads a listing to its end; false where the kernel says that it changed meanwhile.
Result<bool> read_listing(const Fd& fd, std::uint32_t sequence,
                          std::vector<InterfaceAddress>& list) {
  std::array<char, 65536> buffer{};
  bool whole = true;
  while (true) {
    const ssize_t length = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (length < 0 && errno == EINTR) {
      continue;
    }
    if (length < 0) {
      return fail_errno("cannot read the addresses");
    }
    int left = static_cast<int>(length);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); mnl_nlmsg_ok(header, left);
         header = mnl_nlmsg_next(header, &left)) {
      if (header->nlmsg_seq != sequence) {
        continue;
      }
      whole = whole && (header->nlmsg_flags & NLM_F_DUMP_INTR) == 0;
      if (header->nlmsg_type == NLMSG_DONE) {
        return whole;
      }
      if (header->nlmsg_type == NLMSG_ERROR) {
        return fail_errno("cannot list the addresses",
                          -static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(header))->error);
      }
      if (header->nlmsg_type == RTM_NEWADDR &&
          mnl_nlmsg_get_payload_len(header) >= sizeof(ifaddrmsg)) {
        read_address(header, list);
      }
    }
  }
}

}  // namespace

Result<AddressWatch> AddressWatch::open() {
  auto events = open_route_socket(RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR);
  auto requests = open_route_socket(0);
  if (!events || !requests) {
    return tl::unexpected(events ? requests.error() : events.error());
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
  for (int tried = 0; tried < kTries; tried++) {
    request.header.nlmsg_seq = ++sequence_;
    if (::send(requests_.get(), &request, sizeof request, 0) < 0) {
      return fail_errno("cannot ask for the addresses");
    }
    std::vector<InterfaceAddress> list;
    const auto whole = read_listing(requests_, sequence_, list);
    if (!whole) {
      return tl::unexpected(whole.error());
    }
    if (*whole) {
      std::sort(list.begin(), list.end());
      return list;
    }
  }
  return fail("cannot list the addresses: they keep changing");
}

bool AddressWatch::drain() {
  bool changed = false;
  std::array<char, 65536> buffer{};
  while (true) {
    const ssize_t length = ::recv(events_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (length >= 0 || errno == ENOBUFS) {
      changed = true;
    } else if (errno != EINTR) {
      return changed;
    }
  }
}

}  // namespace trireme::kernel
