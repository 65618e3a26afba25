// SPDX-License-Identifier: Apache-2.0
// parse() with what load() needs besides.
#pragma once

#include <vector>

#include "identity_reader.hpp"
#include "reporter.hpp"

namespace trireme::config {

struct Parsed {
  policy::Policy policy;
  policy::Identity identity;
  std::vector<TrustFile> trust_files;
};

/// Reads both sets of sources and runs the tests where the policy has no error.
[[nodiscard]] Parsed parse_sources(const std::vector<Source>& policy,
                                   const std::vector<Source>& identity, Reporter& reporter);

/// Their names, in order.
[[nodiscard]] std::vector<std::string> file_names(const std::vector<Source>& policy,
                                                  const std::vector<Source>& identity);

}  // namespace trireme::config
