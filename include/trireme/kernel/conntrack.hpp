// SPDX-License-Identifier: Apache-2.0
// Conntrack entries of this network namespace: list, take label bits away, delete. Thin over
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

/// One direction of a flow; ports in host order, 0 for protocols without.
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
  FlowTuple reply;  // what the other end sends; its source is the real destination, after any DNAT
  std::array<std::uint32_t, 4> label{};  // 128 bits, words as the kernel holds them
  bool ended =
      false;  // TCP: both ends have closed it, or one has reset it; the entry stays for a while
  // What else it takes to name the entry to the kernel.
  std::uint16_t zone = 0;
  std::uint8_t icmp_type = 0;  // ICMP and ICMPv6, original direction; id in host order
  std::uint8_t icmp_code = 0;
  std::uint16_t icmp_id = 0;
};

class Conntrack {
 public:
  [[nodiscard]] static Result<Conntrack> open();
  Conntrack(Conntrack&&) noexcept;
  Conntrack& operator=(Conntrack&&) noexcept;
  ~Conntrack();

  /// Every entry, IPv4 and IPv6. The callback must not change entries; collect first.
  [[nodiscard]] Status each(const std::function<void(const TrackedFlow&)>& callback);
  /// The entry whose original direction is this; `found` stays untouched where there is none.
  /// Errors: anything but its absence.
  [[nodiscard]] Result<bool> find(std::uint8_t protocol, const FlowTuple& original,
                                  TrackedFlow& found);
  /// Clears these bits of the first label word. An entry that is gone is fine.
  [[nodiscard]] Status clear_label_bits(const TrackedFlow& flow, std::uint32_t bits) {
    return write_label_bits(flow, bits, 0);
  }
  /// Sets them.
  [[nodiscard]] Status set_label_bits(const TrackedFlow& flow, std::uint32_t bits) {
    return write_label_bits(flow, bits, bits);
  }
  /// Forgets the entry; its next packet makes a new one. An entry that is gone is fine.
  [[nodiscard]] Status remove(const TrackedFlow& flow);

 private:
  struct Handle;
  [[nodiscard]] Status write_label_bits(const TrackedFlow& flow, std::uint32_t which,
                                        std::uint32_t bits);
  explicit Conntrack(std::unique_ptr<Handle> handle);
  std::unique_ptr<Handle> handle_;
};

}  // namespace trireme::kernel
