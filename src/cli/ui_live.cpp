// SPDX-License-Identifier: Apache-2.0
#include "ui_live.hpp"

#include <utility>

#include "page.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds kWatched(10);

}  // namespace

void UiLive::set_map(const json& map, std::string time) {
  auto text = std::make_shared<const std::string>(script_json(map));
  const std::lock_guard lock(mutex_);
  map_time_ = std::move(time);
  if (map_ == nullptr || *text != *map_) {
    map_ = std::move(text);
    map_change_ = ++change_;
    changed_.notify_all();
  }
}

void UiLive::add_denial(const json& flow) {
  const std::lock_guard lock(mutex_);
  denial_change_ = ++change_;
  denials_.add(flow, change_);
  changed_.notify_all();
}

void UiLive::set_problem(const std::string& source, const std::string& problem) {
  const std::lock_guard lock(mutex_);
  if (std::exchange(problems_[source], problem) != problem) {
    ++change_;
    changed_.notify_all();
  }
}

UiUpdate UiLive::changes(std::uint64_t since, Clock::duration longest) {
  std::unique_lock lock(mutex_);
  asked_at_ = Clock::now();
  ++readers_;
  asked_.notify_all();
  changed_.wait_for(lock, longest, [&] { return stopped_ || change_ > since; });
  --readers_;
  asked_at_ = Clock::now();
  std::string problem;
  for (const auto& [source, text] : problems_) {
    problem = text.empty() ? problem : text;
  }
  json news = {{"change", change_}, {"problem", problem}, {"map_time", map_time_}};
  if (denial_change_ > since) {
    news["denials"] = denials_.since(since);
    news["denial_ids"] = denials_.ids();
    news["denials_left_out"] = denials_.left_out();
  }
  if (stopped_) {
    news["ended"] = true;
  }
  return {std::move(news), map_change_ > since ? map_ : nullptr};
}

std::optional<json> UiLive::flow(std::uint64_t denial) const {
  const std::lock_guard lock(mutex_);
  const json* found = denials_.flow(denial);
  return found == nullptr ? std::nullopt : std::optional(*found);
}

/// A request that was answered at once counts too: its page asks again soon.
bool UiLive::has_reader() const {
  return readers_ > 0 || (asked_at_ && Clock::now() - *asked_at_ < kWatched);
}

bool UiLive::is_watched() const {
  const std::lock_guard lock(mutex_);
  return has_reader();
}

bool UiLive::wait_for_reader() {
  std::unique_lock lock(mutex_);
  asked_.wait(lock, [this] { return stopped_ || has_reader(); });
  return !stopped_;
}

void UiLive::pause(Clock::duration time) {
  std::unique_lock lock(mutex_);
  ended_.wait_for(lock, time, [this] { return stopped_; });
}

void UiLive::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
  asked_.notify_all();
  ended_.notify_all();
}

bool UiLive::stopped() const {
  const std::lock_guard lock(mutex_);
  return stopped_;
}

}  // namespace trireme::cli
