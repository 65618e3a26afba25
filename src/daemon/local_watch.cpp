#include "local_watch.hpp"

#include <ctime>

namespace trireme::daemon {
namespace {

constexpr std::uint64_t kRound = 5'000'000;  // microseconds

}  // namespace

Result<std::unique_ptr<LocalWatch>> LocalWatch::create(sd_event* loop, enforcer::LocalPolicy& local,
                                                       Problems& problems) {
  std::unique_ptr<LocalWatch> watch(new LocalWatch(local, problems));
  const int rc = sd_event_add_time_relative(loop, &watch->round_, CLOCK_MONOTONIC, kRound, 0,
                                            on_round, watch.get());
  if (rc < 0) {
    return fail_errno("cannot set up the event loop", -rc);
  }
  auto canary = Canary::create(loop, local.canary(), problems);
  problems.note("priorities", canary ? Status{} : Status(tl::unexpected(canary.error())));
  watch->canary_ = canary ? std::move(*canary) : nullptr;
  watch->send_canary();
  return watch;
}

void LocalWatch::send_canary() {
  if (canary_) {
    canary_->send();
  }
}

LocalWatch::~LocalWatch() {
  sd_event_source_disable_unref(round_);
}

int LocalWatch::on_round(sd_event_source* source, std::uint64_t /*usec*/, void* self) {
  auto& watch = *static_cast<LocalWatch*>(self);
  watch.problems_.note("numbers of cgroups", watch.local_.look_through());
  watch.send_canary();  // rules of iptables-legacy and of tc change without a word
  sd_event_source_set_time_relative(source, kRound);
  return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

}  // namespace trireme::daemon
