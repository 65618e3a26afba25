// SPDX-License-Identifier: Apache-2.0
#include "socket_owners.hpp"

#include "trireme/docker/running.hpp"
#include "trireme/systemd/unit_rule.hpp"

namespace trireme::daemon {
namespace {

/// The cgroup of the container or unit that this cgroup belongs to; empty if it belongs to none.
std::string candidate(const std::string& path) {
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (docker::is_container_cgroup(part.substr(part.rfind('/') + 1))) {
      return part;
    }
    if (end == std::string::npos) {
      return systemd::cgroup_of_unit(path);
    }
  }
}

}  // namespace

SocketOwners::SocketOwners(const kernel::CgroupTree& tree, enforcer::LocalPolicy::Owners numbers,
                           bool with_cgroups)
    : numbers_(std::move(numbers)), with_cgroups_(with_cgroups) {
  if (const auto top = tree.id("/")) {
    paths_.emplace(*top, "");
  }
  for (std::string& path : tree.all()) {
    if (const auto id = tree.id(path)) {
      paths_.emplace(*id, std::move(path));
    }
  }
}

std::optional<std::size_t> SocketOwners::find(std::uint64_t cgroup) {
  if (cgroup == 0) {
    return std::nullopt;
  }
  if (const auto known = by_cgroup_.find(cgroup); known != by_cgroup_.end()) {
    return known->second;
  }
  const auto number = numbers_.find(cgroup);
  const auto path = paths_.find(cgroup);
  std::optional<std::size_t> owner;
  if (number != numbers_.end() || path != paths_.end()) {
    Owner made;
    made.number = number == numbers_.end() ? abi::kHost : number->second;
    if (with_cgroups_ && made.number < abi::kFirstNumber && path != paths_.end()) {
      made.cgroup = candidate(path->second);
    }
    owner = owners_.size();
    owners_.push_back(std::move(made));
  }
  by_cgroup_[cgroup] = owner;
  return owner;
}

void SocketOwners::note_datagram_sockets(const std::vector<kernel::InetSocket>& sockets,
                                         std::uint64_t network) {
  for (const kernel::InetSocket& socket : sockets) {
    const auto owner = find(socket.cgroup_id);
    const auto [known, is_new] =
        datagrams_.try_emplace({network, socket.local, socket.local_port}, owner);
    if (!is_new && known->second != owner) {
      known->second = std::nullopt;
    }
  }
}

const SocketOwners::Owner* SocketOwners::of_datagrams(std::uint64_t network,
                                                      const policy::Address& address,
                                                      std::uint16_t port) const {
  for (const policy::Address& local : policy::bound_addresses(address)) {
    const auto found = datagrams_.find({network, local, port});
    if (found != datagrams_.end()) {
      return found->second ? &owners_[*found->second] : nullptr;
    }
  }
  return nullptr;
}

}  // namespace trireme::daemon
