// SPDX-License-Identifier: Apache-2.0
// Any bytes as a selector: no crash, errors point into the text, the canonical text has the same
// meaning, and a matcher that reads only the canonical text agrees on what matches.
#include <algorithm>
#include <optional>

#include "fuzz_support.hpp"

namespace {

using namespace trireme;
using policy::LabelSet;
using policy::Requirement;

/// A label set with the first value that the condition names, or without its key. Each operator
/// matches exactly one of the two. For `v*` the value is v. Empty if the label does not fit.
std::optional<LabelSet> with_first_value(const Requirement& requirement) {
  const std::string first = requirement.values.empty() ? "v" : requirement.values.front();
  LabelSet labels;
  if (!labels.set(requirement.key, first.substr(0, first.find('*')))) {
    return std::nullopt;
  }
  return labels;
}

/// Label sets in which each key of the selector has a value that its conditions name, another
/// value, none, or is absent.
std::vector<LabelSet> label_sets(const policy::Selector& selector) {
  std::vector<LabelSet> sets(4);
  for (const auto& requirement : selector.requirements()) {
    if (const auto labels = with_first_value(requirement)) {
      const std::string value = *labels->find(requirement.key);
      (void)sets[1].set(requirement.key, value);
      (void)sets[2].set(requirement.key, value + "x");
    }
    (void)sets[3].set(requirement.key, "");
  }
  return sets;
}

bool is_value(std::string_view written, std::string_view value) {
  if (!written.empty() && written.back() == '*') {
    written.remove_suffix(1);
    return value.substr(0, written.size()) == written;
  }
  return written == value;
}

/// `written`: "a" or "a, b".
bool is_one_of(std::string_view written, std::string_view value) {
  for (std::size_t at = written.find(", "); at != std::string_view::npos; at = written.find(", ")) {
    if (is_value(written.substr(0, at), value)) {
      return true;
    }
    written.remove_prefix(at + 2);
  }
  return is_value(written, value);
}

/// One condition of a canonical text: "k", "!k", "k=v", "k!=v", "k in (a, b)", "k notin (a, b)". A
/// key contains no '=', '!' or space, and a value no '=', comma, parenthesis or space.
bool holds(std::string_view condition, const LabelSet& labels) {
  const bool absent = condition.front() == '!';
  const std::string_view text = condition.substr(absent ? 1 : 0);
  const std::size_t end = std::min(text.find_first_of("=! "), text.size());
  const std::string* value = labels.find(text.substr(0, end));
  const std::string_view rest = text.substr(end);
  if (rest.empty()) {
    return (value == nullptr) == absent;
  }
  const bool list = rest.front() == ' ';
  const bool negated = rest.front() == '!' || rest.substr(0, 7) == " notin ";
  const std::size_t open = list ? rest.find('(') : rest.find('=');
  const std::string_view written = rest.substr(open + 1, rest.size() - open - (list ? 2 : 1));
  return negated != (value != nullptr && is_one_of(written, *value));
}

/// Whether the labels match, by the canonical text alone.
bool text_matches(std::string_view text, const LabelSet& labels) {
  if (text == "*") {
    return true;
  }
  std::size_t start = 0;
  bool in_list = false;
  bool all = true;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (text[i] == ',' && !in_list)) {
      all = all && holds(text.substr(start, i - start), labels);
      start = i + 1;
    } else if (text[i] == '(' || text[i] == ')') {
      in_list = text[i] == '(';
    }
  }
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto selector = policy::Selector::parse(input);
  if (!selector) {
    fuzz::require(selector.error().offset <= input.size(), "an error points into the text");
    fuzz::require(!selector.error().error.message.empty(), "an error has a message");
    return 0;
  }
  const auto again = policy::Selector::parse(selector->text());
  fuzz::require(again.has_value() && *again == *selector && again->text() == selector->text(),
                "canonical text parses to the same selector");
  const std::vector<LabelSet> sets = label_sets(*selector);
  for (const LabelSet& labels : sets) {
    fuzz::require(selector->matches(labels) == text_matches(selector->text(), labels),
                  "the text says what matches");
  }
  for (const Requirement& requirement : selector->requirements()) {
    const auto named = with_first_value(requirement);
    fuzz::require(!named || requirement.matches(*named) != requirement.matches({}),
                  "a condition matches either its first value or the absent key");
    fuzz::require(!requirement.needs_key() || !requirement.matches({}),
                  "needs_key() agrees with matches()");
    const auto* exact = requirement.exact_values();
    for (const LabelSet& labels : sets) {
      const std::string* value = labels.find(requirement.key);
      fuzz::require(exact == nullptr || !requirement.matches(labels) ||
                        (value != nullptr && std::ranges::count(*exact, *value) == 1),
                    "exact_values() agrees with matches()");
    }
  }
  return 0;
}
