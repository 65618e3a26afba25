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
  std::uint32_t short_part = 0;  // what is left of one without a stamp
  std::uint32_t unused = 0;
  std::uint64_t count = 0;
};
static_assert(sizeof(Datagram::short_part) == gate::kCanaryWithoutStamp);

/// lo's address, any port.
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
  for (const auto& [way, family, name] :
       {std::tuple{canary->ways_.data(), AF_INET, "IPv4"}, {&canary->ways_[1], AF_INET6, "IPv6"}}) {
    auto socket = open(family, filter);
    if (!socket && family == AF_INET6) {
      continue;  // a host without IPv6
    }
    if (!socket) {
      return tl::unexpected(socket.error());
    }
    way->family = name;
    way->socket = std::move(*socket);
    Status opened = way->arrived.open(
        loop, way->socket.get(), EPOLLIN,
        [&made = *canary, &of = *way](std::uint32_t /*events*/) { made.take(of); });
    if (!opened) {
      return tl::unexpected(opened.error());
    }
  }
  return canary;
}

/// A socket that is connected to itself: nobody else's datagrams reach it.
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
  for (Way& way : ways_) {
    if (!way.socket.valid()) {
      continue;
    }
    const Datagram datagram{.count = ++way.last};
    ::send(way.socket.get(), &datagram, sizeof datagram, 0);
  }
}

void Canary::take(const Way& way) {
  Datagram datagram;
  const ssize_t size = ::recv(way.socket.get(), &datagram, sizeof datagram, 0);
  const bool is_whole = size == sizeof datagram;
  if (size < 0 || (is_whole && datagram.count != way.last)) {
    return;
  }
  Status outcome;
  if (!is_whole) {
    outcome = fail(
        "workloads refuse local traffic: a rule of another program sets the priority of packets on "
        "lo at PREROUTING or INPUT",
        "'nft list ruleset | grep priority' shows it; let it match other devices than lo");
  }
  problems_.note(std::string("priorities (") + way.family + ")", outcome);
}

}  // namespace trireme::daemon
