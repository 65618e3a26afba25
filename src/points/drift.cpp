// SPDX-License-Identifier: Apache-2.0
#include "drift.hpp"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <syslog.h>

#include "trireme/base/counted.hpp"
#include "trireme/base/journal.hpp"
#include "trireme/base/log_shares.hpp"

namespace trireme::points {
namespace {

using namespace std::chrono_literals;

constexpr auto kPause = 1s;     // between two repairs
constexpr auto kShown = 10min;  // how long problem() shows the last repair
/// First of all events: while the table is missing, everything passes.
constexpr std::int64_t kPriority = event::kImportant;

}  // namespace

Result<std::unique_ptr<Drift>> Drift::open(sd_event* loop, enforcer::Enforcer& enforcer,
                                           std::string owner, Handlers handlers) {
  auto watch = enforcer.watch();
  if (!watch) {
    return tl::unexpected(watch.error());
  }
  std::unique_ptr<Drift> drift(
      new Drift(enforcer, std::move(*watch), std::move(owner), std::move(handlers)));
  if (Status followed = drift->follow(loop); !followed) {
    return tl::unexpected(followed.error());
  }
  return drift;
}

Status Drift::follow(sd_event* loop) {
  Status followed = readable_.open(
      loop, watch_.fd(), EPOLLIN, [this](std::uint32_t /*events*/) { look(); }, kPriority);
  return followed ? timer_.open(loop, [this] { repair(); }) : followed;
}

void Drift::look() {
  const kernel::NftWatch::News news = watch_.drain();
  if (news.who) {
    repair_soon(fmt::format("table inet {} was changed by {}", abi::kTable, loggable(*news.who)));
  }
  if (news.any) {
    handlers_.changed();
  }
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
  timer_.arm(std::chrono::duration_cast<std::chrono::microseconds>(kPause - since));
}

void Drift::repair() {
  due_ = false;
  tried_ = Clock::now();
  if (const Status written = enforcer_.repair(); !written) {
    failure_ = written.error().text();
    failures_++;
    if (log_shares().admit(owner_)) {
      log_event(LOG_ERR, message_id::kNotRepaired,
                fmt::format("{}; cannot rewrite the table: {}", reason_, failure_),
                {{"NETWORK", owner_}, {"REASON", reason_}, {"ERROR", failure_}});
    }
    repair_soon(reason_);
    return;
  }
  failure_.clear();
  failures_ = 0;
  repairs_++;
  if (log_shares().admit(owner_)) {
    log_event(LOG_ERR, message_id::kDrift, reason_ + "; rewrote the table",
              {{"NETWORK", owner_}, {"REASON", reason_}, {"REPAIRS", std::to_string(repairs_)}});
  }
  handlers_.repaired();
}

std::optional<std::string> Drift::problem() const {
  if (!failure_.empty()) {
    return fmt::format("NOT FULLY ENFORCING: {}; cannot rewrite the table: {}", reason_, failure_);
  }
  if (!tried_ || Clock::now() - *tried_ > kShown) {
    return std::nullopt;
  }
  const auto ago = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - *tried_).count();
  return fmt::format("{}; the table was rewritten {} s ago ({} in total)", reason_, ago,
                     counted(repairs_, "time"));
}

}  // namespace trireme::points
