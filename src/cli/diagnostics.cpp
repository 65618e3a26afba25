// SPDX-License-Identifier: Apache-2.0
#include "diagnostics.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "command.hpp"
#include "diagnostic_text.hpp"
#include "table.hpp"
#include "trireme/systemd/unit_facts.hpp"

namespace trireme::cli {

nlohmann::json to_json(const std::vector<config::Diagnostic>& diagnostics) {
  auto list = nlohmann::json::array();
  for (const auto& diagnostic : diagnostics) {
    list.push_back({{"severity", is_error(diagnostic) ? "error" : "warning"},
                    {"file", diagnostic.where.file},
                    {"line", diagnostic.where.line},
                    {"column", diagnostic.where.column},
                    {"message", diagnostic.message},
                    {"hint", diagnostic.hint},
                    {"kind", diagnostic.kind},
                    {"text", diagnostic.text()}});
  }
  return list;
}

std::vector<config::Diagnostic> unit_warnings(const config::Host& host) {
  return systemd::view_units(std::make_shared<const config::Host>(host)).warnings;
}

void add_format(CLI::App& command, std::string& format) {
  command.add_option("--format", format, "text (default), json, or github: annotations for CI")
      ->check(CLI::IsMember({"text", "json", "github"}));
}

bool wants_json(const Globals& globals, const std::string& format) {
  return globals.json || format == "json";
}

void print_diagnostics(const std::string& directory,
                       const std::vector<config::Diagnostic>& diagnostics,
                       const std::string& format) {
  for (const auto& diagnostic : diagnostics) {
    if (format == "github") {
      fmt::print("{}\n", github_annotation(directory, diagnostic));
    } else {
      fmt::print("{}\n", fit(printable(diagnostic.text()), 4));
    }
  }
}

void report_invalid(const Globals& globals, const std::string& directory,
                    const std::vector<config::Diagnostic>& diagnostics, const char* outcome) {
  if (globals.json) {
    print_json({{"error", {{"message", directory + " is invalid"}, {"hint", ""}}},
                {"diagnostics", to_json(diagnostics)}});
  }
  for (const auto& diagnostic : diagnostics) {
    fmt::print(stderr, "{}\n", printable(diagnostic.text()));
  }
  fmt::print(stderr, "trirectl: {} is invalid: {}\n", printable(directory), outcome);
}

}  // namespace trireme::cli
