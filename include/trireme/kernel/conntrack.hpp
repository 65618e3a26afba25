// SPDX-License-Identifier: Apache-2.0
// Conntrack entries of a network namespace: list, change label bits, delete. A thin layer over
// libnetfilter_conntrack.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>

#include "trireme/base/result.hpp"
#include "trireme/policy/address.hpp"

struct nf_conntrack;

namespace trireme::kernel {

/// One direction of a flow. Ports are in host byte order, 0 for protocols without ports.
struct FlowTuple {
  policy::Address source;
  policy::Address destination;
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;
  auto operator<=>(const FlowTuple&) const = default;
};

struct TrackedFlow {
  std::uint8_t protocol = 0;  // IANA number
  FlowTuple original;
  FlowTuple reply;  // packets in the other direction; its source is the destination after DNAT
  std::array<std::uint32_t, 4> label{};  // 128 bits; words in the kernel's order, host byte order
  bool ended = false;  // TCP: both ends closed it, or one reset it; the entry stays for a while
  // The other fields that identify the entry to the kernel.
  std::uint16_t zone = 0;
  std::uint8_t icmp_type = 0;  // ICMP and ICMPv6, original direction; id in host byte order
  std::uint8_t icmp_code = 0;
  std::uint16_t icmp_id = 0;
};

class Conntrack {
 public:
  /// Opens conntrack of the current network namespace. Errors: no netlink socket.
  [[nodiscard]] static Result<Conntrack> open();
  Conntrack(Conntrack&&) noexcept;
  Conntrack& operator=(Conntrack&&) noexcept;
  ~Conntrack();

  /// Calls `callback` for every entry, IPv4 and IPv6. The callback must not change entries: collect
  /// them first.
  [[nodiscard]] Status each(const std::function<void(const TrackedFlow&)>& callback);
  /// Reads the entry with this original direction. Returns false and leaves `found` unchanged if
  /// there is none. Errors: any other failure.
  [[nodiscard]] Result<bool> find(std::uint8_t protocol, const FlowTuple& original,
                                  TrackedFlow& found);
  /// The same for what identifies `wanted` to the kernel: its original direction, and for ICMP its
  /// type, code and id.
  [[nodiscard]] Result<bool> find(const TrackedFlow& wanted, TrackedFlow& found);
  /// Clears these bits of the first label word. A missing entry is no error.
  [[nodiscard]] Status clear_label_bits(const TrackedFlow& flow, std::uint32_t bits) {
    return write_label_bits(flow, bits, 0);
  }
  /// Sets these bits of the first label word. A missing entry is no error.
  [[nodiscard]] Status set_label_bits(const TrackedFlow& flow, std::uint32_t bits) {
    return write_label_bits(flow, bits, bits);
  }
  /// Deletes the entry; the next packet of the flow creates a new one. A missing entry is no error.
  [[nodiscard]] Status remove(const TrackedFlow& flow);

 private:
  struct Handle;
  [[nodiscard]] Status write_label_bits(const TrackedFlow& flow, std::uint32_t which,
                                        std::uint32_t bits);
  explicit Conntrack(std::unique_ptr<Handle> handle);
  std::unique_ptr<Handle> handle_;
};

}  // namespace trireme::kernel
