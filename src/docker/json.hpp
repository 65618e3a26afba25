// SPDX-License-Identifier: Apache-2.0
// Docker's answers as values. Everything here is fed by whoever writes labels and names: nothing is
// trusted to be there or of its type.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/result.hpp"
#include "trireme/policy/address.hpp"
#include "trireme/workload/capabilities.hpp"

namespace trireme::docker {

using RawLabels = std::map<std::string, std::string>;

/// What a listing or an inspection says of a container.
struct ContainerFacts {
  std::string id;
  std::string name;      // without the leading slash
  std::string image_id;  // "sha256:…"
  RawLabels labels;      // the image's included
  std::string network_mode;
  bool is_mode_sure = false;  // an inspection has told it; it is for life
  bool is_running = false;

  // Only an inspection tells these.
  bool is_inspected = false;
  std::uint32_t pid = 0;
  std::string started;  // when, as Docker writes it: another time is another start
  std::string sandbox;  // the file where the runtime keeps its network namespace; may be empty
  std::string cgroup_parent;
  bool publishes_ports = false;
  std::vector<std::string> networks;       // names of those that it is attached to
  std::vector<policy::Address> addresses;  // that it was given there; known while it runs
  workload::ContainerCapabilities capabilities;
};

struct Event {
  std::string action;  // "create", "start", "die", …
  std::string id;
};

/// A network that an engine has made.
struct NetworkFacts {
  std::string name;
  std::vector<policy::Prefix> prefixes;  // of a bridge on this host; none of any other driver
};

struct EngineFacts {
  std::string version;
  std::string cgroup_driver;
  std::string cgroup_version;
};

/// A line of /events; nullopt where it is not about a container. Its id is empty where it is about
/// a network.
[[nodiscard]] Result<std::optional<Event>> parse_event(std::string_view json);
/// /containers/json. Entries without a usable id are left out, and counted in `malformed`.
[[nodiscard]] Result<std::vector<ContainerFacts>> parse_listing(std::string_view json,
                                                                std::size_t& malformed);
/// /containers/ID/json.
[[nodiscard]] Result<ContainerFacts> parse_inspection(std::string_view json);
/// Config.Labels of /images/ID/json.
[[nodiscard]] Result<RawLabels> parse_image_labels(std::string_view json);
/// /networks. What cannot be understood is left out.
[[nodiscard]] Result<std::vector<NetworkFacts>> parse_networks(std::string_view json);
/// /info.
[[nodiscard]] Result<EngineFacts> parse_info(std::string_view json);

/// 64 lower-case hexadecimal digits.
[[nodiscard]] bool is_container_id(std::string_view text);

}  // namespace trireme::docker
