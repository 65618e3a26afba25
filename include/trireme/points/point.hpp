// SPDX-License-Identifier: Apache-2.0
// One enforcement point: a network namespace with its table, queues and log.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "trireme/base/event.hpp"
#include "trireme/enforcer/enforcer.hpp"
#include "trireme/enforcer/flow_log.hpp"
#include "trireme/kernel/addresses.hpp"
#include "trireme/kernel/conntrack_use.hpp"
#include "trireme/kernel/netns.hpp"
#include "trireme/kernel/queue_counters.hpp"
#include "trireme/points/log_turns.hpp"
#include "trireme/verifier/verifier.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::points {

class AnswerWatch;
class Drift;
class Point;

/// What enforcement points report. `registry` and what the functions use outlive the points.
struct Observers {
  /// Names the ends of flows.
  const workload::Registry& registry;
  /// A flow that was denied or audited, or that a rule logs.
  std::function<void(policy::Flow)> on_flow;
  /// A point's table was rewritten, because another program had changed it or the kernel had
  /// rejected a change.
  std::function<void(Point&)> on_repaired;
  /// Another program has changed any table of this host's own network namespace.
  std::function<void()> on_foreign_change;
  /// A container's point cannot be written and is closed: what was enrolled in that network has to
  /// be quarantined, and enrolled again when it can be.
  std::function<void(const std::shared_ptr<const kernel::Netns>&, const Error&)> on_lost;
};

/// Answers of name servers.
struct AnswerCounts {
  std::uint64_t believed = 0;
  std::uint64_t doubted = 0;
  std::uint64_t lost = 0;
};

class Point {
 public:
  /// Opens what enforces policy, in the present network namespace; changes nothing in the kernel.
  /// `network` is null for the daemon's own namespace. `verifier`, which may be null, and `common`
  /// outlive the point.
  [[nodiscard]] static Result<std::unique_ptr<Point>> open(
      enforcer::Common& common, verifier::Verifier* verifier, const datapath::Layout& layout,
      std::shared_ptr<const kernel::Netns> network, std::shared_ptr<const policy::Policy> policy);
  ~Point();
  Point(const Point&) = delete;
  Point& operator=(const Point&) = delete;

  /// Opens what reports to the observers, in the present network namespace, which is the point's.
  /// All points read their logs in `turns`, which outlives them. `on_addresses` is called when
  /// addresses of the daemon's own namespace have changed. Errors: another program has the log
  /// group or a queue, no netlink socket, the event loop.
  [[nodiscard]] Status watch(sd_event* loop, const Observers& observers, LogTurns& turns,
                             std::function<void()> on_addresses);

  /// Frees the point's queues, before the point is destroyed. A daemon that ends does not call it:
  /// until the process has gone its threads serve all points alike.
  void leave_verifier();

  [[nodiscard]] handshake::PointId id() const { return id_; }
  /// Null: the daemon's own.
  [[nodiscard]] const std::shared_ptr<const kernel::Netns>& network() const { return network_; }
  [[nodiscard]] bool is_host() const { return network_ == nullptr; }
  [[nodiscard]] enforcer::Enforcer& enforcer() const { return *enforcer_; }
  /// Of the daemon's own namespace: null elsewhere.
  [[nodiscard]] kernel::AddressWatch* addresses() const { return addresses_.get(); }

  /// Remembers a workload that has ended for the packets that it still has in the log.
  void remember_ended(const workload::Workload& workload);
  /// What the gate has refused at a socket of this point, as a flow.
  [[nodiscard]] policy::Flow describe(const gate::Refused& refused) const;

  /// Repairs the table if the kernel has rejected a change; at most once a second.
  void catch_up();
  /// Why the last repairs failed, if more than one did in sequence; else empty.
  [[nodiscard]] std::string failure() const;
  /// A line for 'trirectl status' while the table is not as it should be, and for ten minutes
  /// after.
  [[nodiscard]] std::optional<std::string> problem() const;
  [[nodiscard]] std::uint64_t repairs() const;

  /// Times at which the kernel's log messages did not fit.
  [[nodiscard]] std::uint64_t logs_lost() const;
  /// Packets that wait in the verifier's queues.
  [[nodiscard]] std::uint32_t queued() const;
  [[nodiscard]] AnswerCounts answers() const;
  /// Reads how full conntrack is here.
  void read_conntrack();
  /// As it was then; nullopt if the kernel does not report it.
  [[nodiscard]] const std::optional<kernel::ConntrackUse::Count>& conntrack() const {
    return conntrack_;
  }
  /// From nine tenths of its room on, until it has fallen below four fifths.
  [[nodiscard]] bool conntrack_is_full() const { return conntrack_full_; }

 private:
  Point(handshake::PointId id, std::shared_ptr<const kernel::Netns> network,
        verifier::Verifier* verifier);
  [[nodiscard]] Status follow(sd_event* loop, std::function<void()> on_addresses);
  void read_log();
  [[nodiscard]] std::string only_quarantined() const;

  handshake::PointId id_;
  std::shared_ptr<const kernel::Netns> network_;
  verifier::Verifier* verifier_;  // knows this point; null: this kernel has no queues
  std::unique_ptr<enforcer::Enforcer> enforcer_;
  std::unique_ptr<kernel::AddressWatch> addresses_;

  // From watch() on.
  const Observers* observers_ = nullptr;
  LogTurns* turns_ = nullptr;
  std::optional<enforcer::FlowLog> log_;
  std::unique_ptr<Drift> drift_;
  std::unique_ptr<AnswerWatch> answers_;
  std::optional<kernel::QueueCounters> queues_;
  std::optional<kernel::ConntrackUse> conntrack_use_;
  std::optional<kernel::ConntrackUse::Count> conntrack_;
  bool conntrack_full_ = false;
  event::Io logged_;
  event::Io addresses_changed_;
};

}  // namespace trireme::points
