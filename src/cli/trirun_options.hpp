// SPDX-License-Identifier: Apache-2.0
// The command line of trirun.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trireme/base/result.hpp"
#include "trireme/policy/labels.hpp"

namespace trireme::cli {

struct TrirunOptions {
  std::string text;  // what --help or --version print; if it is not empty, nothing is run
  policy::LabelSet labels;
  std::vector<std::string> properties;  // NAME=VALUE
  std::string unit;
  std::optional<std::string> user;   // name or number
  std::optional<std::string> group;  // name or number
  std::string runtime_dir;
  std::vector<char*> command;  // ends with a null pointer, for execvp(3)
};

/// Options end at the first argument that is not an option, or at "--". The syntax of labels and
/// properties is checked here, before the daemon is asked. Errors: invalid usage.
[[nodiscard]] Result<TrirunOptions> parse_trirun(int argc, char** argv);

/// Values of the options, as written.
struct TrirunValues {
  std::vector<std::string> labels;
  std::vector<std::string> properties;
  std::string unit;
  std::string slice;
  std::string user;
  std::string group;
  std::string runtime_dir;
};
/// Defines the options of trirun, for parse_trirun() and for completion.
void add_trirun_options(CLI::App& app, TrirunValues& values);

}  // namespace trireme::cli
