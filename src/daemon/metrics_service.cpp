// SPDX-License-Identifier: Apache-2.0
#include "metrics_service.hpp"

#include <spdlog/spdlog.h>

namespace trireme::daemon {
namespace {

constexpr std::chrono::seconds kAgain(5);

}  // namespace

Result<std::unique_ptr<MetricsService>> MetricsService::create(sd_event* loop, Problems& problems,
                                                               std::function<std::string()> text) {
  std::unique_ptr<MetricsService> service(new MetricsService(loop, problems, std::move(text)));
  if (Status opened = service->again_.open(loop, [&made = *service] { made.open_again(); });
      !opened) {
    return tl::unexpected(opened.error());
  }
  return service;
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
  again_.arm(kAgain);
}

void MetricsService::open_again() {
  if (address_ && listener_ == nullptr) {
    open();
  }
}

}  // namespace trireme::daemon
