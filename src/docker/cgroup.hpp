// SPDX-License-Identifier: Apache-2.0
// Finds the container that a cgroup belongs to, from the cgroup's path.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace trireme::docker {

/// Container engines, as far as names of cgroups distinguish them.
enum class EngineKind : std::uint8_t { docker, podman };

/// "Docker", "Podman"
[[nodiscard]] const char* text(EngineKind kind);
/// The engine that owns a container's cgroup, from the name of its directory: Podman's begin with
/// "libpod-".
[[nodiscard]] EngineKind engine_of_cgroup(std::string_view name);
/// The engine that listens at a socket, from the path after following symbolic links; nullopt if
/// the path names neither.
[[nodiscard]] std::optional<EngineKind> engine_of_socket(const std::string& path);
/// The engine that sends this Server: header; nullopt if the header names neither.
[[nodiscard]] std::optional<EngineKind> engine_of_server(std::string_view header);

/// The container id in the name of a scope, "docker-ID.scope" or "libpod-ID.scope" (systemd
/// driver); empty if the name is of another form.
[[nodiscard]] std::string id_of_scope(std::string_view name);
/// The container id in the name of a directory, "ID" or "libpod-ID" (cgroupfs driver); empty if the
/// name is of another form. Whether such a directory belongs to a container depends on its parent.
[[nodiscard]] std::string id_of_directory(std::string_view name);
/// True if the daemon is notified when a container's cgroup with this path is created, and
/// recognizes it: a scope with only slices above it, or a child of a cgroupfs driver's parent. Any
/// other cgroup can be quarantined only after its engine has reported the container. Cgroups of
/// rootless engines are below a service, so they are not recognized.
[[nodiscard]] bool is_taken_at_birth(const std::string& path);
/// `path` up to and including the directory named after the container's id, because processes of a
/// container may be in cgroups below it. Empty if no directory in `path` is.
[[nodiscard]] std::string own_part(const std::string& path, std::string_view id);
/// A container's --cgroup-parent as a path below the cgroup root, "" for the root itself; nullopt
/// if it is not an absolute path (a slice's name, or empty).
[[nodiscard]] std::optional<std::string> parent_path(const std::string& cgroup_parent);

}  // namespace trireme::docker
