// SPDX-License-Identifier: Apache-2.0
// The page of `trirectl ui` and `trirectl policy graph --format html`: one HTML file that loads
// nothing and runs no script but its own.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace trireme::cli {

/// The Content-Security-Policy of the page: no script and no style but those with these hashes, and
/// no request except to where the page came from.
[[nodiscard]] std::string page_policy();

/// JSON for a script element: no '<' and nothing but ASCII, so that no text in it ends the element
/// or begins a comment.
[[nodiscard]] std::string script_json(const nlohmann::json& value);

/// Text for HTML between tags.
[[nodiscard]] std::string html_text(std::string_view text);

/// The page with this data:
/// {"version": 1, "live": false, "title": "trireme on web-1", "change": 0,
///  "map": control::map_json() and {"mode": "enforce|audit", "notes": ["text"]},
///  "map_time": "2026-01-31T12:00:00Z", "session": see ui_access.hpp (only with "live"),
///  "denials": [{"id", "change", "time", "verdict", "from", "to", "from_end", "to_end", "port",
///               "count", "rule", "reason", "why": "text", "allow": "TOML"}], newest first,
///  "denials_left_out": 0}
/// "why" and "allow" are absent if the page asks for them ("live"). "from_end" and "to_end" are
/// texts of nodes.
[[nodiscard]] std::string page(const nlohmann::json& data);

}  // namespace trireme::cli
