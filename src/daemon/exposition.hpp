// SPDX-License-Identifier: Apache-2.0
// Builds a page in Prometheus's text format 0.0.4: families of samples, each with help and type.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace trireme::daemon {

class Exposition {
 public:
  using Labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;

  /// Adds a family with one sample and no labels.
  void counter(std::string_view name, std::string_view help, std::uint64_t value);
  void gauge(std::string_view name, std::string_view help, std::uint64_t value);
  /// Begins a family. Its samples must follow before the next family, each with different labels.
  void counters(std::string_view name, std::string_view help) { family(name, "counter", help); }
  void gauges(std::string_view name, std::string_view help) { family(name, "gauge", help); }
  void sample(const Labels& labels, std::uint64_t value);
  void sample(const Labels& labels, double value);

  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  void family(std::string_view name, std::string_view type, std::string_view help);
  void begin_sample(const Labels& labels);

  std::string text_;
  std::string name_;  // of the family
};

}  // namespace trireme::daemon
