// SPDX-License-Identifier: Apache-2.0
// How a command line is divided into options, their values and other words, where CLI11 must not do
// it: for a command that follows the options, and for completion, which has an unfinished line.
#pragma once

#include <CLI/CLI.hpp>
#include <span>
#include <string>

namespace trireme::cli {

/// True if the option is followed by a value: it is not a flag.
[[nodiscard]] inline bool takes_value(const CLI::Option& option) {
  return option.get_items_expected_max() > 0;
}

/// A word that begins with a dash.
struct OptionWord {
  const CLI::Option* option = nullptr;  // nullptr: the app has no such option
  std::size_t value_at = 0;             // where its value begins in this word; 0: not in this word
  bool awaits_value = false;            // the next word is its value
};
/// Reads "--name", "--name=value", "-n", "-nvalue", or flags and an option together: "-fn".
[[nodiscard]] OptionWord read_option(const CLI::App& app, const std::string& word);

/// The options in front of a command.
struct OptionPart {
  std::size_t words = 0;  // options, their values and the "--" after them. One more than there are
                          // if the value of the last option is missing
  bool ended = false;     // by "--" or by a word that is no option
};
[[nodiscard]] OptionPart option_part(const CLI::App& app, std::span<const std::string> words);

}  // namespace trireme::cli
