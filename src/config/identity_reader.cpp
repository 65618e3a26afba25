// SPDX-License-Identifier: Apache-2.0
#include "identity_reader.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include <array>

#include <algorithm>

#include "trireme/base/nearest.hpp"

namespace trireme::config {
namespace {

/// The hint for the name of a unit that is not a service.
std::string service_hint(std::string_view name) {
  constexpr std::array<std::string_view, 10> kTypes = {".socket",    ".timer", ".path",   ".target",
                                                       ".slice",     ".mount", ".device", ".swap",
                                                       ".automount", ".scope"};
  for (const std::string_view type : kTypes) {
    if (name.ends_with(type)) {
      return fmt::format("write '{}.service'{}", name.substr(0, name.size() - type.size()),
                         type == ".socket" ? ", which includes its .socket unit" : "");
    }
  }
  return fmt::format("did you mean '{}.service'?", name);
}

}  // namespace

void IdentityReader::read(const std::vector<Document>& documents) {
  MergedSection host(identity_shape(), "host");
  MergedSection trust(identity_shape(), "trust");
  MergedSection docker(identity_shape(), "docker");
  MergedSection metrics(identity_shape(), "metrics");
  for (const Document& document : documents) {
    const TableReader top(document, identity_shape(), policy_shape(), reporter_);
    for (MergedSection* section : {&host, &trust, &docker, &metrics}) {
      section->add(top);
    }
    for (const TableReader& entry : top.entries("unit")) {
      read_unit(entry);
    }
    for (const TableReader& entry : top.entries("launch")) {
      read_launch(entry);
    }
  }
  read_host(host);
  read_trust(trust);
  read_docker(docker);
  read_metrics(metrics);
  check_unit_sizes();
  check_peers();
}

void IdentityReader::read_host(const MergedSection& section) {
  if (section.empty()) {
    return;
  }
  if (const auto name = section.at("name").name("name")) {
    host_.name = name->value;
  }
  host_.labels = section.at("labels").labels("labels");
  for (const auto& [key, prefixes] : {std::pair{"peers", &host_.peers}, {"nat", &host_.nat}}) {
    const TableReader& part = section.at(key);
    for (const Text& text : part.list(key)) {
      if (auto prefix = policy::Prefix::parse(text.value)) {
        prefixes->push_back(*prefix);
      } else {
        reporter_.error(part.document().inside(*text.node, 0), prefix.error());
      }
    }
  }
  const TableReader& part = section.at("peers");
  if (const auto* peers = part.find("peers"); peers != nullptr) {
    peers_place_ = part.document().at(*peers);
  }
  read_acknowledged(section.at("acknowledge"));
}

void IdentityReader::read_acknowledged(const TableReader& section) {
  const std::vector<std::string> known(kCapabilities.begin(), kCapabilities.end());
  for (const Text& text : section.list("acknowledge")) {
    if (std::ranges::find(known, text.value) != known.end()) {
      host_.acknowledge.insert(text.value);
      continue;
    }
    section.error(
        text,
        fmt::format("'{}' in 'acknowledge' is not a capability that trireme warns of", text.value),
        did_you_mean(text.value, known, fmt::format("use {}", fmt::join(known, ", "))));
  }
}

void IdentityReader::check_peers() {
  if (!host_.peers.empty() && trust_files_.empty()) {
    reporter_.warn(peers_place_,
                   "[host] has peers, but there is no [trust]: remote hosts stay unlabeled",
                   "create certificates or a shared secret with trirectl pki; until then remote "
                   "hosts are @world or a [[network]]");
  }
}

std::vector<std::string> IdentityReader::read_key_patterns(const TableReader& section,
                                                           std::string_view key) {
  std::vector<std::string> patterns;
  for (const Text& text : section.list(key)) {
    const std::string_view pattern = text.value;
    const std::string_view plain = pattern.substr(0, pattern.find('*'));
    const bool star_at_end = plain.size() == pattern.size() || plain.size() + 1 == pattern.size();
    // "com.docker.", before the '*', is not a valid key by itself: append a character to check it.
    const auto status = pattern == "*" ? Status{}
                                       : policy::check_key(plain.size() == pattern.size()
                                                               ? std::string(plain)
                                                               : std::string(plain) + "x");
    if (!star_at_end) {
      section.error(text, fmt::format("'*' is only allowed at the end of '{}'", pattern),
                    "com.example.* matches every key that starts with com.example.");
    } else if (!status) {
      reporter_.error(section.where(text), status.error());
    } else {
      patterns.push_back(text.value);
    }
  }
  return patterns;
}

void IdentityReader::read_docker(const MergedSection& section) {
  using Containers = config::DockerSettings::Containers;
  if (section.empty()) {
    return;
  }
  read_sockets(section.at("socket"));
  // In the order of the words in shape.cpp.
  section.at("containers")
      .choice<Containers>("containers",
                          {Containers::all, Containers::labeled, Containers::labeled,
                           Containers::host_network, Containers::none},
                          host_.docker.containers);
  read_label_keys(section);
  read_label_from(section.at("label_from"));
}

void IdentityReader::read_label_keys(const MergedSection& section) {
  config::DockerSettings& docker = host_.docker;
  docker.image_labels = read_key_patterns(section.at("image_labels"), "image_labels");
  auto ignored = read_key_patterns(section.at("ignore_labels"), "ignore_labels");
  if (section.has("ignore_labels")) {
    docker.ignore_labels = std::move(ignored);
  }
  const TableReader& part = section.at("labels");
  docker.labels = read_key_patterns(part, "labels");
  if (section.has("labels") && section.has("ignore_labels")) {
    reporter_.error(section.where("labels"),
                    fmt::format("[docker] has both labels and ignore_labels (at {})",
                                section.where("ignore_labels").text()),
                    "keep one: labels already excludes all other keys");
  } else if (part.is_empty_list("labels")) {
    part.error(
        "'labels' in [docker] is an empty list, which leaves every container without an identity",
        "write labels = [\"app\", \"team-*\"] or remove the key");
  }
}

void IdentityReader::read_sockets(const TableReader& section) {
  constexpr const char* kExample = "socket = [\"/run/docker.sock\", \"/run/podman/podman.sock\"]";
  if (!section.has("socket")) {
    return;
  }
  std::vector<std::string> sockets;
  for (const Text& socket : section.list("socket")) {
    if (!policy::is_printable(socket.value)) {
      section.error(socket, "'socket' in [docker] contains a control character");
    } else if (!socket.value.starts_with('/')) {
      const bool url = socket.value.starts_with("unix://");
      section.error(socket, fmt::format("'{}' is not an absolute path", socket.value),
                    url ? fmt::format("write {}", socket.value.substr(7)) : kExample);
    } else if (std::ranges::find(sockets, socket.value) != sockets.end()) {
      section.error(socket, fmt::format("'{}' is listed twice", socket.value));
    } else {
      sockets.push_back(socket.value);
    }
  }
  if (section.is_empty_list("socket")) {
    section.error("'socket' in [docker] is an empty list",
                  "to ignore all containers, write containers = \"none\"");
  }
  if (!sockets.empty()) {
    host_.docker.sockets = std::move(sockets);
  }
}

void IdentityReader::read_label_from(const TableReader& section) {
  for (const auto& [key, source] : section.texts("label_from")) {
    for (const std::string* each : {&key, &source.value}) {
      if (const Status valid = policy::check_key(*each); !valid) {
        reporter_.error(section.where(source), valid.error());
      }
    }
    host_.docker.label_from.emplace_back(key, source.value);
  }
}

void IdentityReader::read_unit(const TableReader& reader) {
  config::UnitRule unit;
  unit.where = reader.where();
  read_unit_name(reader, unit);
  const std::size_t errors = reporter_.errors();
  unit.labels = reader.labels("labels");
  if (unit.labels.empty() && !reader.is_flawed("labels") &&
      (reader.has("labels") || reader.lacks("labels")) && reporter_.errors() == errors) {
    reader.error("this unit has no labels", "add labels = { app = \"db\" }");
  }
  host_.units.push_back(std::move(unit));
}

void IdentityReader::read_unit_name(const TableReader& reader, config::UnitRule& unit) {
  const auto name = reader.name("name");
  if (!name) {
    if (reader.lacks("name")) {
      reader.error("this unit has no 'name'", "add name = \"postgresql@*.service\"");
    }
    return;
  }
  unit.name = name->value;
  if (constexpr std::string_view kTemplate = "@.service";
      name->value.ends_with(kTemplate) && name->value.find_first_of("*?[\\") == std::string::npos) {
    unit.name.insert(unit.name.size() - kTemplate.size() + 1, "*");
    reporter_.warn(reader.where(*name),
                   fmt::format("'{}' is a template, which never runs itself; treated as '{}'",
                               name->value, unit.name),
                   fmt::format("write name = \"{}\", or the name of one instance", unit.name));
  }
  const auto [place, first] = unit_places_.emplace(unit.name, reader.where(*name));
  if (!first) {
    reader.error(
        *name, fmt::format("unit '{}' is already defined at {}", name->value, place->second.text()),
        "a unit has one label set; merge the entries");
  } else if (name->value.ends_with(".scope")) {
    // The processes of a scope run before systemd creates the scope, so they could communicate
    // before policy is enforced.
    reader.error(
        *name, fmt::format("a scope cannot be a [[unit]]: '{}'", name->value),
        "systemd cannot delay a scope until it is enforced; start its command with trirun");
  } else if (!name->value.ends_with(".service")) {
    reader.error(*name, fmt::format("'{}' is not the name of a service", name->value),
                 service_hint(name->value));
  } else if (name->value.find('/') != std::string::npos) {
    reader.error(*name, fmt::format("unit name '{}' contains a '/'", name->value),
                 "write the name as systemctl shows it, not a path");
  } else if (::fnmatch(name->value.c_str(), "trireme.service", FNM_NOESCAPE) == 0) {
    reader.error(*name, fmt::format("'{}' matches trireme.service itself", name->value),
                 "trireme cannot be a workload; narrow the pattern");
  }
}

// Called after all files are read: the labels of [host] are added to each workload, and can be in a
// later file.
void IdentityReader::check_unit_sizes() {
  for (const auto& unit : host_.units) {
    policy::LabelSet together = unit.labels;
    if (auto status = together.add_host_labels(host_.labels); !status) {
      reporter_.error(unit.where, status.error());
    }
  }
}

void IdentityReader::read_launch(const TableReader& reader) {
  config::LaunchGrant launch;
  launch.where = reader.where();
  if (const auto user = reader.name("user")) {
    launch.user = user->value;
  }
  if (const auto group = reader.name("group")) {
    launch.group = group->value;
  }
  if (reader.has("user") && reader.has("group")) {
    reader.error("this [[launch]] entry has both 'user' and 'group'", "write two entries");
  } else if (reader.lacks("user") && reader.lacks("group")) {
    reader.error("this [[launch]] entry has neither 'user' nor 'group'",
                 "add user = \"deploy\"; root needs no entry");
  }
  read_grants(reader, launch);
  host_.launches.push_back(std::move(launch));
}

void IdentityReader::read_grants(const TableReader& reader, config::LaunchGrant& launch) {
  const std::size_t errors = reporter_.errors();
  for (const Text& text : reader.list("labels")) {
    auto label = policy::parse_label_pattern(text.value);
    if (!label) {
      reporter_.error(reader.where(text), label.error());
      continue;
    }
    launch.labels.push_back(std::move(*label));
  }
  if (launch.labels.empty() && !reader.is_flawed("labels") &&
      (reader.has("labels") || reader.lacks("labels")) && reporter_.errors() == errors) {
    reader.error("this [[launch]] entry has no labels", "add labels = [\"app=web*\", \"env=dev\"]");
  }
}

void IdentityReader::read_metrics(const MergedSection& section) {
  if (section.empty()) {
    return;
  }
  const TableReader& part = section.at("listen");
  const auto listen = part.name("listen");
  if (!listen) {
    return;
  }
  auto address = policy::SocketAddress::parse(listen->value);
  if (!address) {
    reporter_.error(part.where(*listen), address.error());
    return;
  }
  if (!address->address.is_loopback()) {
    reporter_.warn(
        part.where(*listen),
        "metrics are readable from other hosts, by anyone who can reach " + address->text(),
        "they need no password; listen on 127.0.0.1 to restrict them to this host");
  }
  host_.metrics_listen = *address;
}

}  // namespace trireme::config
