// SPDX-License-Identifier: Apache-2.0
// identity.toml and identity.d: who this host is, and who becomes a workload.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "trireme/policy/policy.hpp"

namespace trireme::policy {

struct DockerSettings {
  enum class Containers : std::uint8_t { all, labelled, host_network, none };
  std::vector<std::string> sockets = {"/run/docker.sock"};  // of the engines; at least one
  Containers containers = Containers::all;
  std::vector<std::string> image_labels;  // label keys that give identity although the image brings
                                          // them; a trailing '*' is a prefix
  std::vector<std::string> ignore_labels = {
      "org.opencontainers.*", "org.label-schema.*", "com.docker.*",
      "desktop.docker.io/*",  "io.podman.*",        "io.buildah.*",
      "PODMAN_SYSTEMD_UNIT",  "traefik.*",          "maintainer"};
  /// Keys that alone are identity, in the place of ignore_labels; a trailing '*' is a prefix.
  /// Empty: every key that is not ignored.
  std::vector<std::string> labels;
  /// Labels made from others: (key, the container's label whose value it gets). A label of that key
  /// that the container has itself wins.
  std::vector<std::pair<std::string, std::string>> label_from;
};

/// A systemd unit that is a workload, by fnmatch(3) pattern of its full name.
struct UnitRule {
  std::string name;
  LabelSet labels;
  SourceLocation where;
};

/// Who besides root may start workloads, and with which labels. Exactly one of user and group is
/// set.
struct LaunchGrant {
  std::string user;
  std::string group;
  std::vector<Label> labels;  // a value may end in '*' for a prefix
  SourceLocation where;
  /// Every label of the set is covered by some entry.
  [[nodiscard]] bool permits(const LabelSet& requested) const;
};

struct Trust {
  std::string certificate, key, psk_file;
  std::vector<std::string> ca, revoked;
};

struct Identity {
  std::string host_name;
  LabelSet host_labels;  // added to every workload of this host
  std::vector<Prefix> peers;
  std::vector<Prefix> nat;  // peers behind address translation by a third machine
  Trust trust;
  DockerSettings docker;
  std::vector<UnitRule> units;
  std::vector<LaunchGrant> launches;
  std::optional<SocketAddress> metrics_listen;  // nullopt: off
};

}  // namespace trireme::policy
