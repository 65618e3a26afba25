// SPDX-License-Identifier: Apache-2.0
// Any bytes as a selector: no crash, errors point into the text, and the canonical text has the
// same meaning.
#include "fuzz_support.hpp"

namespace {

using namespace trireme;

std::vector<policy::LabelSet> label_sets(const policy::Selector& selector) {
  std::vector<policy::LabelSet> sets(3);
  // Label sets in which each key has a value that the requirement names, or another value.
  for (const auto& requirement : selector.requirements()) {
    const std::string value =
        requirement.values.empty()
            ? "v"
            : requirement.values.front().substr(0, requirement.values.front().find('*'));
    (void)sets[1].set(requirement.key, value);
    (void)sets[2].set(requirement.key, value + "x");
  }
  return sets;
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
  for (const auto& labels : label_sets(*selector)) {
    bool all = true;
    for (const auto& requirement : selector->requirements()) {
      all = all && requirement.matches(labels);
    }
    fuzz::require(selector->matches(labels) == all, "a selector is the AND of its requirements");
  }
  return 0;
}
