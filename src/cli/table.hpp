// SPDX-License-Identifier: Apache-2.0
// Tables and text that fit the width of a terminal, and their colors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/printable.hpp"

namespace trireme::cli {

/// Columns of the terminal on stdout; 80 if stdout is not a terminal or is narrower than 40.
[[nodiscard]] std::size_t terminal_width();
[[nodiscard]] bool on_terminal();
/// The width of tables with -o wide: one line for each row.
inline constexpr std::size_t kUnlimited = SIZE_MAX;

enum class Color : std::uint8_t { bold, red, green, yellow, dim };
/// Colors the text if stdout is a color terminal and NO_COLOR (no-color.org) is unset or empty.
[[nodiscard]] std::string paint(Color color, std::string_view text);
/// Colors `text` by the verdict ("deny") or workload state ("enforced") in `word`.
[[nodiscard]] std::string paint_verdict(const std::string& word, std::string_view text);

/// Number of characters (code points) of UTF-8 text. Double-width characters count as one.
[[nodiscard]] std::size_t length(std::string_view text);
/// Breaks text into lines of at most `width` characters, after a comma or space if possible. Lines
/// after the first begin with `indent` spaces.
[[nodiscard]] std::string wrap(std::string_view text, std::size_t width, std::size_t indent);
/// wrap() for each line of the text, to the width of the terminal; unchanged if stdout is not one.
[[nodiscard]] std::string fit(const std::string& text, std::size_t indent);

/// A table of text. Cells that are too wide are wrapped, after a comma or space if possible;
/// nothing is cut off.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row);
  /// Colors the words of this column as verdicts or states: paint_verdict().
  void paint_column(std::size_t column) { painted_ = column; }
  [[nodiscard]] std::string render(std::size_t width) const;

 private:
  [[nodiscard]] std::vector<std::size_t> widths(std::size_t limit) const;
  std::vector<std::vector<std::string>> rows_;
  std::size_t painted_ = SIZE_MAX;
};

}  // namespace trireme::cli
