// SPDX-License-Identifier: Apache-2.0
// A flow in one line, as tcpdump tells packets.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace trireme::cli {

/// "app=web,env=prod": labels of a flow's or workload's JSON; "-" where there are none.
[[nodiscard]] std::string labels_text(const nlohmann::json& labels);
/// An end: "app=web", "@host", "@world 10.0.0.5"; with `full` the address always: "app=web
/// [10.0.0.1]".
[[nodiscard]] std::string end_text(const nlohmann::json& end, bool full);
/// "tcp/80", "icmp".
[[nodiscard]] std::string service_text(const nlohmann::json& flow);
/// The rule that decided, or the reason.
[[nodiscard]] std::string why_text(const nlohmann::json& flow);
/// "14:26:26.174" of today, "11-24 14:26:26" of another day, in local time; the text as it is where
/// it is no time.
[[nodiscard]] std::string clock_text(const std::string& time);

/// Of at most `width` characters: the reason gives way first, then the longer end. Verdicts are
/// painted.
[[nodiscard]] std::string flow_line(const nlohmann::json& flow, std::size_t width);
/// Everything, whatever its length, with the time as it is: for files and pipes.
[[nodiscard]] std::string full_flow_line(const nlohmann::json& flow);

}  // namespace trireme::cli
