// SPDX-License-Identifier: Apache-2.0
// The terminal of `trirectl top`: ncurses, started and ended.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "trireme/base/result.hpp"

namespace trireme::cli {

/// Keys other than characters.
enum class TopKey : std::uint8_t {
  none,
  character,
  up,
  down,
  page_up,
  page_down,
  home,
  end,
  enter,
  escape,
  erase,
  resize,
};

struct TopInput {
  TopKey key = TopKey::none;
  wchar_t character = 0;
};

class TopScreen {
 public:
  enum class Style : std::uint8_t { plain, title, selected, alarm, warning, dim };

  /// Errors: the terminal, TERM, is not known or can do too little.
  [[nodiscard]] static Result<std::unique_ptr<TopScreen>> open();
  /// Restores the terminal.
  ~TopScreen();
  TopScreen(const TopScreen&) = delete;
  TopScreen& operator=(const TopScreen&) = delete;

  [[nodiscard]] std::size_t width() const;
  [[nodiscard]] std::size_t height() const;
  /// The next key that was pressed; TopKey::none if none waits.
  [[nodiscard]] TopInput key();

  void clear();
  /// Writes text, which must be printable and fit, and fills nothing behind it.
  void put(std::size_t line, std::size_t column, std::string_view text, Style style);
  void show();

 private:
  TopScreen() = default;
  struct Terminal;
  std::unique_ptr<Terminal> terminal_;
};

}  // namespace trireme::cli
