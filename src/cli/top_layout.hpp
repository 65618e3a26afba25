// SPDX-License-Identifier: Apache-2.0
// The lines of `trirectl top`: text that fits columns of a terminal. Pure, but for the locale: the
// width of a character is that of wcwidth(3), so call use_wide_characters() first.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "top_model.hpp"

namespace trireme::cli {

/// Sets the locale of characters (LC_CTYPE) to UTF-8, which all of trireme's text is in.
void use_wide_characters();

/// The columns that the text takes on a terminal: 2 for wide characters, 0 for combining ones. A
/// byte that is no UTF-8 counts as one.
[[nodiscard]] std::size_t display_width(std::string_view text);
/// The text in exactly `width` columns: filled with spaces, at the left if `is_right`. What is too
/// wide has "…" in its middle: labels often differ at their ends.
[[nodiscard]] std::string fitted(std::string_view text, std::size_t width, bool is_right = false);

/// The whole text in lines of at most `width` columns, at least one line.
[[nodiscard]] std::vector<std::string> folded(std::string_view text, std::size_t width);

/// "0", "12.3k", "1.5M"; "-" for nullopt. At most six characters.
[[nodiscard]] std::string rate_text(const std::optional<double>& rate);
[[nodiscard]] std::string title(TopView view, TopColumn column);
/// "app=web" and "app=db" for two identities with further labels in common: as in `flows`.
void shorten_names(TopRow& row);
/// The text of a cell.
[[nodiscard]] std::string cell_text(const TopRow& row, TopColumn column);
/// True if a cell of this column is at the right of it.
[[nodiscard]] bool is_number(TopColumn column);

struct PlacedColumn {
  TopColumn column = TopColumn::name;
  std::size_t at = 0;  // from the left
  std::size_t width = 0;
};

/// Places the columns of a view. Numbers get what they need, names share what is left. If there is
/// too little for names, the least important numbers have no column, but never the one that is
/// sorted by. Of a terminal that is too narrow even so, the columns at the right are left out.
[[nodiscard]] std::vector<PlacedColumn> placed(TopView view, TopColumn sorted_by,
                                               const std::vector<TopRow>& rows, std::size_t width);

}  // namespace trireme::cli
