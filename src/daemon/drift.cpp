#include "drift.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>

#include "trireme/base/log_shares.hpp"

namespace trireme::daemon {
namespace {

using namespace std::chrono_literals;

constexpr auto kPause = 1s;     // between two repairs
constexpr auto kShown = 10min;  // how long the last one is told
/// Until the table is back, everything passes.
constexpr std::int64_t kPriority = SD_EVENT_PRIORITY_IMPORTANT;

}  // namespace

Result<std::unique_ptr<Drift>> Drift::open(sd_event* loop, enforcer::Enforcer& enforcer,
                                           std::string owner, Handlers handlers) {
  auto watch = enforcer.watch();
  if (!watch) {
    return tl::unexpected(watch.error());
  }
  std::unique_ptr<Drift> drift(
      new Drift(enforcer, std::move(*watch), std::move(owner), std::move(handlers)));
  int rc = sd_event_add_io(loop, &drift->readable_, drift->watch_.fd(), EPOLLIN, on_readable,
                           drift.get());
  rc = rc < 0 ? rc : sd_event_source_set_priority(drift->readable_, kPriority);
  rc = rc < 0 ? rc
              : sd_event_add_time_relative(loop, &drift->timer_, CLOCK_MONOTONIC, 0, 0, on_timer,
                                           drift.get());
  rc = rc < 0 ? rc : sd_event_source_set_enabled(drift->timer_, SD_EVENT_OFF);
  if (rc < 0) {
    return fail_errno("cannot follow nf_tables", -rc);
  }
  return drift;
}

Drift::~Drift() {
  sd_event_source_disable_unref(readable_);
  sd_event_source_disable_unref(timer_);
}

int Drift::on_readable(sd_event_source* /*source*/, int /*fd*/, std::uint32_t /*events*/,
                       void* self) {
  auto& drift = *static_cast<Drift*>(self);
  const kernel::NftWatch::News news = drift.watch_.drain();
  if (news.who) {
    drift.repair_soon(
        fmt::format("table inet {} was changed by {}", enforcer::kTable, loggable(*news.who)));
  }
  if (news.any) {
    drift.handlers_.changed();
  }
  return 0;
}

int Drift::on_timer(sd_event_source* /*source*/, std::uint64_t /*usec*/, void* self) {
  static_cast<Drift*>(self)->repair();
  return 0;
}

void Drift::catch_up() {
  if (enforcer_.behind() && !due_) {
    repair_soon("the kernel refused a change");
  }
}

void Drift::repair_soon(const std::string& reason) {
  reason_ = reason;
  if (due_) {
    return;
  }
  due_ = true;
  const auto since = tried_ ? Clock::now() - *tried_ : kPause;
  if (since >= kPause) {
    repair();
    return;
  }
  sd_event_source_set_time_relative(
      timer_, static_cast<std::uint64_t>(
                  std::chrono::duration_cast<std::chrono::microseconds>(kPause - since).count()));
  sd_event_source_set_enabled(timer_, SD_EVENT_ONESHOT);
}

void Drift::repair() {
  due_ = false;
  tried_ = Clock::now();
  if (const Status written = enforcer_.repair(); !written) {
    failure_ = written.error().text();
    failures_++;
    if (log_shares().admit(owner_)) {
      spdlog::error("{}, and cannot be written: {}", reason_, failure_);
    }
    repair_soon(reason_);
    return;
  }
  failure_.clear();
  failures_ = 0;
  repairs_++;
  if (log_shares().admit(owner_)) {
    spdlog::error("{}; the table has been written anew", reason_);
  }
  handlers_.repaired();
}

std::optional<std::string> Drift::problem() const {
  if (!failure_.empty()) {
    return fmt::format("NOT ENFORCING AS IT SHOULD: {}, and cannot be written: {}", reason_,
                       failure_);
  }
  if (!tried_ || Clock::now() - *tried_ > kShown) {
    return std::nullopt;
  }
  const auto ago = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - *tried_).count();
  return fmt::format("{}; the table was written anew {} s ago ({} times in all)", reason_, ago,
                     repairs_);
}

}  // namespace trireme::daemon
