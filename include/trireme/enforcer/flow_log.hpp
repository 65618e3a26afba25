// SPDX-License-Identifier: Apache-2.0
// What the kernel logged about refused, audited and logged flows, told in the operator's words. The
// ring behind `trirectl flows`.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "trireme/enforcer/enforcer.hpp"
#include "trireme/gate/gate.hpp"
#include "trireme/kernel/packet_log.hpp"
#include "trireme/policy/flow.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::enforcer {

/// An end that is no workload's, at this enforcement point: which networks its address is in, by
/// addresses and by the names that it was seen to have.
[[nodiscard]] policy::FlowEnd end_without_labels(policy::Number number,
                                                 const policy::Address& address,
                                                 const Enforcer& enforcer);

class FlowLog {
 public:
  [[nodiscard]] static Result<FlowLog> open();

  [[nodiscard]] int fd() const { return packets_.fd(); }
  /// Reads what the kernel has logged; each refused (source, destination, protocol, port) comes
  /// once in a few seconds.
  [[nodiscard]] std::vector<policy::Flow> read(Enforcer& enforcer,
                                               const workload::Registry& registry);
  /// What the gate has refused at a socket of this enforcement point, in the same words.
  [[nodiscard]] policy::Flow tell(const gate::Refused& refused, const workload::Registry& registry,
                                  const Enforcer& enforcer) const;
  /// Whether the rules here have refused the same a moment ago, and read() has told of it.
  [[nodiscard]] bool told(const gate::Refused& refused) const;
  /// Remembers a workload that has ended for the packets that it still has in the log.
  void ended(const workload::Workload& workload);
  [[nodiscard]] std::uint64_t lost() const { return packets_.lost(); }

 private:
  using RefusedKey = std::tuple<policy::Number, policy::Number, std::uint8_t, std::uint16_t>;
  using RefusedEnds = std::unordered_multimap<std::uint32_t, RefusedKey>;  // by protocol and port
  using Clock = std::chrono::steady_clock;

  explicit FlowLog(kernel::PacketLog packets) : packets_(std::move(packets)) {}
  /// Who had a number, as long as it is worth telling.
  struct Ended {
    std::string name;
    policy::LabelSet labels;
  };

  [[nodiscard]] policy::FlowEnd describe(policy::Number number, const policy::Address& address,
                                         const workload::Registry& registry,
                                         const Enforcer& enforcer) const;
  RefusedEnds refused(Enforcer& enforcer);
  std::optional<RefusedKey> take_ends(const kernel::LoggedPacket& packet, RefusedEnds& refused);

  kernel::PacketLog packets_;
  std::map<RefusedKey, Clock::time_point> told_;
  std::map<policy::Number, Ended> ended_;
  std::deque<policy::Number> ended_order_;  // oldest first
};

}  // namespace trireme::enforcer
