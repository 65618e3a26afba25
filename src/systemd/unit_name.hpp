// SPDX-License-Identifier: Apache-2.0
// Unit names and the cgroup paths that systemd gives them.
#pragma once

#include <string>

namespace trireme::systemd {

/// The unit of a cgroup that has only slices above it: "nginx.service" for
/// "/system.slice/nginx.service". Empty for any other path, including cgroups inside a user's
/// manager or a container, because their owners can choose any name.
[[nodiscard]] std::string unit_of_path(const std::string& path);

/// The longest prefix of `path` for which unit_of_path() is not empty; empty if there is none.
[[nodiscard]] std::string unit_path(const std::string& path);

/// "postgresql@.service" for "postgresql@15.service"; empty for names without '@'.
[[nodiscard]] std::string template_of(const std::string& unit);
[[nodiscard]] bool is_template(const std::string& unit);
/// "15" for "postgresql@15.service"; empty for templates and for names without '@'.
[[nodiscard]] std::string instance_of(const std::string& unit);

/// True if the pattern has no special characters of fnmatch(3), so it is the name of one unit.
[[nodiscard]] bool is_plain(const std::string& pattern);

/// True if a [[unit]] pattern matches the unit's name, by fnmatch(3).
[[nodiscard]] bool matches(const std::string& pattern, const std::string& unit);

/// "batch-.service" for "batch-*.service". systemd applies its drop-ins to every unit that the
/// pattern matches (systemd.unit(5)). Empty for other patterns.
[[nodiscard]] std::string prefix_of(const std::string& pattern);

/// True if the pattern matches every instance of the template `name`; then one drop-in for the
/// template is enough.
[[nodiscard]] bool matches_all_instances(const std::string& pattern, const std::string& name);

}  // namespace trireme::systemd
