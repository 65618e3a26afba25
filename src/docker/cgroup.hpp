// SPDX-License-Identifier: Apache-2.0
// Which container a cgroup belongs to, by its path.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace trireme::docker {

/// Programs that make containers, as far as names of cgroups tell them apart.
enum class EngineKind : std::uint8_t { docker, podman };

/// "Docker", "Podman"
[[nodiscard]] const char* text(EngineKind kind);
/// Whose a container's cgroup is, by its directory's name: Podman's begin with "libpod-".
[[nodiscard]] EngineKind engine_of_cgroup(std::string_view name);
/// Which engine listens at a socket, by the path that it leads to; nullopt where that does not
/// tell.
[[nodiscard]] std::optional<EngineKind> engine_of_socket(const std::string& path);
/// Which engine sends this Server: header; nullopt where it does not tell.
[[nodiscard]] std::optional<EngineKind> engine_of_server(std::string_view header);

/// The id in the name of a scope, "docker-ID.scope" or "libpod-ID.scope" (systemd driver); empty
/// where it has none.
[[nodiscard]] std::string id_of_scope(std::string_view name);
/// The id in the name of a directory, "ID" or "libpod-ID" (cgroupfs driver); empty where it has
/// none. Only the parent tells whether such a directory is a container's.
[[nodiscard]] std::string id_of_directory(std::string_view name);
/// Whether the daemon hears of the birth of a container's cgroup and takes it for one: it is a
/// scope below slices alone, or in the parent of a cgroupfs driver. Any other cgroup can be
/// quarantined only after its engine has reported the container. Those of rootless engines are
/// below a service.
[[nodiscard]] bool is_taken_at_birth(const std::string& path);
/// `path` up to the directory that bears the container's id: its processes may have gone to cgroups
/// below it. Empty where none does.
[[nodiscard]] std::string own_part(const std::string& path, std::string_view id);
/// A container's --cgroup-parent as a path below the root, "" for the root itself; nullopt where it
/// is a slice's name or cannot be watched.
[[nodiscard]] std::optional<std::string> parent_path(const std::string& cgroup_parent);

}  // namespace trireme::docker
