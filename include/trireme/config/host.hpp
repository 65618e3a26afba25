// SPDX-License-Identifier: Apache-2.0
// identity.toml and identity.d: the identity of this host, and what becomes a workload.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trireme/policy/policy.hpp"

namespace trireme::config {

struct DockerSettings {
  enum class Containers : std::uint8_t { all, labeled, host_network, none };
  std::vector<std::string> sockets = {"/run/docker.sock"};  // of the engines; at least one
  Containers containers = Containers::all;
  std::vector<std::string> image_labels;  // label keys that count although they come from the
                                          // image; a trailing '*' matches a prefix
  std::vector<std::string> ignore_labels = {
      "org.opencontainers.*", "org.label-schema.*", "com.docker.*",
      "desktop.docker.io/*",  "io.podman.*",        "io.buildah.*",
      "PODMAN_SYSTEMD_UNIT",  "traefik.*",          "maintainer"};
  /// If not empty, only these label keys count, and ignore_labels does not apply. A trailing '*'
  /// matches a prefix.
  std::vector<std::string> labels;
  /// Labels derived from others: (key, the container's label whose value it gets). A label with
  /// that key on the container itself takes precedence.
  std::vector<std::pair<std::string, std::string>> label_from;
};

/// Makes systemd units workloads. `name` is an fnmatch(3) pattern for the unit's full name.
struct UnitRule {
  std::string name;
  policy::LabelSet labels;
  policy::SourceLocation where;
};

/// A [[launch]] entry: allows a user or group other than root to start workloads with these labels.
/// Exactly one of `user` and `group` is set.
struct LaunchGrant {
  std::string user;
  std::string group;
  std::vector<policy::Label> labels;  // a trailing '*' in a value matches a prefix
  policy::SourceLocation where;
  /// True if every label of the set is covered by an entry of `labels`.
  [[nodiscard]] bool permits(const policy::LabelSet& requested) const;
};

/// Files of [trust]; empty: not given.
struct TrustSettings {
  std::string certificate, key, psk_file;
  std::vector<std::string> ca, revoked;
};

/// Capabilities that let a workload bypass its own policy. Only these can be acknowledged.
inline constexpr std::array<std::string_view, 5> kCapabilities = {
    "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_MODULE"};

struct Host {
  std::string name;
  policy::LabelSet labels;  // added to every workload of this host
  std::vector<policy::Prefix> peers;
  std::vector<policy::Prefix> nat;  // peers whose addresses are translated by a third machine
  std::set<std::string, std::less<>> acknowledge;  // of kCapabilities: no warnings about these
  TrustSettings trust;
  DockerSettings docker;
  std::vector<UnitRule> units;
  std::vector<LaunchGrant> launches;
  std::optional<policy::SocketAddress> metrics_listen;  // nullopt: off
  /// Like Policy::digest, over identity.toml and identity.d. The contents of keys do not count.
  std::array<std::uint8_t, 32> digest{};
};

}  // namespace trireme::config
