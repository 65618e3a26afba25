// SPDX-License-Identifier: Apache-2.0
// A flow as one line of text, like a packet in tcpdump.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace trireme::cli {

/// "app=web,env=prod" from the "labels" object of a flow's endpoint or of a workload; "-" if empty.
[[nodiscard]] std::string labels_text(const nlohmann::json& labels);
/// An endpoint: "app=web", "@host", "@world 10.0.0.5". With `full`, always with the address:
/// "app=web [10.0.0.1]".
[[nodiscard]] std::string end_text(const nlohmann::json& end, bool full);
/// "tcp/80", "icmp".
[[nodiscard]] std::string service_text(const nlohmann::json& flow);
/// The rule that decided; the reason if no rule did.
[[nodiscard]] std::string why_text(const nlohmann::json& flow);
/// An RFC 3339 time in local time: "14:26:26.174" if it is today, else "11-24 14:26:26". Text that
/// is not a time is returned unchanged, except for control characters.
[[nodiscard]] std::string clock_text(const std::string& time);

/// At most `width` characters: the reason is shortened first, then the longer endpoint. The verdict
/// is colored (see paint_verdict()).
[[nodiscard]] std::string flow_line(const nlohmann::json& flow, std::size_t width);
/// All fields in full, with the time in UTC: for files and pipes, which have no width.
[[nodiscard]] std::string full_flow_line(const nlohmann::json& flow);

}  // namespace trireme::cli
