// SPDX-License-Identifier: Apache-2.0
// Peers without labels that are in networks by a DNS name: written where answers of name servers
// are heard, asked where a peer that was expected to speak tokens offered no proof.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "trireme/policy/address.hpp"

namespace trireme::handshake {

/// Thread-safe; asked once for a connection to such a peer.
class NamedPeers {
 public:
  /// All the names that the address has at this enforcement point; none: it has none any more.
  void set(std::uint32_t point, const policy::Address& address, std::vector<std::string> names);
  void forget_point(std::uint32_t point);
  [[nodiscard]] std::vector<std::string> names(std::uint32_t point,
                                               const policy::Address& address) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::uint32_t, policy::Address>, std::vector<std::string>> names_;
};

}  // namespace trireme::handshake
