// SPDX-License-Identifier: Apache-2.0
#include "top_screen.hpp"

// Without macros such as clear() and erase(), which are names of functions here and in the C++
// library.
// NOLINTBEGIN(cppcoreguidelines-macro-usage): the names that curses.h reads
#define NCURSES_NOMACROS 1
#define NCURSES_WIDECHAR 1
// NOLINTEND(cppcoreguidelines-macro-usage)
#include <curses.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace trireme::cli {
namespace {

constexpr short kRed = 1;
constexpr short kYellow = 2;
/// How long the keyboard may take for the rest of an escape sequence, in ms.
constexpr int kEscapeDelay = 50;

TopKey function_key(wint_t code) {
  switch (code) {
    case KEY_UP:
      return TopKey::up;
    case KEY_DOWN:
      return TopKey::down;
    case KEY_PPAGE:
      return TopKey::page_up;
    case KEY_NPAGE:
      return TopKey::page_down;
    case KEY_HOME:
      return TopKey::home;
    case KEY_END:
      return TopKey::end;
    case KEY_ENTER:
      return TopKey::enter;
    case KEY_BACKSPACE:
    case KEY_DC:
      return TopKey::erase;
    case KEY_RESIZE:
      return TopKey::resize;
    default:
      return TopKey::none;
  }
}

bool wants_colors() {
  const char* none = std::getenv("NO_COLOR");  // NOLINT(concurrency-mt-unsafe): before threads
  return none == nullptr || *none == '\0';
}

}  // namespace

struct TopScreen::Terminal {
  SCREEN* screen = nullptr;
  bool colors = false;
};

Result<std::unique_ptr<TopScreen>> TopScreen::open() {
  ::set_escdelay(kEscapeDelay);
  SCREEN* screen = ::newterm(nullptr, stdout, stdin);
  if (screen == nullptr) {
    const char* term = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe): before threads
    return fail(std::string("cannot use the terminal '") + (term == nullptr ? "" : term) + "'",
                "set TERM to the type of your terminal, or use --once");
  }
  std::unique_ptr<TopScreen> made(new TopScreen);
  made->terminal_ = std::make_unique<Terminal>(Terminal{.screen = screen, .colors = false});
  ::set_term(screen);
  ::cbreak();
  ::noecho();
  ::nonl();
  ::keypad(stdscr, TRUE);
  ::nodelay(stdscr, TRUE);
  ::leaveok(stdscr, TRUE);
  ::curs_set(0);
  if (wants_colors() && ::has_colors() == TRUE && ::start_color() == OK) {
    ::use_default_colors();
    ::init_pair(kRed, COLOR_RED, -1);
    ::init_pair(kYellow, COLOR_YELLOW, -1);
    made->terminal_->colors = true;
  }
  return made;
}

TopScreen::~TopScreen() {
  if (terminal_) {
    ::endwin();
    ::delscreen(terminal_->screen);
  }
}

std::size_t TopScreen::width() const {
  return static_cast<std::size_t>(::getmaxx(stdscr));
}

std::size_t TopScreen::height() const {
  return static_cast<std::size_t>(::getmaxy(stdscr));
}

TopInput TopScreen::key() {
  wint_t code = 0;
  const int kind = ::wget_wch(stdscr, &code);
  if (kind == ERR) {
    return {};
  }
  if (kind == KEY_CODE_YES) {
    const TopKey key = function_key(code);
    // An unknown key is a character without meaning, not the end of the input.
    return {.key = key == TopKey::none ? TopKey::character : key, .character = 0};
  }
  switch (code) {
    case L'\r':
    case L'\n':
      return {.key = TopKey::enter};
    case 0x1b:
      return {.key = TopKey::escape};
    case 0x08:
    case 0x7f:
      return {.key = TopKey::erase};
    default:
      return {.key = TopKey::character, .character = static_cast<wchar_t>(code)};
  }
}

void TopScreen::clear() {
  ::werase(stdscr);
}

void TopScreen::put(std::size_t line, std::size_t column, std::string_view text, Style style) {
  if (line >= height() || column >= width()) {
    return;
  }
  attr_t attributes = A_NORMAL;
  short pair = 0;
  switch (style) {
    case Style::plain:
      break;
    case Style::title:
      attributes = A_BOLD;
      break;
    case Style::selected:
      attributes = A_REVERSE;
      break;
    case Style::alarm:
      attributes = A_BOLD;
      pair = kRed;
      break;
    case Style::warning:
      pair = kYellow;
      break;
    case Style::dim:
      attributes = A_DIM;
      break;
  }
  ::wattr_set(stdscr, attributes, terminal_->colors ? pair : short{0}, nullptr);
  const std::string owned(text);
  // Returns ERR if the last cell of the screen is written: the cursor cannot move on.
  ::mvwaddstr(stdscr, static_cast<int>(line), static_cast<int>(column), owned.c_str());
  ::wattr_set(stdscr, A_NORMAL, 0, nullptr);
}

void TopScreen::show() {
  ::wrefresh(stdscr);
}

}  // namespace trireme::cli
