// Which container a cgroup belongs to, by its path.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace trireme::docker {

/// The id in the name of a scope, "docker-ID.scope" or "libpod-ID.scope" (systemd driver); empty
/// where it has none.
[[nodiscard]] std::string id_of_scope(std::string_view name);
/// The id in the name of a directory, "ID" or "libpod-ID" (cgroupfs driver); empty where it has
/// none. Only the parent tells whether such a directory is a container's.
[[nodiscard]] std::string id_of_directory(std::string_view name);
/// `path` up to the directory that bears the container's id: its processes may have gone to cgroups
/// below it. Empty where none does.
[[nodiscard]] std::string own_part(const std::string& path, std::string_view id);
/// A container's --cgroup-parent as a path below the root, "" for the root itself; nullopt where it
/// is a slice's name or cannot be watched.
[[nodiscard]] std::optional<std::string> parent_path(const std::string& cgroup_parent);

}  // namespace trireme::docker
