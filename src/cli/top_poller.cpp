// SPDX-License-Identifier: Apache-2.0
#include "top_poller.hpp"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "trireme/control/client.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {
namespace {

/// A daemon that takes longer does not answer.
constexpr std::chrono::seconds kAnswerTime(5);

}  // namespace

Result<std::unique_ptr<TrafficPoller>> TrafficPoller::start(std::string socket,
                                                            std::chrono::seconds interval) {
  std::unique_ptr<TrafficPoller> poller(new TrafficPoller(std::move(socket), interval));
  poller->ready_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  std::array<int, 2> ends = {-1, -1};
  if (!poller->ready_.valid() || ::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return fail_errno("cannot create a descriptor");
  }
  poller->end_reader_ = Fd(ends[0]);
  poller->end_writer_ = Fd(ends[1]);
  poller->thread_ =
      std::jthread([&made = *poller](const std::stop_token& stop) { made.run(stop); });
  return poller;
}

TrafficPoller::~TrafficPoller() {
  thread_.request_stop();
  end_reader_.reset();
}

std::optional<Result<TrafficAnswer>> TrafficPoller::take() {
  eventfd_t value = 0;
  ::eventfd_read(ready_.get(), &value);
  const std::scoped_lock lock(mutex_);
  return std::exchange(result_, std::nullopt);
}

void TrafficPoller::run(const std::stop_token& stop) {
  // From request to request: a late one is not made up for by an early one.
  auto asked = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  for (;;) {
    pause_.wait_until(lock, stop, asked + interval_, [] { return false; });
    if (stop.stop_requested()) {
      return;
    }
    lock.unlock();
    asked = std::chrono::steady_clock::now();
    auto answer = ask_once();
    lock.lock();
    if (answer) {
      result_ = std::move(answer);
      ::eventfd_write(ready_.get(), 1);
    }
  }
}

/// nullopt: this object is being destroyed.
std::optional<Result<TrafficAnswer>> TrafficPoller::ask_once() const {
  auto client = control::Client::connect(socket_);
  if (!client) {
    return tl::unexpected(client.error());
  }
  client->end_with_reader(end_writer_.get());
  const auto answer = client->call(control::method::traffic, nlohmann::json::object(), kAnswerTime);
  if (!answer) {
    return tl::unexpected(answer.error());
  }
  return answer->is_null() ? std::nullopt : std::optional(TrafficAnswer::read_json(*answer));
}

}  // namespace trireme::cli
