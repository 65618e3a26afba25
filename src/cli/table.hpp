// Tables that fit a terminal.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::cli {

/// Columns of the terminal on stdout, at least 80; 80 where stdout is none.
[[nodiscard]] std::size_t terminal_width();

/// Without control characters, which a name or label from elsewhere might hold to play tricks on the terminal.
[[nodiscard]] std::string printable(std::string_view text);

/// Words for people. Cells that do not fit are wrapped, after a comma or space where there is one; nothing is cut off.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row);
  [[nodiscard]] std::string render(std::size_t width) const;

 private:
  [[nodiscard]] std::vector<std::size_t> widths(std::size_t limit) const;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace trireme::cli
