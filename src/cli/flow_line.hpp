// SPDX-License-Identifier: Apache-2.0
// A flow as one line of text, like a packet in tcpdump.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace trireme::cli {

/// "app=web,env=prod" from the "labels" object of a flow's endpoint or of a workload; "-" if empty.
[[nodiscard]] std::string labels_text(const nlohmann::json& labels);
/// An endpoint in full: "web.scope app=web,env=prod [10.0.0.1]", "@world [10.0.0.5 db.example]".
[[nodiscard]] std::string end_text(const nlohmann::json& end);
/// Both endpoints of a flow, in short: labels without those that both have (policy::shorten()), the
/// name of a workload without labels of its own, "@host", "@world 10.0.0.5".
struct EndTexts {
  std::string source;
  std::string destination;
};
[[nodiscard]] EndTexts end_texts(const nlohmann::json& flow);
/// "tcp/80", "icmp".
[[nodiscard]] std::string service_text(const nlohmann::json& flow);
/// The rule that decided; the reason if no rule did.
[[nodiscard]] std::string why_text(const nlohmann::json& flow);
/// An RFC 3339 time in local time: "14:26:26.174" if it is today, else "11-24 14:26:26". Text that
/// is not a time is returned unchanged, except for control characters.
[[nodiscard]] std::string clock_text(const std::string& time);
/// clock_text() without the fraction of a second, for tables.
[[nodiscard]] std::string seconds_text(const std::string& time);

/// The flow in short, wrapped into lines of at most `width` characters. The verdict is colored (see
/// paint_verdict()).
[[nodiscard]] std::string flow_line(const nlohmann::json& flow, std::size_t width);
/// All fields in full, with the time in UTC: for `-o wide`.
[[nodiscard]] std::string wide_flow_line(const nlohmann::json& flow);

}  // namespace trireme::cli
