// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <thread>

#include "command.hpp"
#include "table.hpp"
#include "top_layout.hpp"
#include "top_loop.hpp"
#include "top_model.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/control/instance.hpp"
#include "trireme/control/methods.hpp"
#include "values.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

struct TopOptions {
  bool once = false;
  bool identities = false;
  std::string filter;
  std::string interval = "1s";
};

constexpr std::chrono::seconds kPatienceOfTop(10);

Result<TrafficAnswer> ask_traffic(const Globals& globals) {
  const auto answer = ask(globals, control::method::traffic, json::object(), kPatienceOfTop);
  return answer ? TrafficAnswer::read_json(*answer) : tl::unexpected(answer.error());
}

std::string left_out_text(const TrafficAnswer& answer, TopView view) {
  const std::uint64_t count =
      view == TopView::pairs ? answer.pairs_left_out : answer.identities_left_out;
  return count == 0               ? ""
         : view == TopView::pairs ? fmt::format("{} not listed\n", counted(count, "more pair"))
                                  : fmt::format("{} more {} not listed\n", count,
                                                count == 1 ? "identity" : "identities");
}

/// Two answers an interval apart, because rates need two, as a table.
int print_once(const Globals& globals, TopView view, const TopOrder& order,
               std::chrono::seconds interval) {
  TopModel model;
  for (int i = 0; i < 2; ++i) {
    if (i > 0) {
      std::this_thread::sleep_for(interval);
    }
    auto answer = ask_traffic(globals);
    if (!answer) {
      return report(globals, answer.error());
    }
    model.take(std::move(*answer));
  }
  std::vector<std::string> header;
  for (const TopColumn column : columns_of(view)) {
    header.push_back(title(view, column));
  }
  Table table(std::move(header));
  for (TopRow& row : arranged(model.rows(view), order)) {
    if (!globals.wide) {
      shorten_names(row);
    }
    std::vector<std::string> cells;
    for (const TopColumn column : columns_of(view)) {
      cells.push_back(cell_text(row, column));
    }
    table.add(std::move(cells));
  }
  fmt::print("{}{}", table.render(terminal_width()), left_out_text(model.answer(), view));
  if (!model.answer().complete) {
    fmt::print(stderr, "trirectl: not all connections were read\n");
  }
  return kYes;
}

int run_top(const Globals& globals, const TopOptions& options) {
  const auto interval = parse_time_span(options.interval);
  if (!interval) {
    return report(globals, interval.error());
  }
  if (globals.json) {
    return print_answer(globals, control::method::traffic, json::object(), [](const json&) {});
  }
  use_wide_characters();
  const TopView view = options.identities ? TopView::identities : TopView::pairs;
  TopOrder order;
  order.filter = options.filter;
  if (options.once || !on_terminal() || ::isatty(STDIN_FILENO) == 0) {
    return print_once(globals, view, order, *interval);
  }
  // Without a daemon, or for a user who may not ask it, this fails at once and not on a screen.
  auto first = ask_traffic(globals);
  if (!first) {
    return report(globals, first.error());
  }
  const Status ended = top_loop(control::socket_path(globals.runtime_dir), *interval, view,
                                std::move(order), std::move(*first));
  return ended ? kYes : report(globals, ended.error());
}

}  // namespace

void add_top(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "top", "Show who talks to whom, live: connections and denials");
  const auto options = std::make_shared<TopOptions>();
  command->add_flag("--once", options->once, "print one table and exit, as in a pipe");
  command->add_flag("--identities", options->identities, "begin with the view of identities");
  command->add_option("--filter", options->filter, "only names that contain this text")
      ->type_name("TEXT");
  command->add_option("--interval", options->interval, "time between two refreshes, at least 1s")
      ->capture_default_str()
      ->type_name("SECONDS")
      ->check(time_span())
      ->check(CLI::Validator(
          [](const std::string& text) {
            const auto span = parse_time_span(text);
            return span && *span < std::chrono::seconds(1) ? "the interval must be at least 1 s"
                                                           : std::string();
          },
          ""));
  command->footer(
      "Keys: q ends, Tab changes the view, < and > choose the column to sort by,\n"
      "r reverses the order, / filters, h shows all keys.\n"
      "Connections and bytes are those of TCP; '-' is not known. Denials are those of\n"
      "'trirectl flows': identical ones count at most once in five seconds.\n"
      "With --json, prints the answer of the control method 'traffic', without rates.");
  command->callback([&globals, &action, options] {
    action = [&globals, options] { return run_top(globals, *options); };
  });
}

}  // namespace trireme::cli
