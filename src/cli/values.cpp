// SPDX-License-Identifier: Apache-2.0
#include "values.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "trireme/base/nearest.hpp"
#include "trireme/policy/labels.hpp"

namespace trireme::cli {
namespace {

/// "a, b or c"
std::string alternatives(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
  }
  return text;
}

}  // namespace

CLI::Validator one_of(const std::vector<std::string>& words) {
  const auto check = [words](const std::string& value) {
    return std::ranges::find(words, value) != words.end()
               ? std::string()
               : fmt::format("invalid value '{}'; {}", value,
                             did_you_mean(value, words, "use " + alternatives(words)));
  };
  // CLI::IsMember describes its words in the same form.
  return {check, "{" + CLI::detail::join(words, ",") + "}"};
}

CLI::Validator not_empty() {
  return {[](const std::string& value) {
            return std::string(value.empty() ? "the value must not be empty" : "");
          },
          ""};
}

CLI::Validator label() {
  return {[](const std::string& value) {
            const auto parsed = policy::parse_label(value);
            return parsed ? std::string() : parsed.error().text();
          },
          ""};
}

CLI::Validator property() {
  return {[](const std::string& value) {
            const std::size_t equals = value.find('=');
            return equals == std::string::npos || equals == 0
                       ? fmt::format(
                             "invalid property '{}': not NAME=VALUE; for example: -p "
                             "MemoryMax=1G",
                             value)
                       : std::string();
          },
          ""};
}

Result<std::chrono::seconds> parse_time_span(const std::string& text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string unit(end, text.data() + text.size());
  const std::int64_t factor = unit.empty() || unit == "s" ? 1
                              : unit == "m"               ? 60
                              : unit == "h"               ? 3600
                              : unit == "d"               ? 86400
                                                          : 0;
  if (error != std::errc() || factor == 0 || number < 0 ||
      number > 1'000'000'000 / factor) {  // more would overflow a time in nanoseconds
    return fail("invalid time span '" + text + "'",
                "use a number with a unit, such as 90s, 15m, 2h or 7d");
  }
  return std::chrono::seconds(number * factor);
}

CLI::Validator time_span() {
  return {[](const std::string& value) {
            const auto parsed = parse_time_span(value);
            return parsed ? std::string() : parsed.error().text();
          },
          ""};
}

}  // namespace trireme::cli
