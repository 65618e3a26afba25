// SPDX-License-Identifier: Apache-2.0
#include "record.hpp"

#include <nlohmann/json.hpp>

#include "trireme/kernel/netns.hpp"

namespace trireme::workload {
namespace {

using nlohmann::json;

/// FNV-1a, to detect labels and a record that were not written together. It need not resist
/// attacks, because only root can write trusted.* xattrs.
std::uint64_t digest(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char byte : text) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3U;
  }
  return hash;
}

std::optional<Kind> kind_of(const std::string& name) {
  for (const Kind kind : {Kind::process, Kind::container, Kind::unit}) {
    if (name == text(kind)) {
      return kind;
    }
  }
  return std::nullopt;
}

/// Throws json::exception on wrong types. Records of older versions have no "places" but at most
/// one "network". In such a record, a quarantined container without "network" may be in the
/// daemon's network namespace or in an unknown one.
std::vector<Record::Place> places_of(const json& content, const Workload& workload) {
  std::vector<Record::Place> places;
  if (!content.contains("places")) {
    const auto network = content.value("network", std::uint64_t{0});
    if (network != 0 || workload.state == State::enforced || workload.kind != Kind::container) {
      places.push_back({network, content.value("whole_network", false)});
    }
    return places;
  }
  for (const json& place : content["places"]) {
    places.push_back({place.at("network").get<std::uint64_t>(), place.at("whole").get<bool>()});
  }
  return places;
}

/// Throws json::exception on missing keys and wrong types.
Record from_json(const json& content) {
  Record record;
  Workload& workload = record.workload;
  workload.name = content.at("name").get<std::string>();
  workload.number = content.at("number").get<policy::Number>();
  workload.container_id = content.at("container_id").get<std::string>();
  workload.state = content.at("state").get<std::string>() == text(State::enforced)
                       ? State::enforced
                       : State::quarantined;
  workload.reason = content.at("reason").get<std::string>();
  if (content.contains("former")) {
    workload.former = content["former"].get<std::vector<std::uint64_t>>();
  }
  const auto kind = kind_of(content.at("kind").get<std::string>());
  workload.kind = kind.value_or(Kind::process);
  record.places = places_of(content, workload);
  return record;
}

}  // namespace

Status write_record(const kernel::CgroupTree& tree, const Workload& workload) {
  if (workload.cgroup_path.empty()) {
    return {};
  }
  const std::string labels = workload.own_labels.encode();
  json record = {{"name", workload.name},         {"kind", text(workload.kind)},
                 {"number", workload.number},     {"container_id", workload.container_id},
                 {"state", text(workload.state)}, {"reason", workload.reason},
                 {"digest", digest(labels)},      {"netns", kernel::netns_cookie()}};
  record["places"] = json::array();
  for (const Place& place : workload.places) {
    record["places"].push_back(
        {{"network", place.network ? place.network->inode() : 0}, {"whole", place.whole_network}});
  }
  if (!workload.former.empty()) {
    record["former"] = workload.former;
  }
  // Names come from Docker and systemd: replace invalid UTF-8 instead of throwing.
  const std::string bytes = record.dump(-1, ' ', false, json::error_handler_t::replace);
  // Write the record first: it identifies the daemon that both xattrs belong to, and its digest
  // detects labels that do not belong to it.
  if (auto written = tree.set_attribute(workload.cgroup_path, kernel::kRecordXattr, bytes);
      !written) {
    return written;
  }
  return tree.set_attribute(workload.cgroup_path, kernel::kLabelsXattr, labels);
}

Status clear_record(const kernel::CgroupTree& tree, const std::string& cgroup_path) {
  if (auto cleared = tree.clear_attribute(cgroup_path, kernel::kLabelsXattr); !cleared) {
    return cleared;
  }
  return tree.clear_attribute(cgroup_path, kernel::kRecordXattr);
}

Result<std::optional<Record>> read_record(const kernel::CgroupTree& tree,
                                          const std::string& cgroup_path) {
  const auto record = tree.attribute(cgroup_path, kernel::kRecordXattr);
  const auto labels = tree.attribute(cgroup_path, kernel::kLabelsXattr);
  if (!record || !labels) {
    return tl::unexpected(!record ? record.error() : labels.error());
  }
  if (!record->has_value() && !labels->has_value()) {
    return std::nullopt;
  }
  const json content = json::parse(record->value_or(""), nullptr, false);
  if (content.is_object() && content.value("netns", json()).is_number_unsigned() &&
      content["netns"] != kernel::netns_cookie()) {
    return std::nullopt;
  }
  if (!content.is_object() || !labels->has_value()) {
    return fail("its record is incomplete or not JSON");
  }
  auto own = policy::LabelSet::decode(labels->value());
  if (!own) {
    return fail("its labels are unreadable: " + own.error().message);
  }
  try {
    Record found = from_json(content);
    Workload& workload = found.workload;
    if (content.at("digest").get<std::uint64_t>() != digest(labels->value())) {
      return fail("its labels do not match its record");
    }
    const auto kind = kind_of(content.at("kind").get<std::string>());
    const bool numbered =
        workload.number >= abi::kFirstNumber && workload.number <= abi::kLastNumber;
    if (!kind || (workload.number != 0 && !numbered)) {
      return fail("its record has an invalid kind or number");
    }
    workload.kind = *kind;
    workload.own_labels = std::move(*own);
    workload.cgroup_path = cgroup_path;
    return found;
  } catch (const json::exception& error) {
    return fail(std::string("its record is unreadable: ") + error.what());
  }
}

std::vector<std::string> find_records(const kernel::CgroupTree& tree) {
  std::vector<std::string> found;
  std::vector<std::string> open = {""};
  while (!open.empty()) {
    const std::string path = std::move(open.back());
    open.pop_back();
    for (const std::string& name : tree.children(path)) {
      open.push_back(path + "/" + name);
    }
    for (const char* name : {kernel::kRecordXattr, kernel::kLabelsXattr}) {
      const auto value = tree.attribute(path, name);
      if (value && value->has_value()) {
        found.push_back(path);
        break;
      }
    }
  }
  return found;
}

}  // namespace trireme::workload
