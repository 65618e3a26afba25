// SPDX-License-Identifier: Apache-2.0
#include "trireme/config/lint.hpp"

#include "parse.hpp"

namespace trireme::config {

policy::Vocabulary labels_of(const Host& host) {
  policy::Vocabulary known;
  known.add(host.labels);
  for (const UnitRule& unit : host.units) {
    known.add(unit.labels);
  }
  for (const LaunchGrant& launch : host.launches) {
    for (const policy::Label& label : launch.labels) {
      known.add(label.key, label.value);
    }
  }
  // Of the labels of containers, only the keys can be in a file.
  for (const auto& made : host.docker.label_from) {
    known.add_key(made.first);
  }
  for (const std::string& key : host.docker.labels) {
    if (!key.ends_with('*')) {
      known.add_key(key);
    }
  }
  return known;
}

std::vector<Diagnostic> lint(const Configuration& configuration,
                             const std::vector<policy::LabelSet>& present) {
  if (!configuration.valid()) {
    return configuration.diagnostics;
  }
  Reporter reporter;
  for (const Diagnostic& diagnostic : configuration.diagnostics) {
    if (diagnostic.kind.empty()) {
      reporter.add(diagnostic);
    }
  }
  policy::Vocabulary known = labels_of(configuration.host);
  for (const policy::LabelSet& labels : present) {
    known.add(labels);
  }
  for (const policy::Finding& finding : policy::lint(configuration.policy, std::move(known))) {
    reporter.warn(finding);
  }
  for (const policy::Finding& finding : configuration.port_forms) {
    reporter.warn(finding);
  }
  return reporter.take(file_names(configuration.policy_sources, configuration.identity_sources));
}

}  // namespace trireme::config
