// SPDX-License-Identifier: Apache-2.0
// Parses property values: sizes, times, percentages, CPU lists.
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "property.hpp"

namespace trireme::systemd {
namespace {

constexpr std::uint64_t kInfinity = std::numeric_limits<std::uint64_t>::max();

/// Parses a non-negative decimal number at the start of `text` and removes it from `text`. False if
/// there is none.
bool take_number(std::string_view& text, double& number) {
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(number) || std::signbit(number)) {
    return false;
  }
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

std::string_view take_spaces(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  return first == std::string_view::npos ? std::string_view() : text.substr(first);
}

/// Microseconds in a unit of time of systemd.time(7); 0 for an unknown unit.
std::uint64_t unit_usec(std::string_view name) {
  constexpr std::uint64_t kSecond = 1'000'000;
  static constexpr std::pair<std::string_view, std::uint64_t> kUnits[] = {
      {"", kSecond},
      {"s", kSecond},
      {"sec", kSecond},
      {"second", kSecond},
      {"seconds", kSecond},
      {"m", 60 * kSecond},
      {"min", 60 * kSecond},
      {"minute", 60 * kSecond},
      {"minutes", 60 * kSecond},
      {"h", 3600 * kSecond},
      {"hr", 3600 * kSecond},
      {"hour", 3600 * kSecond},
      {"hours", 3600 * kSecond},
      {"d", 86400 * kSecond},
      {"day", 86400 * kSecond},
      {"days", 86400 * kSecond},
      {"w", 604800 * kSecond},
      {"week", 604800 * kSecond},
      {"weeks", 604800 * kSecond},
      {"ms", 1000},
      {"msec", 1000},
      {"us", 1},
      {"usec", 1},
  };
  for (const auto& [unit, usec] : kUnits) {
    if (unit == name) {
      return usec;
    }
  }
  return 0;
}

}  // namespace

Result<std::uint64_t> parse_size(const std::string& text) {
  if (text == "infinity") {
    return kInfinity;
  }
  static constexpr std::string_view kSuffixes = "BKMGTPE";
  std::string_view rest = text;
  double number = 0;
  if (!take_number(rest, number) || rest.size() > 1) {
    return fail("invalid size '" + text + "'", "use bytes or a suffix: 512M, 1.5G, infinity");
  }
  const std::size_t power = rest.empty() ? 0 : kSuffixes.find(rest.front());
  const double bytes =
      power == std::string_view::npos ? -1 : std::ldexp(number, static_cast<int>(10 * power));
  if (bytes < 0 || bytes >= std::ldexp(1.0, 63)) {
    return fail("invalid size '" + text + "'", "use bytes or a suffix: 512M, 1.5G, infinity");
  }
  return static_cast<std::uint64_t>(bytes);
}

Result<std::uint64_t> parse_time(const std::string& text) {
  if (text == "infinity") {
    return kInfinity;
  }
  std::string_view rest = take_spaces(text);
  double total = rest.empty() ? -1 : 0;
  while (!rest.empty() && total >= 0) {
    double number = 0;
    const bool found = take_number(rest, number);
    rest = take_spaces(rest);
    const std::string_view unit = rest.substr(0, rest.find_first_of("0123456789. \t"));
    const std::uint64_t usec = unit_usec(unit);
    total = found && usec != 0 ? total + number * static_cast<double>(usec) : -1;
    rest = take_spaces(rest.substr(unit.size()));
  }
  if (total < 0 || total >= std::ldexp(1.0, 63)) {
    return fail("invalid time span '" + text + "'", "use seconds or units: 90, 5min 20s, infinity");
  }
  return static_cast<std::uint64_t>(total);
}

Result<std::uint32_t> parse_percent(const std::string& text) {
  std::string_view rest = text;
  double number = 0;
  if (!take_number(rest, number) || rest != "%" || number > 1e6) {
    return fail("invalid percentage '" + text + "'", "for example: 20%");
  }
  return static_cast<std::uint32_t>(std::lround(number * 100));
}

Result<std::vector<std::uint8_t>> parse_cpus(const std::string& text) {
  constexpr unsigned kMaxCpus = 8192;
  std::vector<std::uint8_t> mask;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t separator = rest.find_first_of(", ");
    const std::string_view item = rest.substr(0, separator);
    rest = separator == std::string_view::npos ? std::string_view() : rest.substr(separator + 1);
    if (item.empty()) {
      continue;
    }
    unsigned first = 0;
    const char* end = item.data() + item.size();
    auto [at, error] = std::from_chars(item.data(), end, first);
    unsigned last = first;
    if (error == std::errc() && at != end && *at == '-') {
      std::tie(at, error) = [&] {
        const auto parsed = std::from_chars(at + 1, end, last);
        return std::pair(parsed.ptr, parsed.ec);
      }();
    }
    if (error != std::errc() || at != end || last < first || last >= kMaxCpus) {
      return fail("invalid CPU list '" + text + "'", "for example: 0-3,8");
    }
    mask.resize(std::max<std::size_t>(mask.size(), last / 8 + 1));
    for (unsigned cpu = first; cpu <= last; ++cpu) {
      mask[cpu / 8] = static_cast<std::uint8_t>(mask[cpu / 8] | 1U << cpu % 8);
    }
  }
  return mask;
}

}  // namespace trireme::systemd
