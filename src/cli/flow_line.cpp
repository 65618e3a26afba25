// SPDX-License-Identifier: Apache-2.0
#include "flow_line.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

#include "table.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

constexpr std::size_t kShortestReason = 18;
constexpr std::size_t kShortestEnd = 8;

json member(const json& object, const char* key) {
  return object.value(key, json::object());
}

/// Shortens the endpoints to `room` characters together; the longer one is shortened first.
std::pair<std::string, std::string> ends_in(const std::string& from, const std::string& to,
                                            std::size_t room) {
  const std::size_t half = room / 2;
  const std::size_t left = length(from);
  const std::size_t right = length(to);
  if (left + right <= room) {
    return {from, to};
  }
  const std::size_t of_left = left <= half ? left : right < half ? room - right : half;
  return {clip(from, of_left), clip(to, room - of_left)};
}

}  // namespace

std::string labels_text(const json& labels) {
  std::string text;
  for (const auto& [key, value] : labels.items()) {
    text += (text.empty() ? "" : ",") + key + "=" + value.get<std::string>();
  }
  return text.empty() ? "-" : printable(text);
}

std::string end_text(const json& end, bool full) {
  std::string address = end.value("address", "");
  if (const json names = end.value("names", json::array()); !names.empty()) {
    address += " " + names.front().get<std::string>();
  }
  const auto labels = end.find("labels");
  const bool labeled = labels != end.end() && labels->is_object();
  std::string text = labeled ? (labels->empty() ? "(no labels)" : labels_text(*labels))
                     : end.value("quarantined", false) ? "(quarantined)"
                                                       : end.value("entity", "");
  for (const json& network : end.value("networks", json::array())) {
    text += ",@" + network.get<std::string>();
  }
  if (text.empty()) {
    return printable(address);
  }
  if (full) {
    const std::string host = end.value("host", "");
    return printable(address.empty() ? text : fmt::format("{} [{}]", text, address)) +
           (host.empty() ? "" : printable(" on " + host));
  }
  // @world is only recognizable with its address. The address of @host is one of this host's own.
  return printable(
      text.starts_with("@world") && !address.empty() ? fmt::format("{} {}", text, address) : text);
}

std::string service_text(const json& flow) {
  const std::string protocol = flow.value("protocol", "?");
  const int port = flow.value("port", 0);
  return printable(port == 0 ? protocol : fmt::format("{}/{}", protocol, port));
}

std::string why_text(const json& flow) {
  const std::string rule = flow.value("rule", "");
  return printable(rule.empty() ? flow.value("reason", "") : rule);
}

std::string clock_text(const std::string& time) {
  std::tm parsed{};
  const char* rest = ::strptime(time.c_str(), "%Y-%m-%dT%H:%M:%S", &parsed);
  if (rest == nullptr) {
    return printable(time);
  }
  const std::time_t seconds = ::timegm(&parsed);
  const std::time_t now = std::time(nullptr);
  const std::tm local = fmt::localtime(seconds);
  const std::tm today = fmt::localtime(now);
  if (local.tm_yday == today.tm_yday && local.tm_year == today.tm_year) {
    const std::string fraction = *rest == '.' ? std::string(rest).substr(0, 4) : ".000";
    return fmt::format("{:%H:%M:%S}{}", local, fraction);
  }
  return fmt::format("{:%m-%d %H:%M:%S}", local);
}

std::string flow_line(const json& flow, std::size_t width) {
  const std::string verdict = flow.value("verdict", "?");
  const std::string head = clock_text(flow.value("time", "?"));
  const std::string service = service_text(flow);
  const std::string why = why_text(flow);
  const std::size_t fixed = length(head) + 1 + 5 + 1 + 4 + 1 + length(service) + 2;
  const std::size_t room = width > fixed ? width - fixed : 2 * kShortestEnd;
  const std::string from = end_text(member(flow, "source"), false);
  const std::string to = end_text(member(flow, "destination"), false);
  const std::size_t wanted = length(from) + length(to);
  const std::size_t of_why = std::min(
      length(why), wanted < room ? std::max(room - wanted, kShortestReason) : kShortestReason);
  const auto [source, destination] =
      ends_in(from, to, room > of_why + 2 * kShortestEnd ? room - of_why : 2 * kShortestEnd);
  const std::size_t left =
      room > length(source) + length(destination) ? room - length(source) - length(destination) : 0;
  return fmt::format("{} {} {} -> {} {}  {}", paint(Color::dim, head),
                     paint_verdict(verdict, fmt::format("{:<5}", verdict)), source, destination,
                     service, clip(why, left));
}

std::string full_flow_line(const json& flow) {
  const std::string rule = flow.value("rule", "");
  const std::string reason = flow.value("reason", "");
  const std::string why = rule.empty()     ? reason
                          : reason.empty() ? rule
                                           : fmt::format("{}: {}", reason, rule);
  return fmt::format("{} {:<5} {} -> {} {}  {}", printable(flow.value("time", "?")),
                     flow.value("verdict", "?"), end_text(member(flow, "source"), true),
                     end_text(member(flow, "destination"), true), service_text(flow),
                     printable(why));
}

}  // namespace trireme::cli
