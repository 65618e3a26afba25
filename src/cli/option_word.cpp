// SPDX-License-Identifier: Apache-2.0
#include "option_word.hpp"

namespace trireme::cli {

OptionWord read_option(const CLI::App& app, const std::string& word) {
  if (word.starts_with("--")) {
    const std::size_t equals = word.find('=');
    const CLI::Option* option = app.get_option_no_throw(word.substr(0, equals));
    const bool valued = option != nullptr && takes_value(*option);
    return {.option = option,
            .value_at = valued && equals != std::string::npos ? equals + 1 : 0,
            .awaits_value = valued && equals == std::string::npos};
  }
  for (std::size_t at = 1; at < word.size(); ++at) {
    const CLI::Option* option = app.get_option_no_throw(std::string{'-', word[at]});
    const bool last = at + 1 == word.size();
    if (option == nullptr || takes_value(*option) || last) {
      const bool valued = option != nullptr && takes_value(*option);
      return {.option = option,
              .value_at = valued && !last ? at + 1 : 0,
              .awaits_value = valued && last};
    }
  }
  return {};
}

OptionPart option_part(const CLI::App& app, std::span<const std::string> words) {
  OptionPart part;
  while (part.words < words.size()) {
    const std::string& word = words[part.words];
    if (word == "--") {
      return {.words = part.words + 1, .ended = true};
    }
    if (word.size() < 2 || word.front() != '-') {
      return {.words = part.words, .ended = true};
    }
    part.words += read_option(app, word).awaits_value ? 2U : 1U;
  }
  return part;
}

}  // namespace trireme::cli
