// SPDX-License-Identifier: Apache-2.0
#include "top_loop.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cwchar>
#include <utility>

#include "top_layout.hpp"
#include "top_poller.hpp"
#include "top_screen.hpp"
#include "top_signals.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/base/printable.hpp"

namespace trireme::cli {
namespace {

using Style = TopScreen::Style;
using Clock = std::chrono::steady_clock;

/// An answer that is this much older than the next one should be is not shown as current.
constexpr std::chrono::seconds kLate(3);
constexpr std::size_t kHeadLines = 2;
constexpr std::size_t kFootLines = 1;     // without those of the selected row
constexpr std::size_t kMostFilter = 256;  // bytes

std::string utf8(wchar_t character) {
  std::array<char, 16> bytes{};
  std::mbstate_t state{};
  const std::size_t size = std::wcrtomb(bytes.data(), character, &state);
  return size == static_cast<std::size_t>(-1) ? "" : std::string(bytes.data(), size);
}

class Top {
 public:
  Top(TopScreen& screen, std::chrono::seconds interval, TopView view, TopOrder order)
      : screen_(screen), interval_(interval), view_(view), order_(std::move(order)) {}

  void take(Result<TrafficAnswer> answer) {
    if (!answer) {
      lose(answer.error().text());
      return;
    }
    model_.take(std::move(*answer));
    answered_ = Clock::now();
    answered_at_ = std::time(nullptr);
    problem_.clear();
    sort();
  }
  /// Numbers that are too old are not current.
  void look_at_age() {
    if (model_.has_answer() && Clock::now() - answered_ > interval_ + kLate) {
      lose("no answer in time");
    }
  }
  /// False: the user wants to end.
  [[nodiscard]] bool obey(const TopInput& input) {
    if (is_help_) {
      is_help_ = input.key == TopKey::resize;
      return input.character != L'q';
    }
    if (is_typing_) {
      type(input);
      return true;
    }
    if (input.key == TopKey::character) {
      return obey(input.character);
    }
    move(input.key);
    return true;
  }
  void draw() {
    screen_.clear();
    is_help_ ? draw_help() : draw_table();
    screen_.show();
  }

 private:
  void lose(const std::string& why) {
    model_.lose();
    problem_ = printable(why);
    sort();
  }

  bool obey(wchar_t character) {
    switch (character) {
      case L'q':
        return false;
      case L'\t':
      case L'v':
        view_ = view_ == TopView::pairs ? TopView::identities : TopView::pairs;
        if (std::ranges::count(columns_of(view_), order_.column) == 0) {
          order_.column = TopColumn::connections;
        }
        selected_ = 0;
        break;
      case L'<':
      case L'>':
        order_.column = next_column(view_, order_.column, character == L'<' ? -1 : 1);
        break;
      case L'r':
        order_.reversed = !order_.reversed;
        break;
      case L'/':
        is_typing_ = true;
        break;
      case L'h':
      case L'?':
        is_help_ = true;
        break;
      case L'k':
        move(TopKey::up);
        return true;
      case L'j':
        move(TopKey::down);
        return true;
      case L'g':
        move(TopKey::home);
        return true;
      case L'G':
        move(TopKey::end);
        return true;
      default:
        return true;
    }
    sort();
    return true;
  }

  void type(const TopInput& input) {
    if (input.key == TopKey::enter) {
      is_typing_ = false;
    } else if (input.key == TopKey::escape) {
      is_typing_ = false;
      order_.filter.clear();
    } else if (input.key == TopKey::erase) {
      while (!order_.filter.empty()) {
        const auto last = static_cast<unsigned char>(order_.filter.back());
        order_.filter.pop_back();
        if ((last & 0xC0U) != 0x80U) {
          break;
        }
      }
    } else if (input.key == TopKey::character && input.character >= L' ' &&
               order_.filter.size() < kMostFilter) {
      order_.filter += printable(utf8(input.character));
    }
    sort();
  }

  void move(TopKey key) {
    const std::size_t page = std::max<std::size_t>(body(), 1);
    const std::size_t last = rows_.empty() ? 0 : rows_.size() - 1;
    switch (key) {
      case TopKey::up:
        selected_ -= std::min<std::size_t>(selected_, 1);
        break;
      case TopKey::down:
        selected_ = std::min(selected_ + 1, last);
        break;
      case TopKey::page_up:
        selected_ -= std::min(selected_, page);
        break;
      case TopKey::page_down:
        selected_ = std::min(selected_ + page, last);
        break;
      case TopKey::home:
        selected_ = 0;
        break;
      case TopKey::end:
        selected_ = last;
        break;
      case TopKey::escape:
        order_.filter.clear();
        sort();
        return;
      default:
        return;
    }
    note_selected();
  }

  /// The row that is selected stays so, wherever it is sorted, unless it is the first one.
  void sort() {
    rows_ = arranged(model_.rows(view_), order_);
    if (selected_ > 0) {
      const auto found = std::ranges::find_if(rows_, [this](const TopRow& row) {
        return row.name == selected_key_.first && row.other == selected_key_.second;
      });
      if (found != rows_.end()) {
        selected_ = static_cast<std::size_t>(found - rows_.begin());
      }
    }
    selected_ = std::min(selected_, rows_.empty() ? 0 : rows_.size() - 1);
    note_selected();
  }
  void note_selected() {
    if (selected_ < rows_.size()) {
      selected_key_ = {rows_[selected_].name, rows_[selected_].other};
    }
  }

  /// Lines that are neither heading nor foot.
  [[nodiscard]] std::size_t middle() const {
    const std::size_t height = screen_.height();
    return height > kHeadLines + kFootLines ? height - kHeadLines - kFootLines : 0;
  }
  /// The selected row in full. Half of the screen is the table's, whatever it needs.
  [[nodiscard]] std::vector<std::string> selected_lines() const {
    if (selected_ >= rows_.size()) {
      return {""};
    }
    const TopRow& row = rows_[selected_];
    auto lines =
        folded(row.other.empty() ? row.name : row.name + " -> " + row.other, screen_.width());
    lines.resize(std::min(lines.size(), std::max<std::size_t>(middle() / 2, 1)));
    return lines;
  }
  /// Lines for rows.
  [[nodiscard]] std::size_t body() const {
    return middle() - std::min(middle(), selected_lines().size());
  }

  void put_line(std::size_t line, const std::string& text, Style style) {
    screen_.put(line, 0, fitted(text, screen_.width()), style);
  }

  [[nodiscard]] std::string head_text() const {
    if (!model_.has_answer()) {
      return problem_.empty()
                 ? "trireme: waiting for the daemon"
                 : fmt::format("daemon does not answer{}: {}",
                               answered_at_ == 0 ? ""
                                                 : fmt::format(" since {:%H:%M:%S}",
                                                               fmt::localtime(answered_at_)),
                               problem_);
    }
    const TrafficAnswer& answer = model_.answer();
    const std::uint64_t left_out =
        view_ == TopView::pairs ? answer.pairs_left_out : answer.identities_left_out;
    return fmt::format("trireme {:%H:%M:%S}  {}: {}{}{}{}", fmt::localtime(answered_at_),
                       view_ == TopView::pairs ? "pairs" : "identities", rows_.size(),
                       left_out == 0 ? "" : fmt::format("  not listed: {}", left_out),
                       order_.filter.empty() ? "" : "  filter: " + order_.filter,
                       answer.complete ? "" : "  (not all connections were read)");
  }

  [[nodiscard]] std::string foot_text() const {
    return is_typing_
               ? "/" + order_.filter + "_  Enter keeps the filter, Esc removes it"
               : fmt::format("q quit  Tab {}  < > sort: {}{}  / filter  h help",
                             view_ == TopView::pairs ? "identities" : "pairs",
                             title(view_, order_.column), order_.reversed ? " (reversed)" : "");
  }

  [[nodiscard]] static Style style_of(const TopRow& row, TopColumn column) {
    const bool denies = column == TopColumn::denied_rate && row.denied_rate.value_or(0) > 0;
    const bool audits = column == TopColumn::audited_rate && row.audited_rate.value_or(0) > 0;
    return denies ? Style::alarm : audits ? Style::warning : Style::plain;
  }

  void draw_table() {
    const std::size_t width = screen_.width();
    const std::size_t height = screen_.height();
    put_line(0, head_text(), model_.has_answer() ? Style::title : Style::alarm);
    if (middle() < 2) {
      return;
    }
    first_ = std::min(first_, selected_);
    first_ = std::max(first_, selected_ + 1 - std::min(selected_ + 1, body()));
    const std::size_t end = std::min(rows_.size(), first_ + body());
    std::vector<TopRow> shown(rows_.begin() + static_cast<std::ptrdiff_t>(first_),
                              rows_.begin() + static_cast<std::ptrdiff_t>(end));
    std::ranges::for_each(shown, shorten_names);
    const std::vector<PlacedColumn> columns = placed(view_, order_.column, shown, width);
    for (const PlacedColumn& place : columns) {
      screen_.put(1, place.at,
                  fitted(title(view_, place.column), place.width, is_number(place.column)),
                  place.column == order_.column ? Style::selected : Style::title);
    }
    for (std::size_t i = 0; i < shown.size(); ++i) {
      const bool is_selected = first_ + i == selected_;
      if (is_selected) {
        put_line(kHeadLines + i, "", Style::selected);
      }
      for (const PlacedColumn& place : columns) {
        screen_.put(kHeadLines + i, place.at,
                    fitted(cell_text(shown[i], place.column), place.width, is_number(place.column)),
                    is_selected ? Style::selected : style_of(shown[i], place.column));
      }
    }
    const std::vector<std::string> selected = selected_lines();
    for (std::size_t i = 0; i < selected.size(); ++i) {
      put_line(height - kFootLines - selected.size() + i, selected[i], Style::plain);
    }
    if (rows_.empty() && model_.has_answer()) {
      put_line(kHeadLines, order_.filter.empty() ? "no traffic yet" : "nothing matches the filter",
               Style::dim);
    }
    put_line(height - 1, foot_text(), Style::title);
  }

  void draw_help() {
    static constexpr std::array kLines = {
        "Keys",
        "  q, Ctrl-C         quit",
        "  Tab, v            the other view: pairs, identities",
        "  < >               sort by the column to the left, to the right",
        "  r                 reverse the order",
        "  /                 filter by text; Enter keeps it, Esc removes it",
        "  arrows, j k       select a row, whose labels are shown in full below",
        "  PgUp PgDn g G     scroll",
        "  h, ?              this help",
        "",
        "CONNS and BYTES/S are of TCP connections; '-' is not known.",
        "DENIED/S and AUDITED/S: since the last refresh; identical ones count at",
        "most once in five seconds. DENIED: since the daemon's start.",
        "",
        "Any key goes back.",
    };
    for (std::size_t i = 0; i < kLines.size(); ++i) {
      put_line(i, kLines.at(i), i == 0 ? Style::title : Style::plain);
    }
  }

  TopScreen& screen_;
  std::chrono::seconds interval_;
  TopView view_;
  TopOrder order_;
  TopModel model_;
  std::vector<TopRow> rows_;
  std::size_t first_ = 0;  // the row at the top of the screen
  std::size_t selected_ = 0;
  TrafficAnswer::Key selected_key_;
  Clock::time_point answered_;
  std::time_t answered_at_ = 0;  // 0: never
  std::string problem_;          // why the daemon does not answer
  bool is_typing_ = false;
  bool is_help_ = false;
};

}  // namespace

Status top_loop(const std::string& socket, std::chrono::seconds interval, TopView view,
                TopOrder order, TrafficAnswer first) {
  const TopSignals signals;  // before ncurses, which would end the process itself
  {
    auto screen = TopScreen::open();
    if (!screen) {
      return tl::unexpected(screen.error());
    }
    auto poller = TrafficPoller::start(socket, interval);
    if (!poller) {
      return tl::unexpected(poller.error());
    }
    Top top(**screen, interval, view, std::move(order));
    top.take(std::move(first));
    bool goes_on = true;
    while (goes_on && TopSignals::caught() == 0) {
      top.look_at_age();
      top.draw();
      signals.wait((*poller)->fd(), std::chrono::seconds(1));
      if (auto answer = (*poller)->take()) {
        top.take(std::move(*answer));
      }
      for (TopInput input = (*screen)->key(); goes_on && input.key != TopKey::none;
           input = (*screen)->key()) {
        goes_on = top.obey(input);
      }
    }
    screen->reset();  // the terminal first: ending a request can take a moment
  }
  TopSignals::end_by_signal();
  return {};
}

}  // namespace trireme::cli
