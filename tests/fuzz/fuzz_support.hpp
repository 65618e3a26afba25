// SPDX-License-Identifier: Apache-2.0
// Helpers of the fuzz targets.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/config/loader.hpp"

namespace trireme::fuzz {

/// Aborts with a message if `holds` is false. Unlike assert(), in every build.
inline void require(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
  }
}

/// The input as one file, or as two that are separated by the first line "#---".
inline std::vector<config::Source> sources(const std::uint8_t* data, std::size_t size,
                                           const std::string& name) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  constexpr std::string_view kSeparator = "\n#---\n";
  const std::size_t split = input.find(kSeparator);
  std::vector<config::Source> sources = {{name + ".toml", std::string(input.substr(0, split))}};
  if (split != std::string_view::npos) {
    sources.push_back({name + ".d/1.toml", std::string(input.substr(split + kSeparator.size()))});
  }
  return sources;
}

/// Checks properties that the diagnostics of any input have.
inline void check_diagnostics(const config::Configuration& configuration,
                              const std::vector<config::Source>& sources) {
  bool errors = false;
  for (const auto& diagnostic : configuration.diagnostics) {
    errors = errors || diagnostic.severity == config::Diagnostic::Severity::error;
    require(policy::is_printable(diagnostic.text()), "a diagnostic is printable");
    require(!diagnostic.message.empty(), "a diagnostic has a message");
    for (const auto& source : sources) {
      require(source.file != diagnostic.where.file ||
                  diagnostic.where.column <= source.content.size() + 2,
              "a column is inside its file");
    }
  }
  require(errors != configuration.valid(), "valid() means no errors");
}

}  // namespace trireme::fuzz
