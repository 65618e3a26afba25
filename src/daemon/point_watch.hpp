// SPDX-License-Identifier: Apache-2.0
// What the event loop follows at one enforcement point: changes of its table by others, logged
// packets, its addresses, answers of name servers.
#pragma once

#include "answer_watch.hpp"
#include "drift.hpp"
#include "flow_feed.hpp"
#include "trireme/base/event.hpp"
#include "trireme/enforcer/flow_log.hpp"
#include "trireme/enforcer/points.hpp"
#include "trireme/kernel/conntrack_use.hpp"
#include "trireme/kernel/queue_counters.hpp"

namespace trireme::daemon {

class PointWatch {
 public:
  /// Opens its sockets in the present network namespace, which is the point's. All references
  /// outlive this object. Errors: another program has the log group, no netlink, the event loop.
  [[nodiscard]] static Result<std::unique_ptr<PointWatch>> open(
      sd_event* loop, enforcer::Points& points, enforcer::Point& point, FlowFeed& feed,
      const workload::Registry& registry, Drift::Handlers handlers);
  PointWatch(const PointWatch&) = delete;
  PointWatch& operator=(const PointWatch&) = delete;

  [[nodiscard]] enforcer::Point& point() { return point_; }
  [[nodiscard]] Drift& drift() { return *drift_; }
  /// Null where this kernel has no queues.
  [[nodiscard]] const AnswerWatch* answers() const { return answers_.get(); }
  [[nodiscard]] const enforcer::FlowLog& log() const { return log_; }
  void ended(const workload::Workload& workload) { log_.ended(workload); }
  /// Times at which the kernel's log messages did not fit.
  [[nodiscard]] std::uint64_t lost() const { return log_.lost(); }
  /// Packets that wait in the verifier's queues.
  [[nodiscard]] std::uint32_t queued() const;
  /// Reads how full conntrack is here.
  void look_at_conntrack();
  /// As it was then; nullopt where the kernel does not tell.
  [[nodiscard]] const std::optional<kernel::ConntrackUse::Count>& conntrack() const {
    return conntrack_;
  }
  /// From nine tenths of its room on, until it has fallen below four fifths.
  [[nodiscard]] bool conntrack_is_full() const { return conntrack_full_; }

 private:
  PointWatch(enforcer::FlowLog log, enforcer::Points& points, enforcer::Point& point,
             FlowFeed& feed, const workload::Registry& registry)
      : log_(std::move(log)), points_(points), point_(point), feed_(feed), registry_(registry) {}
  [[nodiscard]] Status follow(sd_event* loop);
  void read_log();
  void look_at_addresses();

  std::unique_ptr<Drift> drift_;
  std::unique_ptr<AnswerWatch> answers_;
  enforcer::FlowLog log_;
  std::optional<kernel::QueueCounters> queues_;  // nullopt where this kernel has none
  std::optional<kernel::ConntrackUse> conntrack_use_;
  std::optional<kernel::ConntrackUse::Count> conntrack_;
  bool conntrack_full_ = false;
  enforcer::Points& points_;
  enforcer::Point& point_;
  FlowFeed& feed_;
  const workload::Registry& registry_;
  event::Io logged_;
  event::Timer rested_;
  event::Io addresses_;
};

}  // namespace trireme::daemon
