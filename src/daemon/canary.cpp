// SPDX-License-Identifier: Apache-2.0
#include "canary.hpp"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cstring>

#include "trireme/gate/gate.hpp"

namespace trireme::daemon {
namespace {

struct Datagram {
  std::uint32_t short_part = 0;  // the filter truncates a datagram without a stamp to this
  std::uint32_t unused = 0;
  std::uint64_t count = 0;
};
static_assert(sizeof(Datagram::short_part) == gate::kCanaryWithoutStamp);

/// Sets `address` to the loopback address and port 0. Returns its size in bytes.
socklen_t loopback(int family, sockaddr_storage& address) {
  address = {};
  address.ss_family = static_cast<sa_family_t>(family);
  if (family == AF_INET) {
    reinterpret_cast<sockaddr_in&>(address).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sizeof(sockaddr_in);
  }
  reinterpret_cast<sockaddr_in6&>(address).sin6_addr = in6addr_loopback;
  return sizeof(sockaddr_in6);
}

}  // namespace

Result<std::unique_ptr<Canary>> Canary::create(sd_event* loop, int filter, Problems& problems) {
  std::unique_ptr<Canary> canary(new Canary(problems));
  for (const auto& [probe, family, name] : {std::tuple{canary->probes_.data(), AF_INET, "IPv4"},
                                            {&canary->probes_[1], AF_INET6, "IPv6"}}) {
    auto socket = open(family, filter);
    if (!socket && family == AF_INET6) {
      continue;  // a host without IPv6
    }
    if (!socket) {
      return tl::unexpected(socket.error());
    }
    probe->family = name;
    probe->socket = std::move(*socket);
    Status opened = probe->arrived.open(
        loop, probe->socket.get(), EPOLLIN,
        [&made = *canary, &of = *probe](std::uint32_t /*events*/) { made.take(of); });
    if (!opened) {
      return tl::unexpected(opened.error());
    }
  }
  return canary;
}

/// Opens a socket that is connected to its own address, so that it receives no other datagrams.
Result<Fd> Canary::open(int family, int filter) {
  Fd fd(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_storage address{};
  const socklen_t size = loopback(family, address);
  socklen_t got = size;
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  if (!fd.valid() || ::bind(fd.get(), raw, size) != 0 || ::getsockname(fd.get(), raw, &got) != 0 ||
      ::connect(fd.get(), raw, size) != 0 ||
      ::setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_BPF, &filter, sizeof filter) != 0) {
    return fail_errno("cannot watch the priorities of packets on lo");
  }
  return fd;
}

void Canary::send() {
  for (Probe& probe : probes_) {
    if (!probe.socket.valid()) {
      continue;
    }
    const Datagram datagram{.count = ++probe.last};
    ::send(probe.socket.get(), &datagram, sizeof datagram, 0);
  }
}

void Canary::take(const Probe& probe) {
  Datagram datagram;
  const ssize_t size = ::recv(probe.socket.get(), &datagram, sizeof datagram, 0);
  const bool is_whole = size == sizeof datagram;
  if (size < 0 || (is_whole && datagram.count != probe.last)) {
    return;
  }
  Status outcome;
  if (!is_whole) {
    outcome = fail(
        "workloads refuse local traffic: a rule of another program sets the priority of packets on "
        "lo at PREROUTING or INPUT",
        "find it with 'nft list ruleset | grep priority' and exclude device lo from the rule");
  }
  problems_.note(std::string("packet priorities (") + probe.family + ")", outcome);
}

}  // namespace trireme::daemon
