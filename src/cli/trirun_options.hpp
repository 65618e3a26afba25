// SPDX-License-Identifier: Apache-2.0
// trirun's command line.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trireme/base/result.hpp"
#include "trireme/policy/labels.hpp"

namespace trireme::cli {

struct TrirunOptions {
  enum class Wish : std::uint8_t { run, help, version };
  Wish wish = Wish::run;
  policy::LabelSet labels;
  std::vector<std::string> properties;  // NAME=VALUE
  std::string unit;
  std::optional<std::string> user;   // name or number
  std::optional<std::string> group;  // name or number
  std::string runtime_dir;
  std::vector<char*> command;  // ends with a null pointer, as execvp(3) wants it
};

/// Options end at the first word that is none, or at "--". Labels and properties are checked here,
/// before anything is asked of the daemon.
[[nodiscard]] Result<TrirunOptions> parse_trirun(int argc, char** argv);

[[nodiscard]] const char* trirun_usage();

}  // namespace trireme::cli
