// SPDX-License-Identifier: Apache-2.0
// Values of options: what is valid, checked while the command line is parsed, so that a wrong value
// is invalid usage. Completion offers the words of one_of() and, for others, what the name of the
// value in the help stands for (see completion.cpp).
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "trireme/base/result.hpp"

namespace trireme::cli {

/// One of these words.
[[nodiscard]] CLI::Validator one_of(const std::vector<std::string>& words);
[[nodiscard]] CLI::Validator not_empty();

/// A label, KEY=VALUE.
[[nodiscard]] CLI::Validator label();
/// A property of a scope, NAME=VALUE.
[[nodiscard]] CLI::Validator property();

/// Parses "90", "90s", "15m", "2h" or "7d".
[[nodiscard]] Result<std::chrono::seconds> parse_time_span(const std::string& text);
[[nodiscard]] CLI::Validator time_span();

/// Ports for policy::parse_ports(), and exactly one for policy::parse_port(). Use them with
/// Option::transform(): names of services (/etc/services) are replaced with numbers, because the
/// daemon knows no names.
[[nodiscard]] CLI::Validator ports();
[[nodiscard]] CLI::Validator one_port();

}  // namespace trireme::cli
