// SPDX-License-Identifier: Apache-2.0
#include "sockets_here.hpp"

#include <charconv>

#include "trireme/base/file.hpp"
#include "trireme/kernel/addresses.hpp"
#include "trireme/policy/world.hpp"

namespace trireme::daemon {
namespace {

/// Of the calling thread's network namespace, as all of /proc/sys/net.
constexpr const char* kPortRange = "/proc/sys/net/ipv4/ip_local_port_range";

Result<std::set<policy::Address>> addresses_here() {
  auto watch = kernel::AddressWatch::open();
  const auto addresses = watch ? watch->list() : tl::unexpected(watch.error());
  if (!addresses) {
    return tl::unexpected(addresses.error());
  }
  std::set<policy::Address> found;
  for (const kernel::InterfaceAddress& each : *addresses) {
    found.insert(each.address);
  }
  return found;
}

Result<SocketsHere> sockets_here() {
  auto table = kernel::SocketTable::open();
  if (!table) {
    return tl::unexpected(table.error());
  }
  auto tcp = table->connections_and_listeners();
  auto udp = tcp ? table->datagram_sockets() : tl::unexpected(tcp.error());
  auto addresses = udp ? addresses_here() : tl::unexpected(udp.error());
  if (!addresses) {
    return tl::unexpected(addresses.error());
  }
  return SocketsHere{.tcp = std::move(*tcp),
                     .udp = std::move(*udp),
                     .addresses = std::move(*addresses),
                     .ephemeral = ephemeral_ports(read_file(kPortRange).value_or(""))};
}

Result<SocketsHere> only_addresses_here() {
  auto addresses = addresses_here();
  if (!addresses) {
    return tl::unexpected(addresses.error());
  }
  SocketsHere found;
  found.addresses = std::move(*addresses);
  return found;
}

Result<SocketsHere> connections_here() {
  auto table = kernel::SocketTable::open();
  auto tcp = table ? table->connections_and_listeners() : tl::unexpected(table.error());
  if (!tcp) {
    return tl::unexpected(tcp.error());
  }
  auto found = only_addresses_here();
  if (found) {
    found->tcp = std::move(*tcp);
  }
  return found;
}

/// Calls `read` in the network namespace.
Result<SocketsHere> read_in(const std::shared_ptr<const kernel::Netns>& network,
                            Result<SocketsHere> (*read)()) {
  if (network == nullptr) {
    return read();
  }
  Result<SocketsHere> found = SocketsHere();
  const Status entered = network->within([&found, read] { found = read(); });
  return entered ? std::move(found) : tl::unexpected(entered.error());
}

}  // namespace

EphemeralPorts ephemeral_ports(const std::string& text) {
  EphemeralPorts ports;
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, ports.first);
  const char* next = first.ptr;
  while (next != end && (*next == ' ' || *next == '\t')) {
    ++next;
  }
  const auto last = std::from_chars(next, end, ports.last);
  const bool is_range = first.ec == std::errc() && last.ec == std::errc() && ports.first != 0 &&
                        ports.first <= ports.last;
  return is_range ? ports : EphemeralPorts();
}

Result<SocketsHere> sockets_in(const std::shared_ptr<const kernel::Netns>& network) {
  return read_in(network, sockets_here);
}

Result<SocketsHere> connections_in(const std::shared_ptr<const kernel::Netns>& network) {
  return read_in(network, connections_here);
}

Result<SocketsHere> addresses_in(const std::shared_ptr<const kernel::Netns>& network) {
  return read_in(network, only_addresses_here);
}

std::uint64_t inode_of(const std::shared_ptr<const kernel::Netns>& network) {
  return network == nullptr ? 0 : network->inode();
}

policy::LiveSocket live_socket(const kernel::InetSocket& socket, std::uint64_t network,
                               std::size_t owner) {
  return {.network = network,
          .sends = {socket.local, socket.remote, socket.local_port, socket.remote_port},
          .owner = owner};
}

bool is_beside(const policy::LiveConnection& live, const policy::Address& address,
               const AddressesByNetwork& addresses) {
  if (live.client != nullptr && live.server != nullptr) {
    return live.client->network == live.server->network;
  }
  const auto known = addresses.find((live.client != nullptr ? live.client : live.server)->network);
  return address.is_loopback() || (known != addresses.end() && known->second.contains(address));
}

bool is_to_resolver(std::uint64_t network, const policy::Address& destination) {
  return network != 0 && policy::is_resolver(destination);
}

bool is_to_resolver(const policy::LiveConnection& live) {
  return live.client != nullptr &&
         is_to_resolver(live.client->network, live.from_client.destination);
}

std::string kind_of(const policy::SeenFlow& flow, const policy::SeenEnd& end) {
  const bool counts_address = flow.is_unproved && end.address;
  return end.workload + "\n" + end.text() + (counts_address ? "\n" + end.address->text() : "");
}

}  // namespace trireme::daemon
