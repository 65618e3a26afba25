// SPDX-License-Identifier: Apache-2.0
// DNS names of peers without labels, for networks that are defined by name. The thread that reads
// DNS answers writes them; a handshake reads them if its peer was expected to send tokens but
// offered no proof.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "trireme/policy/address.hpp"

namespace trireme::handshake {

/// Thread-safe. Read once for each connection to such a peer.
class NamedPeers {
 public:
  /// Replaces the names of an address at an enforcement point. An empty list removes the address.
  void set(std::uint32_t point, const policy::Address& address, std::vector<std::string> names);
  void forget_point(std::uint32_t point);
  [[nodiscard]] std::vector<std::string> names(std::uint32_t point,
                                               const policy::Address& address) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::uint32_t, policy::Address>, std::vector<std::string>> names_;
};

}  // namespace trireme::handshake
