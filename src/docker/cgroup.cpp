// SPDX-License-Identifier: Apache-2.0
#include "cgroup.hpp"

#include <filesystem>

#include "json.hpp"

namespace trireme::docker {

const char* text(EngineKind kind) {
  return kind == EngineKind::podman ? "Podman" : "Docker";
}

EngineKind engine_of_cgroup(std::string_view name) {
  return name.starts_with("libpod-") ? EngineKind::podman : EngineKind::docker;
}

/// /run/docker.sock may be a symbolic link to Podman's socket, which may not exist yet.
std::optional<EngineKind> engine_of_socket(const std::string& path) {
  constexpr unsigned kMostLinks = 8;
  std::error_code none;
  std::filesystem::path led_to = path;
  for (unsigned i = 0; i < kMostLinks && std::filesystem::is_symlink(led_to, none); ++i) {
    led_to = led_to.parent_path() / std::filesystem::read_symlink(led_to, none);
  }
  const std::string name = led_to;
  return name.ends_with("/podman.sock")   ? std::optional(EngineKind::podman)
         : name.ends_with("/docker.sock") ? std::optional(EngineKind::docker)
                                          : std::nullopt;
}

std::optional<EngineKind> engine_of_server(std::string_view header) {
  return header.starts_with("Libpod/")   ? std::optional(EngineKind::podman)
         : header.starts_with("Docker/") ? std::optional(EngineKind::docker)
                                         : std::nullopt;
}

std::string id_of_scope(std::string_view name) {
  constexpr std::string_view kSuffix = ".scope";
  for (const std::string_view prefix : {"docker-", "libpod-"}) {
    if (name.starts_with(prefix) && name.ends_with(kSuffix)) {
      name.remove_prefix(prefix.size());
      name.remove_suffix(kSuffix.size());
      return is_container_id(name) ? std::string(name) : std::string();
    }
  }
  return {};
}

std::string id_of_directory(std::string_view name) {
  constexpr std::string_view kPrefix = "libpod-";
  if (name.starts_with(kPrefix)) {
    name.remove_prefix(kPrefix.size());
  }
  return is_container_id(name) ? std::string(name) : std::string();
}

bool is_taken_at_birth(const std::string& path) {
  const std::string parent = path.substr(0, path.rfind('/'));
  if (id_of_scope(path.substr(path.rfind('/') + 1)).empty()) {
    return parent == "/docker" || parent == "/libpod_parent";
  }
  for (std::size_t begin = 0; begin < parent.size();) {
    const std::size_t end = std::min(parent.find('/', begin + 1), parent.size());
    if (!std::string_view(parent).substr(begin, end - begin).ends_with(".slice")) {
      return false;
    }
    begin = end;
  }
  return true;
}

std::string own_part(const std::string& path, std::string_view id) {
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin + 1), path.size());
    const std::string_view name = std::string_view(path).substr(begin + 1, end - begin - 1);
    if (id_of_scope(name) == id || id_of_directory(name) == id) {
      return path.substr(0, end);
    }
    begin = end;
  }
  return {};
}

std::optional<std::string> parent_path(const std::string& cgroup_parent) {
  if (!cgroup_parent.starts_with('/')) {
    return std::nullopt;
  }
  std::string path = std::filesystem::path(cgroup_parent).lexically_normal();
  while (path.ends_with('/')) {
    path.pop_back();
  }
  return path;
}

}  // namespace trireme::docker
