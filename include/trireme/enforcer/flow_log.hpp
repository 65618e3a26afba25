// What the kernel logged about refused, audited and logged flows, told in the operator's words. The ring behind `trirectl flows`.
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
#include "trireme/kernel/packet_log.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::enforcer {

/// One end of a flow, as it was when the packet came.
struct FlowEnd {
  std::optional<policy::LabelSet> labels;  // of a workload
  std::string workload;                    // its name; empty where it has gone, or is none
  std::string entity;                      // "@host" or "@world" where there are no labels
  std::vector<std::string> networks;       // that its address is in, where there are no labels
  std::vector<std::string> names;          // DNS names that its address was learned for
  std::vector<std::size_t> named;          // networks by those names, indices into the policy's
  std::string host;                        // that vouches for the labels; empty: this one
  bool quarantined = false;
  policy::Address address;
};

struct FlowRecord {
  std::chrono::system_clock::time_point time;
  policy::Verdict verdict = policy::Verdict::deny;
  FlowEnd source;
  FlowEnd destination;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;  // of the destination; 0 for ICMP
  std::string rule;        // Rule::text() of the rule that decided; empty where none did
  std::string reason;
  std::string cause;  // handshake::text(Reason) of a handshake; empty: rules in the kernel decided
};

class FlowLog {
 public:
  [[nodiscard]] static Result<FlowLog> open();

  [[nodiscard]] int fd() const { return packets_.fd(); }
  /// Reads what the kernel has logged; each refused (source, destination, protocol, port) comes once in a few seconds.
  [[nodiscard]] std::vector<FlowRecord> read(Enforcer& enforcer, const workload::Registry& registry);
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

  FlowEnd describe(policy::Number number, const policy::Address& address, const workload::Registry& registry,
                   const Enforcer& enforcer) const;
  RefusedEnds refused(Enforcer& enforcer);
  std::optional<RefusedKey> take_ends(const kernel::LoggedPacket& packet, RefusedEnds& refused);

  kernel::PacketLog packets_;
  std::map<RefusedKey, Clock::time_point> told_;
  std::map<policy::Number, Ended> ended_;
  std::deque<policy::Number> ended_order_;  // oldest first
};

}  // namespace trireme::enforcer
