// SPDX-License-Identifier: Apache-2.0
// Shell completion from the definitions that parse the command line. The shells' functions (see
// etc/completions) call 'trirectl complete PROGRAM WORD...' with the words after the program's
// name, the last one being unfinished.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace trireme::cli {

/// What can stand in place of the last word.
struct Completion {
  enum class Kind : std::uint8_t {
    words,        // one of `words`
    files,        // names that the shell completes
    directories,  //
    users,        //
    groups,       //
    command,      // a command and its arguments, which the shell completes
  };
  struct Word {
    std::string text;  // the whole word, also if the last one already has a part of it
    std::string description = {};
  };
  Kind kind = Kind::words;
  /// Characters of the last word in front of the name: "--out=" (words: 0). For `command`, the
  /// number of words before the command, the program's name included.
  std::size_t skip = 0;
  std::vector<Word> words = {};

  /// "KIND SKIP", and then one line for each word: the word, a tab and the description.
  [[nodiscard]] std::string text() const;
};

/// Returns the result of the control method `words` of the daemon with this runtime directory
/// (empty: the default). Called at most once, and only if names are needed.
using KnownNames = std::function<nlohmann::json(const std::string& runtime_dir)>;

/// Completes a command line of the program `app`.
[[nodiscard]] Completion complete(const CLI::App& app, const std::vector<std::string>& words,
                                  const KnownNames& names);

/// Completes a command line of trirun.
[[nodiscard]] Completion complete_trirun(const std::vector<std::string>& words,
                                         const KnownNames& names);

}  // namespace trireme::cli
