// SPDX-License-Identifier: Apache-2.0
// Turns what the kernel logs about refused, audited, logged and sampled flows into policy::Flow
// records for `trirectl flows`.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "trireme/enforcer/enforcer.hpp"
#include "trireme/enforcer/refused_ends.hpp"
#include "trireme/gate/gate.hpp"
#include "trireme/kernel/packet_log.hpp"
#include "trireme/policy/flow.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::enforcer {

/// Describes an endpoint that is not a workload, at this enforcement point: the networks that its
/// address is in, by CIDR and by the DNS names that the address is known to have. `other` is the
/// number of the flow's other endpoint.
[[nodiscard]] policy::FlowEnd end_without_labels(policy::Number number,
                                                 const policy::Address& address,
                                                 policy::Number other, const Enforcer& enforcer);

class FlowLog {
 public:
  [[nodiscard]] static Result<FlowLog> open();

  [[nodiscard]] int fd() const { return packets_.fd(); }
  /// Reads what the kernel has logged since the last call. A refusal of the same (source,
  /// destination, protocol, port) is returned once in a few seconds.
  [[nodiscard]] std::vector<policy::Flow> read(Enforcer& enforcer,
                                               const workload::Registry& registry);
  /// Converts a refusal that the gate reported at a socket of this enforcement point.
  [[nodiscard]] policy::Flow tell(const gate::Refused& refused, const workload::Registry& registry,
                                  const Enforcer& enforcer) const;
  /// Remembers the name and labels of a workload that has ended, for packets of it that the kernel
  /// has logged and read() has not read yet, and for its sockets that other processes still have.
  void remember_ended(const workload::Workload& workload);
  [[nodiscard]] std::uint64_t lost() const { return packets_.lost(); }

 private:
  using Clock = std::chrono::steady_clock;

  FlowLog(kernel::PacketLog packets, std::chrono::milliseconds element_life)
      : packets_(std::move(packets)), reported_(element_life) {}
  struct Ended {
    policy::Number number = 0;
    std::uint64_t cgroup = 0;
    std::string name;
    policy::LabelSet labels;
  };

  [[nodiscard]] policy::FlowEnd describe(policy::Number number, const policy::Address& address,
                                         policy::Number other, const workload::Registry& registry,
                                         const Enforcer& enforcer) const;
  void name_owner(policy::FlowEnd& end, std::uint64_t cgroup,
                  const workload::Registry& registry) const;
  RefusedEnds refused(Enforcer& enforcer);
  std::optional<RefusedKey> take_ends(const kernel::LoggedPacket& packet, RefusedEnds& refused,
                                      const workload::Registry& registry, const Enforcer& enforcer);

  kernel::PacketLog packets_;
  ReportedEnds reported_;
  std::map<RefusedKey, ReportedEnds::Time> listed_;  // when each was added, by the last refused()
  std::list<Ended> ended_;                           // oldest first
  std::unordered_map<policy::Number, std::list<Ended>::const_iterator> ended_by_number_;
  std::unordered_map<std::uint64_t, std::list<Ended>::const_iterator> ended_by_cgroup_;
};

}  // namespace trireme::enforcer
