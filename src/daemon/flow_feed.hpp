// Flows that the kernel logged, to the journal and to `trirectl flows`: the newest are kept, followers hear of each at once.
#pragma once

#include <systemd/sd-event.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trireme/control/server.hpp"
#include "trireme/enforcer/flow_log.hpp"

namespace trireme::daemon {

class FlowFeed {
 public:
  /// All references outlive this object. Errors: another program has the log group, or the kernel has no nfnetlink_log.
  [[nodiscard]] static Result<std::unique_ptr<FlowFeed>> open(sd_event* loop, enforcer::Enforcer& enforcer,
                                                              const workload::Registry& registry);
  ~FlowFeed();
  FlowFeed(const FlowFeed&) = delete;
  FlowFeed& operator=(const FlowFeed&) = delete;

  void ended(const workload::Workload& workload) { log_.ended(workload); }
  /// Method `flows`: the newest `limit`, and then each as it happens where `follow`.
  void answer(std::size_t limit, bool follow, const control::Reply& reply);

  /// Flows told so far, by verdict ("allow", "deny", "audit").
  [[nodiscard]] const std::map<std::string, std::uint64_t>& counts() const { return counts_; }
  /// Messages that the kernel could not hand over, and journal lines held back.
  [[nodiscard]] std::uint64_t lost() const { return log_.lost(); }
  [[nodiscard]] std::uint64_t suppressed() const { return suppressed_; }

 private:
  FlowFeed(enforcer::FlowLog log, enforcer::Enforcer& enforcer, const workload::Registry& registry)
      : log_(std::move(log)), enforcer_(enforcer), registry_(registry) {}
  static int on_readable(sd_event_source* source, int fd, std::uint32_t events, void* self);
  void take(const enforcer::FlowRecord& record);
  [[nodiscard]] bool may_log();

  enforcer::FlowLog log_;
  enforcer::Enforcer& enforcer_;
  const workload::Registry& registry_;
  sd_event_source* readable_ = nullptr;
  std::deque<nlohmann::json> recent_;
  std::vector<control::Reply> followers_;
  std::map<std::string, std::uint64_t> counts_;
  double allowance_ = 0;  // journal lines
  std::chrono::steady_clock::time_point refilled_;
  std::uint64_t suppressed_ = 0;
  std::uint64_t told_suppressed_ = 0;
};

}  // namespace trireme::daemon
