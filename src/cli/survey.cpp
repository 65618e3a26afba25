// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "command.hpp"
#include "flow_line.hpp"
#include "table.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

std::string ports_text(const json& ports) {
  std::string text;
  for (const auto& port : ports) {
    text += (text.empty() ? "" : ", ") + port.get<std::string>();
  }
  return text.empty() ? "-" : text;
}

/// "shop.service (app=shop)", "@host [127.0.0.1]"
std::string named_end(const json& end) {
  const std::string workload = end.value("workload", "");
  return workload.empty() ? end_text(end)
                          : fmt::format("{} ({})", printable(workload),
                                        labels_text(end.value("labels", json::object())));
}

void print_candidates(const json& candidates) {
  Table table({"KIND", "NAME", "LISTENS", "CONNECTS"});
  for (const auto& candidate : candidates) {
    table.add({candidate.value("kind", "?"), candidate.value("name", "?"),
               ports_text(candidate.value("listens", json::array())),
               std::to_string(candidate.value("connects", 0))});
  }
  fmt::print("{}", table.render(terminal_width()));
}

/// What makes the candidates workloads, by kind: each kind has its own place.
void print_lines(const json& candidates) {
  static const std::vector<std::pair<const char*, const char*>> kPlaces = {
      {"unit", "for units, in /etc/trireme/identity.toml:"},
      {"compose", "for compose services, in their compose files:"},
      {"container", "for containers, at their next creation:"}};
  for (const auto& [kind, place] : kPlaces) {
    std::string lines;
    for (const auto& candidate : candidates) {
      if (candidate.value("kind", "") == kind) {
        lines += (lines.empty()                           ? ""
                  : kind == std::string_view("container") ? ""
                                                          : "\n") +
                 candidate.value("lines", "");
      }
    }
    if (!lines.empty()) {
      fmt::print("\n{}\n\n{}", place, printable_lines(lines));
    }
  }
}

void print_denied(const json& survey) {
  const json denied = survey.value("denied", json::array());
  const auto connections = survey.value("connections", std::uint64_t{0});
  std::uint64_t count = 0;
  Table table({"COUNT", "FROM", "TO", "PORT"});
  for (const auto& flow : denied) {
    count += flow.value("count", std::uint64_t{0});
    table.add({std::to_string(flow.value("count", std::uint64_t{0})),
               named_end(flow.value("source", json::object())),
               named_end(flow.value("destination", json::object())), service_text(flow)});
  }
  fmt::print("\n{} of {} would then be denied{}\n", count, counted(connections, "open connection"),
             count == 0 ? "" : ":");
  if (count > 0) {
    fmt::print("\n{}", table.render(terminal_width()));
  }
}

void print_survey(const json& survey) {
  const json candidates = survey.value("candidates", json::array());
  if (candidates.empty()) {
    fmt::print("no unit, container or compose service that uses the network is unmanaged\n");
  } else {
    print_candidates(candidates);
    print_lines(candidates);
    print_denied(survey);
  }
  for (const auto& note : survey.value("notes", json::array())) {
    fmt::print("{}", fit(fmt::format("\nnote: {}\n", printable(note.get<std::string>())), 6));
  }
}

}  // namespace

void add_survey(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "survey", "List what uses the network and is no workload");
  command->footer(
      "Shows the lines that would make each of them a workload, and which open connections the\n"
      "policy in force would then deny, if it was enforced. Changes nothing.");
  command->callback([&globals, &action] {
    action = [&globals] {
      return print_answer(globals, control::method::survey, json::object(), print_survey);
    };
  });
}

}  // namespace trireme::cli
