// SPDX-License-Identifier: Apache-2.0
// A port of the host that a container engine forwards to a port of a container.
#pragma once

#include <compare>
#include <cstdint>

namespace trireme::policy {

struct PublishedPort {
  std::uint8_t protocol = 0;  // IANA number: TCP or UDP
  std::uint16_t port = 0;     // of the container
  std::uint16_t host_port = 0;
  auto operator<=>(const PublishedPort&) const = default;
};

}  // namespace trireme::policy
