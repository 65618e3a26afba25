// SPDX-License-Identifier: Apache-2.0
// A comparison of policies as text and as JSON, for `policy diff`.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trireme/policy/diff.hpp"

namespace trireme::cli {

/// What a diff is based on, besides its result.
struct DiffBasis {
  bool has_identity = false;
  std::vector<std::string> notes;  // what could not be compared, and why
  std::uint64_t unknown = 0;       // open connections whose endpoints are not known
  std::string seen;                // the time span of --seen as it was given; empty: not asked for
  std::uint64_t seen_seconds = 0;
  std::string journal_problem;  // why the journal was not read; empty if it was
  std::uint64_t forgotten = 0;  // kinds of flow that the daemon had no room for
};

[[nodiscard]] nlohmann::json diff_json(const policy::PolicyDiff& diff, const DiffBasis& basis);
/// Prints the tables of the diff on stdout, and the notes on stderr.
void print_diff(const policy::PolicyDiff& diff, const DiffBasis& basis);

}  // namespace trireme::cli
