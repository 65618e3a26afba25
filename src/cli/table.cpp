// SPDX-License-Identifier: Apache-2.0
#include "table.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <numeric>

namespace trireme::cli {
namespace {

constexpr std::size_t kGap = 2;
constexpr std::size_t kNarrowest = 8;  // characters; no column is made narrower
constexpr std::size_t kDefaultWidth = 80;
constexpr std::size_t kNarrowTerminal = 40;  // a narrower terminal is treated as kDefaultWidth

bool has_colors() {
  static const bool colors = [] {
    const char* none = std::getenv("NO_COLOR");  // NOLINT(concurrency-mt-unsafe): one thread
    const char* term = std::getenv("TERM");      // NOLINT(concurrency-mt-unsafe)
    return on_terminal() && (none == nullptr || *none == '\0') && term != nullptr &&
           std::string_view(term) != "dumb";
  }();
  return colors;
}

bool continues(char c) {
  return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U;
}

/// Size in bytes of the first `characters` characters.
std::size_t bytes_of(std::string_view text, std::size_t characters) {
  std::size_t at = 0;
  while (at < text.size() && (characters > 0 || continues(text[at]))) {
    if (!continues(text[at])) {
      --characters;
    }
    ++at;
  }
  return at;
}

std::vector<std::string> lines_of(std::string_view text, std::size_t width) {
  std::vector<std::string> lines;
  while (length(text) > width) {
    const std::size_t most = bytes_of(text, width);
    const std::size_t mark = text.substr(0, most).find_last_of(", ");
    const std::size_t end = mark == std::string_view::npos ? most : mark + 1;
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  lines.emplace_back(text);
  return lines;
}

}  // namespace

bool on_terminal() {
  static const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  return terminal;
}

std::size_t terminal_width() {
  winsize size{};
  if (on_terminal() && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 &&
      size.ws_col >= kNarrowTerminal) {
    return size.ws_col;
  }
  return kDefaultWidth;
}

std::string paint(Color color, std::string_view text) {
  static constexpr std::array<const char*, 5> kCodes = {"1", "31", "32", "33", "2"};
  if (!has_colors()) {
    return std::string(text);
  }
  return fmt::format("\x1b[{}m{}\x1b[0m", kCodes.at(static_cast<std::size_t>(color)), text);
}

std::string paint_verdict(const std::string& word, std::string_view text) {
  if (word == "deny" || word == "quarantined" || word == "refused") {
    return paint(Color::red, text);
  }
  if (word == "audit" || word == "unenforced") {
    return paint(Color::yellow, text);
  }
  return word == "allow" || word == "enforced" || word == "allowed" ? paint(Color::green, text)
                                                                    : std::string(text);
}

std::size_t length(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return !continues(c); }));
}

std::string wrap(std::string_view text, std::size_t width, std::size_t indent) {
  const std::size_t first = length(text) > width ? width : length(text);
  auto lines = lines_of(text, std::max<std::size_t>(first, 1));
  if (lines.size() == 1) {
    return lines.front();
  }
  std::string out = lines.front();
  const std::string_view rest = text.substr(lines.front().size());
  out.erase(out.find_last_not_of(' ') + 1);
  for (std::string& line :
       lines_of(rest, width > indent + kNarrowest ? width - indent : kNarrowest)) {
    line.erase(line.find_last_not_of(' ') + 1);
    out += '\n' + std::string(indent, ' ') + line;
  }
  return out;
}

std::string fit(const std::string& text, std::size_t indent) {
  if (!on_terminal()) {
    return text;
  }
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    out += wrap(std::string_view(text).substr(at, end - at), terminal_width(), indent) +
           (end < text.size() ? "\n" : "");
    at = end + 1;
  }
  return out;
}

void Table::add(std::vector<std::string> row) {
  for (std::string& cell : row) {
    cell = printable(cell);
  }
  rows_.push_back(std::move(row));
}

/// The width of each column: that of its longest cell. While the sum exceeds the limit, the widest
/// column is narrowed.
std::vector<std::size_t> Table::widths(std::size_t limit) const {
  std::vector<std::size_t> widths(rows_.front().size(), 0);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], length(row[i]));
    }
  }
  const std::size_t gaps = kGap * (widths.size() - 1);
  while (std::accumulate(widths.begin(), widths.end(), gaps) > limit) {
    const auto widest = std::max_element(widths.begin(), widths.end());
    if (*widest <= kNarrowest) {
      break;
    }
    --*widest;
  }
  return widths;
}

std::string Table::render(std::size_t width) const {
  const auto columns = widths(width);
  std::string out;
  for (const auto& row : rows_) {
    std::vector<std::vector<std::string>> cells;
    std::size_t height = 1;
    for (std::size_t i = 0; i < row.size(); ++i) {
      cells.push_back(lines_of(row[i], columns[i]));
      height = std::max(height, cells.back().size());
    }
    for (std::size_t line = 0; line < height; ++line) {
      std::string text;
      for (std::size_t i = 0; i < cells.size(); ++i) {
        const std::string cell = line < cells[i].size() ? cells[i][line] : "";
        const std::string shown = &row == &rows_.front() ? paint(Color::bold, cell)
                                  : i == painted_        ? paint_verdict(cell, cell)
                                                         : cell;
        text += shown + std::string(columns[i] - std::min(columns[i], length(cell)) + kGap, ' ');
      }
      text.erase(text.find_last_not_of(' ') + 1);
      out += text + '\n';
    }
  }
  return out;
}

}  // namespace trireme::cli
