// SPDX-License-Identifier: Apache-2.0
// The format of a command's output.
#pragma once

#include <CLI/CLI.hpp>

namespace trireme::cli {

/// -o table|wide|json; --json is short for -o json.
struct Output {
  bool json = false;
  bool wide = false;  // a table with more columns, where a command has more
};

/// Adds -o and --json. A later command line option counts, also one after a subcommand.
void add_output(CLI::App& command, Output& output);

}  // namespace trireme::cli
