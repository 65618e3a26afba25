// SPDX-License-Identifier: Apache-2.0
#include "exposition.hpp"

#include <fmt/format.h>

#include <iterator>

namespace trireme::daemon {
namespace {

void append_escaped(std::string& text, std::string_view value) {
  for (const char c : value) {
    if (c == '\n') {
      text += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') {
      text += '\\';
    }
    text += c;
  }
}

}  // namespace

void Exposition::counter(std::string_view name, std::string_view help, std::uint64_t value) {
  counters(name, help);
  sample({}, value);
}

void Exposition::gauge(std::string_view name, std::string_view help, std::uint64_t value) {
  gauges(name, help);
  sample({}, value);
}

void Exposition::family(std::string_view name, std::string_view type, std::string_view help) {
  name_ = name;
  fmt::format_to(std::back_inserter(text_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void Exposition::begin_sample(const Labels& labels) {
  text_ += name_;
  char separator = '{';
  for (const auto& [key, value] : labels) {
    text_ += separator;
    text_ += key;
    text_ += "=\"";
    append_escaped(text_, value);
    text_ += '"';
    separator = ',';
  }
  if (separator == ',') {
    text_ += '}';
  }
}

void Exposition::sample(const Labels& labels, std::uint64_t value) {
  begin_sample(labels);
  fmt::format_to(std::back_inserter(text_), " {}\n", value);
}

void Exposition::sample(const Labels& labels, double value) {
  begin_sample(labels);
  fmt::format_to(std::back_inserter(text_), " {}\n", value);
}

}  // namespace trireme::daemon
