#include "metrics_service.hpp"

#include <spdlog/spdlog.h>

namespace trireme::daemon {
namespace {

constexpr std::uint64_t kAgain = 5'000'000;  // µs

}  // namespace

Result<std::unique_ptr<MetricsService>> MetricsService::create(sd_event* loop, Problems& problems,
                                                               std::function<std::string()> text) {
  std::unique_ptr<MetricsService> service(new MetricsService(loop, problems, std::move(text)));
  int rc = sd_event_add_time_relative(loop, &service->again_, CLOCK_MONOTONIC, 0, 0, on_time,
                                      service.get());
  rc = rc < 0 ? rc : sd_event_source_set_enabled(service->again_, SD_EVENT_OFF);
  if (rc < 0) {
    return fail_errno("cannot set up the event loop", -rc);
  }
  return service;
}

MetricsService::~MetricsService() {
  sd_event_source_disable_unref(again_);
}

void MetricsService::listen(const std::optional<policy::SocketAddress>& address) {
  if (address == address_ && (listener_ != nullptr || !address)) {
    return;
  }
  listener_.reset();
  address_ = address;
  if (address) {
    open();
  } else {
    problems_.note("metrics", {});
  }
}

void MetricsService::open() {
  auto listener = MetricsListener::open(loop_, *address_, text_);
  problems_.note("metrics", listener ? Status{} : Status(tl::unexpected(listener.error())));
  if (listener) {
    listener_ = std::move(*listener);
    spdlog::info("metrics: http://{}/metrics", address_->text());
    return;
  }
  sd_event_source_set_time_relative(again_, kAgain);
  sd_event_source_set_enabled(again_, SD_EVENT_ONESHOT);
}

int MetricsService::on_time(sd_event_source* /*source*/, std::uint64_t /*usec*/, void* self) {
  auto& service = *static_cast<MetricsService*>(self);
  if (service.address_ && service.listener_ == nullptr) {
    service.open();
  }
  return 0;
}

}  // namespace trireme::daemon
