// SPDX-License-Identifier: Apache-2.0
#include "identity_reader.hpp"

#include <fmt/format.h>
#include <fnmatch.h>

#include <array>

#include <algorithm>

#include "policy_reader.hpp"
#include "trireme/base/nearest.hpp"

namespace trireme::config {
namespace {

/// What to write in the place of another unit's name.
std::string service_hint(std::string_view name) {
  constexpr std::array<std::string_view, 10> kTypes = {".socket",    ".timer", ".path",   ".target",
                                                       ".slice",     ".mount", ".device", ".swap",
                                                       ".automount", ".scope"};
  for (const std::string_view type : kTypes) {
    if (name.ends_with(type)) {
      return fmt::format("write '{}.service'{}", name.substr(0, name.size() - type.size()),
                         type == ".socket" ? ": its .socket comes with it" : "");
    }
  }
  return fmt::format("did you mean '{}.service'?", name);
}

}  // namespace

void IdentityReader::read(const std::vector<Document>& documents) {
  for (const Document& document : documents) {
    TableReader top(document, document.root(), "", reporter_);
    read_host(top);
    read_trust(top);
    read_docker(top);
    for (auto& entry : top.entries("unit")) {
      read_unit(std::move(entry));
    }
    for (auto& entry : top.entries("launch")) {
      read_launch(std::move(entry));
    }
    read_metrics(top);
    top.finish({"defaults", "network", "allow", "deny", "test"}, "policy.toml");
  }
  check_unit_sizes();
  check_peers();
}

void IdentityReader::read_host(TableReader& top) {
  auto section = top.section("host");
  if (!section || !claim_section(*section, "host", section_places_)) {
    return;
  }
  if (const auto name = section->name("name")) {
    identity_.host_name = name->value;
  }
  identity_.host_labels = section->labels("labels");
  for (const auto& [key, prefixes] :
       {std::pair{"peers", &identity_.peers}, {"nat", &identity_.nat}}) {
    for (const Text& text : section->list(key)) {
      if (auto prefix = policy::Prefix::parse(text.value)) {
        prefixes->push_back(*prefix);
      } else {
        reporter_.error(section->document().inside(*text.node, 0), prefix.error());
      }
    }
  }
  if (const auto* peers = section->find("peers"); peers != nullptr) {
    peers_place_ = section->document().at(*peers);
  }
  section->finish();
}

// [trust] may stand in a later file.
void IdentityReader::check_peers() {
  if (!identity_.peers.empty() && trust_files_.empty()) {
    reporter_.warn(peers_place_,
                   "[host] has peers and there is no [trust]: other hosts stay unlabelled",
                   "trirectl pki makes certificates or a shared secret; until then they are "
                   "@world, or a [[network]]");
  }
}

std::vector<std::string> IdentityReader::read_key_patterns(TableReader& section,
                                                           std::string_view key) {
  std::vector<std::string> patterns;
  for (const Text& text : section.list(key)) {
    const std::string_view pattern = text.value;
    const std::string_view plain = pattern.substr(0, pattern.find('*'));
    const bool star_at_end = plain.size() == pattern.size() || plain.size() + 1 == pattern.size();
    // "com.docker." before a star is no whole key: give it an end to be checked with.
    const auto status = pattern == "*" ? Status{}
                                       : policy::check_key(plain.size() == pattern.size()
                                                               ? std::string(plain)
                                                               : std::string(plain) + "x");
    if (!star_at_end) {
      section.error(text, fmt::format("'*' can only end '{}'", pattern),
                    "com.example.* matches every key that starts with com.example.");
    } else if (!status) {
      reporter_.error(section.where(text), status.error());
    } else {
      patterns.push_back(text.value);
    }
  }
  return patterns;
}

void IdentityReader::read_docker(TableReader& top) {
  using Containers = policy::DockerSettings::Containers;
  auto section = top.section("docker");
  if (!section || !claim_section(*section, "docker", section_places_)) {
    return;
  }
  policy::DockerSettings& docker = identity_.docker;
  read_sockets(*section);
  section->choice<Containers>("containers",
                              {{"all", Containers::all},
                               {"labelled", Containers::labelled},
                               {"labeled", Containers::labelled},
                               {"host-network", Containers::host_network},
                               {"none", Containers::none}},
                              docker.containers);
  docker.image_labels = read_key_patterns(*section, "image_labels");
  auto ignored = read_key_patterns(*section, "ignore_labels");
  if (section->has("ignore_labels")) {
    docker.ignore_labels = std::move(ignored);
  }
  docker.labels = read_key_patterns(*section, "labels");
  if (section->has("labels") && section->has("ignore_labels")) {
    section->error("[docker] has both labels and ignore_labels",
                   "keep one: with labels, no other key is identity");
  } else if (const auto* list = section->find("labels");
             list != nullptr && list->is_array() && list->as_array()->empty()) {
    section->error("an empty list of labels leaves no container an identity",
                   "labels = [\"app\", \"team-*\"], or remove it");
  }
  read_label_from(*section);
  section->finish();
}

void IdentityReader::read_sockets(TableReader& section) {
  constexpr const char* kExample = "socket = [\"/run/docker.sock\", \"/run/podman/podman.sock\"]";
  if (!section.has("socket")) {
    return;
  }
  std::vector<std::string> sockets;
  for (const Text& socket : section.text_or_list("socket")) {
    if (!policy::is_printable(socket.value)) {
      section.error(socket, "'socket' in [docker] holds a control character");
    } else if (!socket.value.starts_with('/')) {
      const bool url = socket.value.starts_with("unix://");
      section.error(socket, fmt::format("'{}' is no absolute path", socket.value),
                    url ? fmt::format("write {}", socket.value.substr(7)) : kExample);
    } else if (std::ranges::find(sockets, socket.value) != sockets.end()) {
      section.error(socket, fmt::format("'{}' stands here twice", socket.value));
    } else {
      sockets.push_back(socket.value);
    }
  }
  if (const auto* list = section.find("socket");
      list != nullptr && list->is_array() && list->as_array()->empty()) {
    section.error("an empty list of sockets names no engine",
                  "containers = \"none\" where there are to be none");
  }
  if (!sockets.empty()) {
    identity_.docker.sockets = std::move(sockets);
  }
}

void IdentityReader::read_label_from(TableReader& section) {
  for (const auto& [key, source] : section.texts("label_from")) {
    for (const std::string* each : {&key, &source.value}) {
      if (const Status valid = policy::check_key(*each); !valid) {
        reporter_.error(section.where(source), valid.error());
      }
    }
    identity_.docker.label_from.emplace_back(key, source.value);
  }
}

void IdentityReader::read_unit(TableReader reader) {
  policy::UnitRule unit;
  unit.where = reader.where();
  reader.knows({"name", "labels"});
  read_unit_name(reader, unit);
  const std::size_t errors = reporter_.errors();
  unit.labels = reader.labels("labels");
  if (unit.labels.empty() && (reader.has("labels") || reader.lacks("labels")) &&
      reporter_.errors() == errors) {
    reader.error("this unit has no labels", "labels = { app = \"db\" }");
  }
  reader.finish();
  identity_.units.push_back(std::move(unit));
}

void IdentityReader::read_unit_name(TableReader& reader, policy::UnitRule& unit) {
  const auto name = reader.name("name");
  if (!name) {
    if (reader.lacks("name")) {
      reader.error("this unit has no 'name'", "name = \"postgresql@*.service\"");
    }
    return;
  }
  unit.name = name->value;
  if (constexpr std::string_view kTemplate = "@.service";
      name->value.ends_with(kTemplate) && name->value.find_first_of("*?[\\") == std::string::npos) {
    unit.name.insert(unit.name.size() - kTemplate.size() + 1, "*");
    reporter_.warn(reader.where(*name),
                   fmt::format("'{}' is a template, which never runs itself; taken for '{}'",
                               name->value, unit.name),
                   fmt::format("write name = \"{}\", or one instance of it", unit.name));
  }
  const auto [place, first] = unit_places_.emplace(unit.name, reader.where(*name));
  if (!first) {
    reader.error(*name,
                 fmt::format("unit '{}' stands in {} already", name->value, place->second.text()),
                 "a unit has one set of labels");
  } else if (name->value.ends_with(".scope")) {
    // systemd starts its processes, which talk, before anybody is asked.
    reader.error(
        *name, fmt::format("a scope cannot be a [[unit]]: '{}'", name->value),
        "nothing can hold a scope back until it is enforced; start its command with trirun");
  } else if (!name->value.ends_with(".service")) {
    reader.error(*name, fmt::format("'{}' is not the name of a service", name->value),
                 service_hint(name->value));
  } else if (name->value.find('/') != std::string::npos) {
    reader.error(*name, fmt::format("unit name '{}' holds a '/'", name->value),
                 "a name as systemctl shows it, not a path");
  } else if (::fnmatch(name->value.c_str(), "trireme.service", FNM_NOESCAPE) == 0) {
    reader.error(*name, fmt::format("'{}' covers trireme.service itself", name->value),
                 "trireme cannot be a workload; narrow the pattern");
  }
}

// [host] labels are added to each workload, and may stand in a later file.
void IdentityReader::check_unit_sizes() {
  for (const auto& unit : identity_.units) {
    policy::LabelSet together = unit.labels;
    if (auto status = together.add_host_labels(identity_.host_labels); !status) {
      reporter_.error(unit.where, status.error());
    }
  }
}

void IdentityReader::read_launch(TableReader reader) {
  policy::LaunchGrant launch;
  launch.where = reader.where();
  reader.knows({"user", "group", "labels"});
  if (const auto user = reader.name("user")) {
    launch.user = user->value;
  }
  if (const auto group = reader.name("group")) {
    launch.group = group->value;
  }
  if (reader.has("user") && reader.has("group")) {
    reader.error("this launch grant has both 'user' and 'group'", "write two [[launch]] entries");
  } else if (reader.lacks("user") && reader.lacks("group")) {
    reader.error("this launch grant has no 'user' or 'group'",
                 "user = \"deploy\"; root needs no grant");
  }
  read_grants(reader, launch);
  reader.finish();
  identity_.launches.push_back(std::move(launch));
}

void IdentityReader::read_grants(TableReader& reader, policy::LaunchGrant& launch) {
  const std::size_t errors = reporter_.errors();
  for (const Text& text : reader.list("labels")) {
    auto label = policy::parse_label_pattern(text.value);
    if (!label) {
      reporter_.error(reader.where(text), label.error());
      continue;
    }
    launch.labels.push_back(std::move(*label));
  }
  if (launch.labels.empty() && (reader.has("labels") || reader.lacks("labels")) &&
      reporter_.errors() == errors) {
    reader.error("this launch grant has no labels", "labels = [\"app=web*\", \"env=dev\"]");
  }
}

void IdentityReader::read_metrics(TableReader& top) {
  auto section = top.section("metrics");
  if (!section || !claim_section(*section, "metrics", section_places_)) {
    return;
  }
  const auto listen = section->name("listen");
  section->finish();
  if (!listen) {
    return;
  }
  auto address = policy::SocketAddress::parse(listen->value);
  if (!address) {
    reporter_.error(section->where(*listen), address.error());
    return;
  }
  if (!address->address.is_loopback()) {
    reporter_.warn(
        section->where(*listen),
        "the metrics can be read from beyond this host, by whoever reaches " + address->text(),
        "they need no password; 127.0.0.1 keeps them here");
  }
  identity_.metrics_listen = *address;
}

}  // namespace trireme::config
