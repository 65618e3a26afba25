// SPDX-License-Identifier: Apache-2.0
// parse(), with the additional results that load() needs.
#pragma once

#include <vector>

#include "identity_reader.hpp"
#include "reporter.hpp"

namespace trireme::config {

struct Parsed {
  policy::Policy policy;
  Host host;
  std::vector<TrustFile> trust_files;
  std::vector<policy::Finding> port_forms;
};

/// The labels that identity files give to workloads, or let users give.
[[nodiscard]] policy::Vocabulary labels_of(const Host& host);

/// Reads both sets of sources. Runs the [[test]] entries, and warns of what policy::lint() finds,
/// if the policy has no errors.
[[nodiscard]] Parsed parse_sources(const std::vector<Source>& policy,
                                   const std::vector<Source>& identity, Reporter& reporter);

/// The names of all sources, policy first.
[[nodiscard]] std::vector<std::string> file_names(const std::vector<Source>& policy,
                                                  const std::vector<Source>& identity);

}  // namespace trireme::config
