// SPDX-License-Identifier: Apache-2.0
// Parses Docker's answers. Users choose the labels and names in them, so every member may be
// missing or of another type.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/result.hpp"
#include "trireme/config/container_labels.hpp"
#include "trireme/policy/address.hpp"
#include "trireme/policy/published.hpp"
#include "trireme/workload/capabilities.hpp"

namespace trireme::docker {

using config::RawLabels;

/// What a listing or an inspection reports about a container.
struct ContainerFacts {
  std::string id;
  std::string name;      // without the leading slash
  std::string image_id;  // "sha256:…"
  RawLabels labels;      // the image's included
  std::string network_mode;
  bool is_mode_sure = false;  // network_mode is from an inspection; it never changes
  bool is_running = false;

  // Only in an inspection:
  bool is_inspected = false;
  std::uint32_t pid = 0;
  std::string started;  // start time in Docker's format; it identifies the start
  std::string sandbox;  // the file that keeps its network namespace open; may be empty
  std::string cgroup_parent;
  bool publishes_ports = false;
  std::vector<policy::PublishedPort> published;  // as the engine has bound them; sorted
  std::vector<std::string> networks;             // names of the networks that it is attached to
  std::vector<policy::Address> addresses;        // its addresses there; empty while it is stopped
  workload::ContainerCapabilities capabilities;
};

struct Event {
  std::string action;  // "create", "start", "die", …
  std::string id;
};

/// A network of an engine.
struct NetworkFacts {
  std::string name;
  std::vector<policy::Prefix> prefixes;  // only of the bridge driver; empty for any other driver
};

struct EngineFacts {
  std::string version;
  std::string cgroup_driver;
  std::string cgroup_version;
};

/// A line of /events; nullopt if it is about neither a container nor a network. The id is empty for
/// a network.
[[nodiscard]] Result<std::optional<Event>> parse_event(std::string_view json);
/// /containers/json. Entries without a valid id or labels are skipped and counted in `malformed`.
[[nodiscard]] Result<std::vector<ContainerFacts>> parse_listing(std::string_view json,
                                                                std::size_t& malformed);
/// /containers/ID/json.
[[nodiscard]] Result<ContainerFacts> parse_inspection(std::string_view json);
/// Config.Labels of /images/ID/json.
[[nodiscard]] Result<RawLabels> parse_image_labels(std::string_view json);
/// /networks. Prefixes that cannot be parsed are skipped.
[[nodiscard]] Result<std::vector<NetworkFacts>> parse_networks(std::string_view json);
/// /info.
[[nodiscard]] Result<EngineFacts> parse_info(std::string_view json);

/// 64 lower-case hexadecimal digits.
[[nodiscard]] bool is_container_id(std::string_view text);

}  // namespace trireme::docker
