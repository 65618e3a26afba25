// SPDX-License-Identifier: Apache-2.0
// The answers of `trirectl ui` to HTTP requests, apart from HTTP itself.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "ui_access.hpp"
#include "ui_live.hpp"

namespace trireme::cli {

struct UiAnswer {
  unsigned status = 200;
  const char* type = "text/html; charset=utf-8";
  std::string body;
  std::vector<std::pair<const char*, std::string>> headers;
};

/// Limits requests: some at once, and a number per second in the long run. Not for several threads.
class RequestBudget {
 public:
  /// False if there were too many.
  [[nodiscard]] bool take();

 private:
  UiLive::Clock::time_point filled_;
  double left_ = 0;
};

/// Can be used by several threads. GET / is the page, /api/updates?since=N waits for changes
/// (UiLive::changes()), /api/denial?id=N has {"why", "allow"} of an entry of the list. The answers
/// of /api to the session have "instance" (UiAccess::instance()).
class UiRoutes {
 public:
  /// Returns {"why": "text", "allow": "TOML"} for a flow.
  using Explain = std::function<nlohmann::json(const nlohmann::json& flow)>;

  /// `access` and `live` must outlive the object.
  UiRoutes(UiAccess& access, UiLive& live, Explain explain);
  [[nodiscard]] UiAnswer answer(const UiRequest& request);

 private:
  [[nodiscard]] UiAnswer route(const UiRequest& request);
  [[nodiscard]] UiAnswer api(const UiRequest& request);
  [[nodiscard]] UiAnswer updates(std::uint64_t since);
  [[nodiscard]] UiAnswer session_answer(unsigned status, nlohmann::json value) const;
  [[nodiscard]] bool is_too_often(Entry entry);

  UiAccess& access_;
  UiLive& live_;
  Explain explain_;
  std::string page_;
  std::string policy_;
  std::mutex mutex_;
  // Any site in the operator's browser can send the other requests. They cannot use up the budget
  // of the pages that have been let in.
  RequestBudget known_;
  RequestBudget others_;
};

}  // namespace trireme::cli
