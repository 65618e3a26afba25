// SPDX-License-Identifier: Apache-2.0
// Unit names and the cgroup paths that systemd gives them.
#pragma once

#include <string>

namespace trireme::systemd {

/// The unit of a cgroup that is one directly below slices: "/system.slice/nginx.service" is
/// "nginx.service". Empty for any other path, the inside of a user's manager and of containers
/// included: who owns those may call their cgroups what they like.
[[nodiscard]] std::string unit_of_path(const std::string& path);

/// The longest start of `path` that unit_of_path() gives a name for; empty where there is none.
[[nodiscard]] std::string unit_path(const std::string& path);

/// "postgresql@15.service" to "postgresql@.service"; empty for names without an instance.
[[nodiscard]] std::string template_of(const std::string& unit);
[[nodiscard]] bool is_template(const std::string& unit);
/// "postgresql@15.service" to "15"; empty for templates and for names without an instance.
[[nodiscard]] std::string instance_of(const std::string& unit);

/// fnmatch(3) without special characters: the pattern is one name.
[[nodiscard]] bool is_plain(const std::string& pattern);

/// fnmatch(3) of a [[unit]] pattern.
[[nodiscard]] bool matches(const std::string& pattern, const std::string& unit);

/// "batch-*.service" to "batch-.service", whose drop-ins every unit has that the pattern matches
/// (systemd.unit(5)); empty for other patterns.
[[nodiscard]] std::string prefix_of(const std::string& pattern);

/// Every instance of the template matches, so that the template can carry the drop-in.
[[nodiscard]] bool matches_all_instances(const std::string& pattern, const std::string& name);

}  // namespace trireme::systemd
