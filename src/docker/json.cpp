// SPDX-License-Identifier: Apache-2.0
#include "json.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "trireme/base/json.hpp"

namespace trireme::docker {
namespace {

using nlohmann::json;

const json& member(const json& object, const char* key) {
  static const json null;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : null;
}

std::string text_of(const json& value) {
  return value.is_string() ? value.get<std::string>() : std::string();
}

std::vector<std::string> texts_of(const json& value) {
  std::vector<std::string> texts;
  if (value.is_array()) {
    std::ranges::transform(value, std::back_inserter(texts), text_of);
  }
  return texts;
}

/// Labels are null if there are none. A value that is not a string is an error, because skipping
/// the label would change the identity.
Result<RawLabels> labels_of(const json& value) {
  RawLabels labels;
  if (!value.is_null() && !value.is_object()) {
    return fail("its labels are not a JSON object");
  }
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) {
      return fail("the value of its label '" + key + "' is not a string");
    }
    labels[key] = text.get<std::string>();
  }
  return labels;
}

std::string without_slash(const std::string& name) {
  return name.starts_with('/') ? name.substr(1) : name;
}

Result<json> parsed(std::string_view text, const char* what) {
  auto value = parse_json(text);
  if (!value) {
    return fail(std::string("cannot parse ") + what + ": " + value.error().message);
  }
  if (!value->is_structured()) {
    return fail(std::string(what) + " is neither an object nor an array");
  }
  return value;
}

/// A container can have several names ("/web", and "/other/alias" for legacy links). Its own name
/// is the one without a second slash.
std::string own_name(const json& names) {
  for (const std::string& name : texts_of(names)) {
    if (without_slash(name).find('/') == std::string::npos) {
      return without_slash(name);
    }
  }
  return {};
}

/// True if the mount is Docker's or Podman's socket, or a directory that contains it.
bool holds_socket(const json& mount) {
  const std::string source = text_of(member(mount, "Source"));
  return source.ends_with("/docker.sock") || source.ends_with("/podman.sock") || source == "/run" ||
         source == "/var/run" || source == "/";
}

workload::ContainerCapabilities capabilities_of(const json& inspection) {
  const json& host = member(inspection, "HostConfig");
  const json& mounts = member(inspection, "Mounts");
  workload::ContainerCapabilities capabilities;
  capabilities.privileged = member(host, "Privileged") == true;
  capabilities.add = texts_of(member(host, "CapAdd"));
  capabilities.drop = texts_of(member(host, "CapDrop"));
  capabilities.has_host_pids = text_of(member(host, "PidMode")) == "host";
  capabilities.has_docker_socket = mounts.is_array() && std::ranges::any_of(mounts, holds_socket);
  return capabilities;
}

void read_networks(const json& inspection, ContainerFacts& facts) {
  const json& networks = member(member(inspection, "NetworkSettings"), "Networks");
  if (!networks.is_object()) {
    return;
  }
  for (const auto& [name, endpoint] : networks.items()) {
    facts.networks.push_back(name);
    for (const char* key : {"IPAddress", "GlobalIPv6Address"}) {
      if (const auto address = policy::Address::parse(text_of(member(endpoint, key)))) {
        facts.addresses.push_back(*address);
      }
    }
  }
}

std::optional<std::uint16_t> port_number(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port != 0 ? std::optional(port)
                                                                               : std::nullopt;
}

constexpr std::size_t kMostPublished = 256;  // a range of ports can be published

/// NetworkSettings.Ports: {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": null}.
std::vector<policy::PublishedPort> published_ports(const json& ports) {
  std::set<policy::PublishedPort> found;
  if (!ports.is_object()) {
    return {};
  }
  for (const auto& [name, bindings] : ports.items()) {
    const std::size_t slash = std::min(name.find('/'), name.size());
    const auto port = port_number(std::string_view(name).substr(0, slash));
    const std::string protocol = name.substr(slash);
    if (!port || !bindings.is_array() || (protocol != "/tcp" && protocol != "/udp")) {
      continue;
    }
    for (const json& binding : bindings) {
      const auto host_port = port_number(text_of(member(binding, "HostPort")));
      if (host_port && found.size() < kMostPublished) {
        found.insert(
            {.protocol = protocol == "/tcp" ? std::uint8_t{IPPROTO_TCP} : std::uint8_t{IPPROTO_UDP},
             .port = *port,
             .host_port = *host_port});
      }
    }
  }
  return {found.begin(), found.end()};
}

}  // namespace

bool is_container_id(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

Result<std::optional<Event>> parse_event(std::string_view text) {
  const auto event = parsed(text, "an event");
  if (!event) {
    return tl::unexpected(event.error());
  }
  const std::string type = text_of(member(*event, "Type"));
  Event found{text_of(member(*event, "Action")), text_of(member(member(*event, "Actor"), "ID"))};
  if (type == "network") {
    found.id.clear();
    return found;
  }
  if (type != "container" || !is_container_id(found.id)) {
    return std::nullopt;
  }
  return found;
}

Result<std::vector<ContainerFacts>> parse_listing(std::string_view text, std::size_t& malformed) {
  malformed = 0;
  const auto listing = parsed(text, "the list of containers");
  if (!listing || !listing->is_array()) {
    return fail("the list of containers is not a JSON array");
  }
  std::vector<ContainerFacts> containers;
  for (const json& item : *listing) {
    ContainerFacts facts;
    facts.id = text_of(member(item, "Id"));
    auto labels = labels_of(member(item, "Labels"));
    if (!is_container_id(facts.id) || !labels) {
      ++malformed;
      continue;
    }
    facts.name = own_name(member(item, "Names"));
    facts.image_id = text_of(member(item, "ImageID"));
    facts.labels = std::move(*labels);
    facts.network_mode = text_of(member(member(item, "HostConfig"), "NetworkMode"));
    facts.is_running =
        text_of(member(item, "State")) == "running" || text_of(member(item, "State")) == "paused";
    containers.push_back(std::move(facts));
  }
  return containers;
}

Result<ContainerFacts> parse_inspection(std::string_view text) {
  const auto inspection = parsed(text, "the inspection");
  if (!inspection) {
    return tl::unexpected(inspection.error());
  }
  ContainerFacts facts;
  facts.id = text_of(member(*inspection, "Id"));
  if (!is_container_id(facts.id)) {
    return fail("the inspection has no container id");
  }
  auto labels = labels_of(member(member(*inspection, "Config"), "Labels"));
  if (!labels) {
    return tl::unexpected(labels.error());
  }
  const json& host = member(*inspection, "HostConfig");
  if (!host.is_object()) {
    return fail("the inspection has no HostConfig");
  }
  facts.name = without_slash(text_of(member(*inspection, "Name")));
  facts.image_id = text_of(member(*inspection, "Image"));
  facts.labels = std::move(*labels);
  facts.network_mode = text_of(member(host, "NetworkMode"));
  facts.cgroup_parent = text_of(member(host, "CgroupParent"));
  facts.publishes_ports =
      member(host, "PublishAllPorts") == true || !member(host, "PortBindings").empty();
  facts.published = published_ports(member(member(*inspection, "NetworkSettings"), "Ports"));
  facts.capabilities = capabilities_of(*inspection);
  read_networks(*inspection, facts);
  const json& pid = member(member(*inspection, "State"), "Pid");
  facts.pid = pid.is_number_unsigned() && pid.get<std::uint64_t>() <= UINT32_MAX
                  ? pid.get<std::uint32_t>()
                  : 0;
  facts.started = text_of(member(member(*inspection, "State"), "StartedAt"));
  facts.sandbox = text_of(member(member(*inspection, "NetworkSettings"), "SandboxKey"));
  facts.is_running = facts.pid != 0;
  facts.is_inspected = facts.is_mode_sure = true;
  return facts;
}

Result<RawLabels> parse_image_labels(std::string_view text) {
  const auto image = parsed(text, "the image's inspection");
  if (!image) {
    return tl::unexpected(image.error());
  }
  const json& config = member(*image, "Config");
  if (!config.is_object()) {
    return fail("the image's inspection has no Config");
  }
  return labels_of(member(config, "Labels"));
}

Result<std::vector<NetworkFacts>> parse_networks(std::string_view text) {
  const auto listing = parsed(text, "the list of networks");
  if (!listing || !listing->is_array()) {
    return fail("the list of networks is not a JSON array");
  }
  std::vector<NetworkFacts> networks;
  for (const json& item : *listing) {
    NetworkFacts facts{.name = text_of(member(item, "Name")), .prefixes = {}};
    const json& subnets = member(member(item, "IPAM"), "Config");
    if (text_of(member(item, "Driver")) == "bridge" && subnets.is_array()) {
      for (const json& subnet : subnets) {
        if (const auto prefix = policy::Prefix::parse(text_of(member(subnet, "Subnet")))) {
          facts.prefixes.push_back(*prefix);
        }
      }
    }
    networks.push_back(std::move(facts));
  }
  return networks;
}

Result<EngineFacts> parse_info(std::string_view text) {
  const auto info = parsed(text, "/info");
  if (!info) {
    return tl::unexpected(info.error());
  }
  return EngineFacts{text_of(member(*info, "ServerVersion")),
                     text_of(member(*info, "CgroupDriver")),
                     text_of(member(*info, "CgroupVersion"))};
}

}  // namespace trireme::docker
