// SPDX-License-Identifier: Apache-2.0
#include "top_layout.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <clocale>
#include <cmath>
#include <cwchar>
#include <numeric>

#include "trireme/policy/shorten.hpp"

namespace trireme::cli {
namespace {

constexpr std::size_t kColumnGap = 2;
constexpr std::size_t kNarrowName = 16;  // below it, numbers make room
constexpr std::size_t kNarrowestName = 4;
/// Rows whose cells decide the width of a column; on a screen there are fewer.
constexpr std::size_t kMeasured = 1'000;

struct Character {
  std::size_t bytes = 1;
  std::size_t width = 1;
};

Character character_at(std::string_view text, std::size_t at) {
  std::mbstate_t state{};
  wchar_t wide = 0;
  const std::size_t bytes = std::mbrtowc(&wide, text.data() + at, text.size() - at, &state);
  if (bytes == 0 || bytes > text.size() - at) {
    return {};  // a NUL, or no character of this locale
  }
  const int width = ::wcwidth(wide);
  return {.bytes = bytes, .width = width < 0 ? 1 : static_cast<std::size_t>(width)};
}

/// The longest prefix that is no wider than `width`.
std::string_view prefix(std::string_view text, std::size_t width) {
  std::size_t at = 0;
  for (std::size_t used = 0; at < text.size();) {
    const Character next = character_at(text, at);
    used += next.width;
    if (used > width) {
      break;
    }
    at += next.bytes;
  }
  return text.substr(0, at);
}

/// The longest suffix that is no wider than `width`.
std::string_view suffix(std::string_view text, std::size_t width) {
  std::size_t left = display_width(text);
  std::size_t at = 0;
  while (at < text.size() && left > width) {
    const Character next = character_at(text, at);
    left -= std::min(left, next.width);
    at += next.bytes;
  }
  while (at < text.size() && character_at(text, at).width == 0) {
    at += character_at(text, at).bytes;  // would combine with what comes before it
  }
  return text.substr(at);
}

/// "app=web,env=prod" as labels; nullopt if the text is something else.
std::optional<policy::LabelSet::Map> labels_in(const std::string& text) {
  policy::LabelSet::Map labels;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string part = text.substr(at, end - at);
    const std::size_t equals = part.find('=');
    if (equals == std::string::npos || equals == 0 ||
        !labels.emplace(part.substr(0, equals), part.substr(equals + 1)).second) {
      return std::nullopt;
    }
    at = end + 1;
  }
  return labels;
}

bool is_name(TopColumn column) {
  return column == TopColumn::name || column == TopColumn::other;
}

std::string last_text(std::int64_t last) {
  if (last == 0) {
    return "-";
  }
  const std::tm local = fmt::localtime(static_cast<std::time_t>(last));
  return fmt::format("{:%H:%M:%S}", local);
}

/// The widths of all columns in `shown`; names share what numbers leave.
std::vector<std::size_t> widths_of(TopView view, const std::vector<TopColumn>& shown,
                                   const std::vector<TopRow>& rows, std::size_t width) {
  std::vector<std::size_t> widths;
  for (const TopColumn column : shown) {
    std::size_t widest = display_width(title(view, column));
    for (std::size_t i = 0; i < std::min(rows.size(), kMeasured); ++i) {
      widest = std::max(widest, display_width(cell_text(rows[i], column)));
    }
    widths.push_back(widest);
  }
  std::size_t used = kColumnGap * (shown.size() - 1);
  std::vector<std::size_t> names;
  for (std::size_t i = 0; i < shown.size(); ++i) {
    is_name(shown[i]) ? names.push_back(i) : void(used += widths[i]);
  }
  std::size_t left = width > used ? width - used : 0;
  // The narrower name first: what it does not need is the other's.
  std::ranges::sort(names, {}, [&](std::size_t i) { return widths[i]; });
  for (std::size_t i = 0; i < names.size(); ++i) {
    std::size_t& name = widths[names[i]];
    name = std::max(std::min(name, left / (names.size() - i)), kNarrowestName);
    left -= std::min(left, name);
  }
  return widths;
}

}  // namespace

void use_wide_characters() {
  if (std::setlocale(LC_CTYPE, "C.UTF-8") == nullptr) {  // NOLINT(concurrency-mt-unsafe): at start
    std::setlocale(LC_CTYPE, "");                        // NOLINT(concurrency-mt-unsafe)
  }
}

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Character next = character_at(text, at);
    width += next.width;
    at += next.bytes;
  }
  return width;
}

std::string fitted(std::string_view text, std::size_t width, bool is_right) {
  std::string shown(text);
  if (display_width(text) > width) {
    const std::size_t rest = width > 0 ? width - 1 : 0;
    shown = width == 0 ? ""
                       : std::string(prefix(text, rest - rest / 2)) + "…" +
                             std::string(suffix(text, rest / 2));
  }
  const std::string fill(width - std::min(width, display_width(shown)), ' ');
  return is_right ? fill + shown : shown + fill;
}

std::vector<std::string> folded(std::string_view text, std::size_t width) {
  std::vector<std::string> lines;
  do {
    std::string_view line = prefix(text, width);
    if (line.empty()) {
      line = text;  // no character is as narrow as this
    }
    lines.emplace_back(line);
    text.remove_prefix(line.size());
  } while (!text.empty());
  return lines;
}

std::string rate_text(const std::optional<double>& rate) {
  if (!rate) {
    return "-";
  }
  if (*rate == 0) {
    return "0";
  }
  double value = *rate;
  static constexpr std::array<const char*, 6> kUnits = {"", "k", "M", "G", "T", "P"};
  std::size_t unit = 0;
  while (value >= 999.95 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.1f}{}", std::min(value, 999.9), kUnits.at(unit));
}

std::string title(TopView view, TopColumn column) {
  switch (column) {
    case TopColumn::name:
      return view == TopView::pairs ? "FROM" : "IDENTITY";
    case TopColumn::other:
      return "TO";
    case TopColumn::workloads:
      return "WORKLOADS";
    case TopColumn::connections:
      return "CONNS";
    case TopColumn::bytes_rate:
      return "BYTES/S";
    case TopColumn::denied_rate:
      return "DENIED/S";
    case TopColumn::audited_rate:
      return "AUDITED/S";
    case TopColumn::denied:
      return "DENIED";
    case TopColumn::last:
      return "LAST";
  }
  return "";
}

void shorten_names(TopRow& row) {
  const auto source = labels_in(row.name);
  const auto destination = labels_in(row.other);
  if (source && destination) {
    const policy::ShortLabels made = policy::shorten(*source, *destination);
    row.name = made.source;
    row.other = made.destination;
  }
}

std::string cell_text(const TopRow& row, TopColumn column) {
  switch (column) {
    case TopColumn::name:
      return row.name;
    case TopColumn::other:
      return row.other;
    case TopColumn::workloads:
      return row.workloads ? std::to_string(*row.workloads) : "-";
    case TopColumn::connections:
      return std::to_string(row.connections);
    case TopColumn::bytes_rate:
      return rate_text(row.bytes_rate);
    case TopColumn::denied_rate:
      return rate_text(row.denied_rate);
    case TopColumn::audited_rate:
      return rate_text(row.audited_rate);
    case TopColumn::denied:
      return std::to_string(row.denied);
    case TopColumn::last:
      return last_text(row.last);
  }
  return "";
}

bool is_number(TopColumn column) {
  return !is_name(column);
}

std::vector<PlacedColumn> placed(TopView view, TopColumn sorted_by, const std::vector<TopRow>& rows,
                                 std::size_t width) {
  std::vector<TopColumn> shown = columns_of(view);
  std::vector<std::size_t> widths = widths_of(view, shown, rows, width);
  const auto is_narrow = [&] {
    std::size_t total = kColumnGap * (shown.size() - 1);
    for (std::size_t i = 0; i < shown.size(); ++i) {
      const bool is_cut = is_name(shown[i]) && widths[i] < kNarrowName &&
                          std::ranges::any_of(rows, [&](const TopRow& row) {
                            return display_width(cell_text(row, shown[i])) > widths[i];
                          });
      if (is_cut) {
        return true;
      }
      total += widths[i];
    }
    return total > width;
  };
  // The least important first.
  for (const TopColumn column :
       {TopColumn::last, TopColumn::denied, TopColumn::audited_rate, TopColumn::workloads}) {
    if (!is_narrow()) {
      break;
    }
    if (column != sorted_by && std::erase(shown, column) > 0) {
      widths = widths_of(view, shown, rows, width);
    }
  }
  std::vector<PlacedColumn> columns;
  std::size_t at = 0;
  for (std::size_t i = 0; i < shown.size() && at < width; ++i) {
    columns.push_back({shown[i], at, std::min(widths[i], width - at)});
    at += widths[i] + kColumnGap;
  }
  return columns;
}

}  // namespace trireme::cli
