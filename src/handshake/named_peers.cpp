// SPDX-License-Identifier: Apache-2.0
#include "trireme/handshake/named_peers.hpp"

namespace trireme::handshake {

void NamedPeers::set(std::uint32_t point, const policy::Address& address,
                     std::vector<std::string> names) {
  const std::scoped_lock lock(mutex_);
  if (names.empty()) {
    names_.erase({point, address});
  } else {
    names_[{point, address}] = std::move(names);
  }
}

void NamedPeers::forget_point(std::uint32_t point) {
  const std::scoped_lock lock(mutex_);
  names_.erase(names_.lower_bound({point, {}}), names_.lower_bound({point + 1, {}}));
}

std::vector<std::string> NamedPeers::names(std::uint32_t point,
                                           const policy::Address& address) const {
  const std::scoped_lock lock(mutex_);
  const auto known = names_.find({point, address});
  return known == names_.end() ? std::vector<std::string>() : known->second;
}

}  // namespace trireme::handshake
