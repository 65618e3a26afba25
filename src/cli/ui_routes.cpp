// SPDX-License-Identifier: Apache-2.0
#include "ui_routes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "page.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

constexpr double kBurst = 60;                     // requests at once
constexpr double kPerSecond = 40;                 // in the long run, of all pages
constexpr std::chrono::seconds kLongestPoll(20);  // for something new
constexpr const char* kJson = "application/json";
constexpr const char* kAgain =
    "Stop trirectl ui with Ctrl+C, start it again, and open the address that it prints.";

UiAnswer error_page(unsigned status, std::string_view title, std::string_view text) {
  return {.status = status,
          .body = fmt::format("<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\">"
                              "<title>{0}</title><h1>{0}</h1><p>{1}</p></html>\n",
                              html_text(title), html_text(text)),
          .headers = {}};
}

UiAnswer json_answer(unsigned status, const json& value) {
  return {.status = status, .type = kJson, .body = script_json(value), .headers = {}};
}

/// Nullopt if the query has no such number.
std::optional<std::uint64_t> number_of(const UiRequest& request, std::string_view name) {
  const auto found = request.query.find(name);
  std::uint64_t number = 0;
  if (found == request.query.end()) {
    return std::nullopt;
  }
  const char* end = found->second.data() + found->second.size();
  const auto [rest, error] = std::from_chars(found->second.data(), end, number);
  return error == std::errc() && rest == end ? std::optional(number) : std::nullopt;
}

/// The data of a page that has no session, or has not asked yet.
json empty_page() {
  return {{"version", 1},
          {"live", true},
          {"title", "trireme"},
          {"change", 0},
          {"map",
           {{"nodes", json::array()},
            {"edges", json::array()},
            {"folded", false},
            {"left_out", 0},
            {"notes", json::array()},
            {"mode", "enforce"}}},
          {"map_time", ""},
          {"denials", json::array()},
          {"denials_left_out", 0}};
}

bool is_known(Entry entry) {
  return entry == Entry::session || entry == Entry::token;
}

UiAnswer refusal(Entry entry, const UiRequest& request) {
  if (request.path != "/") {
    return json_answer(entry == Entry::no_session ? 401 : 403,
                       {{"error", std::string("This page has no session. ") + kAgain}});
  }
  switch (entry) {
    case Entry::used_token:
      return error_page(403, "This address has been used",
                        std::string("It works once, for the first tab that opens it, which can be "
                                    "reloaded. If that was not you, somebody else has the page "
                                    "now. ") +
                            kAgain);
    case Entry::wrong_host:
      return error_page(403, "Wrong address",
                        "Open the address that trirectl ui has printed. Through 'ssh -L', use the "
                        "same port at both ends.");
    case Entry::other_site:
      return error_page(403, "Refused", "Another site asked for this page.");
    default:
      return error_page(401, "No session", kAgain);
  }
}

}  // namespace

UiRoutes::UiRoutes(UiAccess& access, UiLive& live, Explain explain)
    : access_(access),
      live_(live),
      explain_(std::move(explain)),
      page_(page(empty_page())),
      policy_(page_policy() + "; frame-ancestors 'none'") {}

bool RequestBudget::take() {
  const auto now = UiLive::Clock::now();
  const double seconds = std::chrono::duration<double>(now - filled_).count();
  left_ = std::min(kBurst, left_ + seconds * kPerSecond);
  filled_ = now;
  if (left_ < 1) {
    return false;
  }
  left_ -= 1;
  return true;
}

bool UiRoutes::is_too_often(Entry entry) {
  const std::lock_guard lock(mutex_);
  return !(is_known(entry) ? known_ : others_).take();
}

UiAnswer UiRoutes::answer(const UiRequest& request) {
  UiAnswer made = route(request);
  const bool is_page = made.status == 200 && made.type != kJson;
  const std::vector<std::pair<const char*, std::string>> always = {
      {"Cache-Control", "no-store"},
      {"Content-Security-Policy",
       is_page ? policy_ : "default-src 'none'; frame-ancestors 'none'; form-action 'none'"},
      {"Cross-Origin-Opener-Policy", "same-origin"},
      {"Cross-Origin-Resource-Policy", "same-origin"},
      {"Referrer-Policy", "no-referrer"},
      {"X-Content-Type-Options", "nosniff"},
      {"X-Frame-Options", "DENY"}};
  made.headers.insert(made.headers.end(), always.begin(), always.end());
  return made;
}

UiAnswer UiRoutes::route(const UiRequest& request) {
  if ((request.method != "GET" && request.method != "HEAD") || request.has_body) {
    UiAnswer refused = error_page(405, "Only GET and HEAD", "The page changes nothing.");
    refused.headers.emplace_back("Allow", "GET, HEAD");
    return refused;
  }
  const Entry entry = access_.enter(request);
  if (is_too_often(entry)) {
    return request.path == "/"       ? error_page(429, "Too many requests", "Wait a second.")
           : entry == Entry::session ? session_answer(429, {{"error", "too many requests"}})
                                     : json_answer(429, {{"error", "too many requests"}});
  }
  switch (entry) {
    case Entry::page:
      return {.body = page_, .headers = {}};
    case Entry::token: {
      json data = empty_page();
      data["session"] = {{"secret", access_.session()}, {"instance", access_.instance()}};
      return {.body = page(data), .headers = {}};
    }
    case Entry::session:
      return api(request);
    default:
      return refusal(entry, request);
  }
}

UiAnswer UiRoutes::session_answer(unsigned status, json value) const {
  value["instance"] = access_.instance();
  return json_answer(status, value);
}

UiAnswer UiRoutes::updates(std::uint64_t since) {
  UiUpdate update = live_.changes(since, kLongestPoll);
  UiAnswer made = session_answer(200, std::move(update.news));
  if (update.map) {
    made.body.pop_back();  // the brace at the end
    made.body.append(",\"map\":").append(*update.map).append("}");
  }
  return made;
}

UiAnswer UiRoutes::api(const UiRequest& request) {
  if (request.path == "/api/updates") {
    const auto since = number_of(request, "since");
    return since ? updates(*since) : session_answer(400, {{"error", "'since' is not a number"}});
  }
  if (request.path == "/api/denial") {
    const auto id = number_of(request, "id");
    const auto flow = id ? live_.flow(*id) : std::nullopt;
    return flow ? session_answer(200, explain_(*flow))
                : session_answer(404, {{"error", "This denial is no longer in the list."}});
  }
  return error_page(404, "Not found", "The page is at /.");
}

}  // namespace trireme::cli
