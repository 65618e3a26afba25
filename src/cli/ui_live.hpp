// SPDX-License-Identifier: Apache-2.0
// What the pages of `trirectl ui` show: one map and one list of denials, however many pages are
// open. Threads that talk to the daemon change it; threads of the server wait for changes.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "denial_list.hpp"

namespace trireme::cli {

/// What has changed. The map, of hundreds of kilobytes, is text that all answers share.
struct UiUpdate {
  /// {"change": 12, "problem": "text", "map_time": "2026-01-31T12:00:00Z",
  ///  "denials": changed entries, "denial_ids": [ids of all entries], "denials_left_out": 0 (these
  ///  three only if one changed), "ended": true (only after stop(): there are no more answers)}
  nlohmann::json news;
  std::shared_ptr<const std::string> map;  // JSON, see script_json(); null: not changed
};

class UiLive {
 public:
  using Clock = std::chrono::steady_clock;

  /// `most_denials`: kinds of denial in the list.
  explicit UiLive(std::size_t most_denials) : denials_(most_denials) {}

  /// `time`: when the map was made.
  void set_map(const nlohmann::json& map, std::string time);
  void add_denial(const nlohmann::json& flow);
  /// What hinders `source` from answering; empty if nothing does. Pages show it.
  void set_problem(const std::string& source, const std::string& problem);

  /// Waits until something has changed after the change number `since`, at most for `longest`.
  [[nodiscard]] UiUpdate changes(std::uint64_t since, Clock::duration longest);
  /// The flow of an entry of the list.
  [[nodiscard]] std::optional<nlohmann::json> flow(std::uint64_t denial) const;

  /// Whether a page has asked for changes in the last seconds: the daemon need not be asked for
  /// what nobody looks at.
  [[nodiscard]] bool is_watched() const;
  /// Waits until is_watched() or stop(). Returns false after stop().
  bool wait_for_reader();
  /// Waits for this time, or until stop().
  void pause(Clock::duration time);
  /// Ends all waits.
  void stop();
  [[nodiscard]] bool stopped() const;

 private:
  [[nodiscard]] bool has_reader() const;  // with `mutex_` locked

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable asked_;
  std::condition_variable ended_;
  std::shared_ptr<const std::string> map_;
  std::string map_time_;
  DenialList denials_;
  std::map<std::string, std::string> problems_;
  std::uint64_t change_ = 0;
  std::uint64_t map_change_ = 0;
  std::uint64_t denial_change_ = 0;
  std::size_t readers_ = 0;                    // that wait
  std::optional<Clock::time_point> asked_at_;  // nullopt: never
  bool stopped_ = false;
};

}  // namespace trireme::cli
