// SPDX-License-Identifier: Apache-2.0
#include "flow_line.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <functional>
#include <map>

#include "table.hpp"
#include "trireme/policy/shorten.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

constexpr std::size_t kIndent = 6;  // of continuation lines

json member(const json& object, const char* key) {
  return object.value(key, json::object());
}

bool has_labels(const json& end) {
  const auto labels = end.find("labels");
  return labels != end.end() && labels->is_object();
}

/// Labels that are not the same for every workload of the host.
bool has_own_labels(const json& end) {
  return has_labels(end) && end["labels"].size() > end.value("host_labels", json::array()).size();
}

/// "(quarantined)" or "(ended)", behind the name if that is known.
std::string state_text(const json& end, const std::string& name) {
  const char* state = end.value("quarantined", false) ? "(quarantined)"
                      : end.value("ended", false)     ? "(ended)"
                                                      : "";
  return name.empty() || *state == '\0' ? name + state : name + " " + state;
}

std::string address_text(const json& end) {
  const std::string address = end.value("address", "");
  const json names = end.value("names", json::array());
  return names.empty() ? address : address + " " + names.front().get<std::string>();
}

/// "@world,@corp-dns"
std::string entity_text(const json& end) {
  std::string text = end.value("entity", "");
  for (const json& network : end.value("networks", json::array())) {
    text += ",@" + network.get<std::string>();
  }
  return text;
}

/// An endpoint whose labels say nothing, or that has none.
std::string plain_text(const json& end) {
  const std::string name = end.value("workload", "");
  if (has_labels(end)) {
    return name.empty() ? labels_text(end["labels"]) : name;
  }
  const std::string text = state_text(end, name) + entity_text(end);
  // @world is only recognizable with its address. The address of @host is one of this host's own.
  const std::string address = address_text(end);
  return text.empty()                                     ? address
         : text.starts_with("@world") && !address.empty() ? text + " " + address
                                                          : text;
}

/// "deny at the source, allow at the destination"
std::string verdicts_text(const json& flow) {
  const json verdicts = member(flow, "verdicts");
  std::string text;
  for (const char* end : {"source", "destination"}) {
    if (const auto verdict = verdicts.find(end);
        verdict != verdicts.end() && verdict->is_string()) {
      text +=
          fmt::format("{}{} at the {}", text.empty() ? "" : ", ", verdict->get<std::string>(), end);
    }
  }
  return text;
}

}  // namespace

std::string labels_text(const json& labels) {
  std::string text;
  for (const auto& [key, value] : labels.items()) {
    text += (text.empty() ? "" : ",") + key + "=" + value.get<std::string>();
  }
  return text.empty() ? "-" : printable(text);
}

std::string end_text(const json& end) {
  std::string text = end.value("workload", "");
  const auto add = [&text](const std::string& more) {
    text += text.empty() || more.empty() ? more : " " + more;
  };
  add(state_text(end, ""));
  add(has_labels(end) ? (end["labels"].empty() ? "(no labels)" : labels_text(end["labels"]))
                      : entity_text(end));
  if (const std::string address = address_text(end); !address.empty()) {
    add("[" + address + "]");
  }
  if (const std::string host = end.value("host", ""); !host.empty()) {
    add("on " + host);
  }
  return printable(text);
}

EndTexts end_texts(const json& flow) {
  const json source = member(flow, "source");
  const json destination = member(flow, "destination");
  if (!has_own_labels(source) || !has_own_labels(destination)) {
    const auto text = [](const json& end) {
      return printable(has_own_labels(end) ? labels_text(end["labels"]) : plain_text(end));
    };
    return {text(source), text(destination)};
  }
  const auto made =
      policy::shorten(source["labels"].get<std::map<std::string, std::string, std::less<>>>(),
                      destination["labels"].get<std::map<std::string, std::string, std::less<>>>());
  return {printable(made.source), printable(made.destination)};
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

std::string seconds_text(const std::string& time) {
  const std::string text = clock_text(time);
  return text.substr(0, text.find('.'));
}

std::string flow_line(const json& flow, std::size_t width) {
  const std::string verdict = flow.value("verdict", "?");
  const std::string head = clock_text(flow.value("time", "?"));
  const auto [source, destination] = end_texts(flow);
  const std::string line = wrap(fmt::format("{} {:<5} {} -> {} {}  {}", head, verdict, source,
                                            destination, service_text(flow), why_text(flow)),
                                width, kIndent);
  // Colored after wrapping, because escape sequences have no width.
  const std::string start = head + " " + verdict;
  return line.starts_with(start)
             ? fmt::format("{} {}{}", paint(Color::dim, head), paint_verdict(verdict, verdict),
                           line.substr(start.size()))
             : line;
}

std::string wide_flow_line(const json& flow) {
  std::string why = flow.value("reason", "");
  const auto add = [&why](const std::string& more, const char* between) {
    why += why.empty() || more.empty() ? more : between + more;
  };
  add(flow.value("rule", ""), ": ");
  add(verdicts_text(flow), "; ");
  const std::string policy = flow.value("policy", "");
  add(policy.empty() ? "" : "policy " + policy, "; ");
  return fmt::format("{} {:<5} {} -> {} {}  {}", printable(flow.value("time", "?")),
                     flow.value("verdict", "?"), end_text(member(flow, "source")),
                     end_text(member(flow, "destination")), service_text(flow), printable(why));
}

}  // namespace trireme::cli
