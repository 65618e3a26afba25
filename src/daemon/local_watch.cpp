// SPDX-License-Identifier: Apache-2.0
#include "local_watch.hpp"

#include <sys/epoll.h>

#include <utility>

namespace trireme::daemon {
namespace {

constexpr std::chrono::seconds kRound(5);
constexpr std::int64_t kLogPriority = event::kNormal + 10;  // the same as for the log of rules

}  // namespace

Result<std::unique_ptr<LocalWatch>> LocalWatch::create(sd_event* loop, enforcer::LocalPolicy& local,
                                                       Problems& problems, OnRefused on_refused) {
  std::unique_ptr<LocalWatch> watch(new LocalWatch(local, problems, std::move(on_refused)));
  if (Status opened = watch->open(loop); !opened) {
    return tl::unexpected(opened.error());
  }
  auto canary = Canary::create(loop, local.canary(), problems);
  problems.note("packet priorities", canary ? Status{} : Status(tl::unexpected(canary.error())));
  watch->canary_ = canary ? std::move(*canary) : nullptr;
  watch->send_canary();
  return watch;
}

Status LocalWatch::open(sd_event* loop) {
  for (Status opened : {round_.open(loop, [this] { look_through(); }),
                        readable_.open(
                            loop, local_.refused_fd(), EPOLLIN,
                            [this](std::uint32_t /*events*/) { take_refused(); }, kLogPriority)}) {
    if (!opened) {
      return opened;
    }
  }
  round_.arm(kRound);
  return {};
}

void LocalWatch::send_canary() {
  if (canary_) {
    canary_->send();
  }
}

void LocalWatch::take_refused() {
  for (const gate::Refused& refused : local_.take_refused()) {
    on_refused_(refused);
  }
}

void LocalWatch::look_through() {
  problems_.note("the gate", local_.look_through());
  send_canary();  // changes of iptables-legacy and tc rules cause no notification
  round_.arm(kRound);
}

}  // namespace trireme::daemon
