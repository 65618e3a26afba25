// SPDX-License-Identifier: Apache-2.0
#include "judge.hpp"

#include <algorithm>

namespace trireme::handshake {

bool contains(const std::vector<policy::Prefix>& networks, const policy::Address& address) {
  return std::ranges::any_of(
      networks, [&](const policy::Prefix& network) { return network.contains(address); });
}

void Judge::set_policy(std::shared_ptr<const policy::Policy> policy) {
  policy_ = std::move(policy);
  index_.emplace(*policy_);
  std::ranges::fill(remembered_, Remembered{});
}

policy::Decision Judge::labeled(const LocalIdentity& local, const RemoteIdentity& remote,
                                bool local_is_client, std::uint16_t port) {
  // Numbers are reused, so the labels are compared as well. An unproved identity has no number and
  // is not cached.
  const std::uint64_t key =
      std::uint64_t{local.number} << 40U ^ std::uint64_t{remote.number} << 16U ^ port;
  Remembered& slot = remembered_[(key * 0x9e3779b97f4a7c15U >> 52U) % kRemembered];
  if (remote.number != 0 && slot.local == local.number && slot.remote == remote.number &&
      slot.port == port && slot.local_is_client == local_is_client && slot.labels == local.hash &&
      slot.remote_labels == remote.hash) {
    return slot.decision;
  }
  const policy::Endpoint here{.kind = policy::Endpoint::Kind::workload,
                              .labels = &local.labels,
                              .workload = local.number,
                              .address = {}};
  const policy::Endpoint there{.kind = policy::Endpoint::Kind::workload,
                               .labels = &remote.labels,
                               .workload = 0,
                               .address = {}};
  const policy::Decision decision = policy::evaluate(
      *policy_, local_is_client ? here : there, local_is_client ? there : here, protocol_, port);
  if (remote.number != 0) {
    slot = {local.number, remote.number, port, local_is_client, local.hash, remote.hash, decision};
  }
  return decision;
}

policy::Decision Judge::unlabeled(const LocalIdentity& local, std::uint32_t point,
                                  const policy::Address& peer, bool local_is_client,
                                  std::uint16_t port) const {
  std::vector<std::size_t> networks;
  if (named_ != nullptr && index_ && !index_->empty()) {
    for (const std::string& name : named_->names(point, peer)) {
      const auto more = index_->match(name);
      networks.insert(networks.end(), more.begin(), more.end());
    }
  }
  const policy::Endpoint here{.kind = policy::Endpoint::Kind::workload,
                              .labels = &local.labels,
                              .workload = local.number,
                              .address = {}};
  const policy::Endpoint there{.kind = policy::Endpoint::Kind::world,
                               .labels = nullptr,
                               .workload = 0,
                               .address = peer,
                               .named = networks};
  return policy::evaluate(*policy_, local_is_client ? here : there, local_is_client ? there : here,
                          protocol_, port);
}

}  // namespace trireme::handshake
