// SPDX-License-Identifier: Apache-2.0
#include "trireme/config/host_diff.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace trireme::config {
namespace {

using Lines = std::vector<std::string>;

const char* text(DockerSettings::Containers containers) {
  switch (containers) {
    case DockerSettings::Containers::all:
      return "all";
    case DockerSettings::Containers::labeled:
      return "labeled";
    case DockerSettings::Containers::host_network:
      return "host-network";
    case DockerSettings::Containers::none:
      return "none";
  }
  return "";
}

std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& each : texts) {
    all += (all.empty() ? "" : ", ") + each;
  }
  return all;
}

std::string joined(const std::vector<policy::Prefix>& prefixes) {
  std::vector<std::string> texts;
  for (const policy::Prefix& prefix : prefixes) {
    texts.push_back(prefix.text());
  }
  return joined(texts);
}

std::string joined(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::vector<std::string> texts;
  for (const auto& [key, source] : pairs) {
    texts.push_back(key + " from " + source);
  }
  return joined(texts);
}

std::string launch_text(const LaunchGrant& grant) {
  std::vector<std::string> labels;
  for (const policy::Label& label : grant.labels) {
    labels.push_back(label.key + "=" + label.value);
  }
  return fmt::format("[[launch]] {} ({})",
                     grant.user.empty() ? "group " + grant.group : "user " + grant.user,
                     joined(labels));
}

void compare(Lines& lines, const char* name, const std::string& before, const std::string& after) {
  const auto shown = [](const std::string& value) { return value.empty() ? "none" : value; };
  if (before != after) {
    lines.push_back(fmt::format("{}: {} -> {}", name, shown(before), shown(after)));
  }
}

/// Entries that only one of the lists has, in any order.
template <typename Entry, typename Text>
void compare_entries(Lines& lines, const std::vector<Entry>& before,
                     const std::vector<Entry>& after, Text text_of) {
  std::multiset<std::string> was;
  std::multiset<std::string> is;
  std::ranges::transform(before, std::inserter(was, was.end()), text_of);
  std::ranges::transform(after, std::inserter(is, is.end()), text_of);
  Lines gone;
  Lines added;
  std::ranges::set_difference(was, is, std::back_inserter(gone));
  std::ranges::set_difference(is, was, std::back_inserter(added));
  for (const std::string& entry : gone) {
    lines.push_back(entry + ": removed");
  }
  for (const std::string& entry : added) {
    lines.push_back(entry + ": added");
  }
}

}  // namespace

std::vector<std::string> differing_settings(const Host& before, const Host& after) {
  Lines lines;
  compare(lines, "[host] name", before.name, after.name);
  compare(lines, "[host] labels", before.labels.text(), after.labels.text());
  compare(lines, "[host] peers", joined(before.peers), joined(after.peers));
  compare(lines, "[host] nat", joined(before.nat), joined(after.nat));
  compare(lines, "[host] acknowledge",
          joined(Lines(before.acknowledge.begin(), before.acknowledge.end())),
          joined(Lines(after.acknowledge.begin(), after.acknowledge.end())));
  compare(lines, "[trust] certificate", before.trust.certificate, after.trust.certificate);
  compare(lines, "[trust] key", before.trust.key, after.trust.key);
  compare(lines, "[trust] psk_file", before.trust.psk_file, after.trust.psk_file);
  compare(lines, "[trust] ca", joined(before.trust.ca), joined(after.trust.ca));
  compare(lines, "[trust] revoked", joined(before.trust.revoked), joined(after.trust.revoked));
  compare(lines, "[docker] socket", joined(before.docker.sockets), joined(after.docker.sockets));
  compare(lines, "[docker] containers", text(before.docker.containers),
          text(after.docker.containers));
  compare(lines, "[docker] labels", joined(before.docker.labels), joined(after.docker.labels));
  compare(lines, "[docker] label_from", joined(before.docker.label_from),
          joined(after.docker.label_from));
  compare(lines, "[docker] image_labels", joined(before.docker.image_labels),
          joined(after.docker.image_labels));
  compare(lines, "[docker] ignore_labels", joined(before.docker.ignore_labels),
          joined(after.docker.ignore_labels));
  compare(lines, "[metrics] listen", before.metrics_listen ? before.metrics_listen->text() : "",
          after.metrics_listen ? after.metrics_listen->text() : "");
  compare_entries(lines, before.units, after.units, [](const UnitRule& rule) {
    return fmt::format("[[unit]] {} ({})", rule.name, rule.labels.text());
  });
  compare_entries(lines, before.launches, after.launches, launch_text);
  return lines;
}

}  // namespace trireme::config
