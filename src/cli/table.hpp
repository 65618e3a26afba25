// SPDX-License-Identifier: Apache-2.0
// Text that fits a terminal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::cli {

/// Columns of the terminal on stdout; 80 where stdout is none.
[[nodiscard]] std::size_t terminal_width();
[[nodiscard]] bool on_terminal();

enum class Colour : std::uint8_t { bold, red, green, yellow, dim };
/// Coloured where stdout is a terminal that can, and NO_COLOR (no-color.org) is not set.
[[nodiscard]] std::string paint(Colour colour, std::string_view text);
/// Of a verdict, "deny"; or of a workload's state.
[[nodiscard]] std::string paint_verdict(const std::string& word, std::string_view text);

/// Without control characters, which a name or label from elsewhere might hold to play tricks on
/// the terminal.
[[nodiscard]] std::string printable(std::string_view text);
/// Characters of UTF-8 text; wide ones count as one.
[[nodiscard]] std::size_t length(std::string_view text);
/// At most `width` characters, the last of which is then an ellipsis.
[[nodiscard]] std::string clip(std::string_view text, std::size_t width);
/// Lines of at most `width` characters, broken after a comma or space where there is one; those
/// after the first begin with `indent` spaces.
[[nodiscard]] std::string wrap(std::string_view text, std::size_t width, std::size_t indent);
/// The same for each line of a text that is for people; as it is where stdout is no terminal.
[[nodiscard]] std::string fit(const std::string& text, std::size_t indent);

/// Words for people. Cells that do not fit are wrapped, after a comma or space where there is one;
/// nothing is cut off.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row);
  /// The words of this column are verdicts or states, and painted as such.
  void paint_column(std::size_t column) { painted_ = column; }
  [[nodiscard]] std::string render(std::size_t width) const;

 private:
  [[nodiscard]] std::vector<std::size_t> widths(std::size_t limit) const;
  std::vector<std::vector<std::string>> rows_;
  std::size_t painted_ = SIZE_MAX;
};

}  // namespace trireme::cli
