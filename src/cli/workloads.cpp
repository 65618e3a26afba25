// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>

#include "capability_line.hpp"
#include "command.hpp"
#include "flow_line.hpp"
#include "table.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

/// Capabilities are one line unless `verbose`; every other warning has a line of its own.
void print_workloads(const json& workloads, bool verbose) {
  Table table({"NAME", "KIND", "STATE", "LABELS"});
  table.paint_column(2);
  std::string notes;
  for (const auto& workload : workloads) {
    const std::string name = workload.value("name", "?");
    table.add({name, workload.value("kind", "?"), workload.value("state", "?"),
               labels_text(workload.value("labels", json::object()))});
    if (const std::string reason = workload.value("reason", ""); !reason.empty()) {
      notes += fmt::format("{}: {}\n", printable(name), printable(reason));
    }
    for (const auto& warning : workload.value("warnings", json::array())) {
      const auto text = warning.get<std::string>();
      if (verbose || !is_about_capability(workload, text)) {
        notes += fmt::format("{}: warning: {}\n", printable(name), printable(text));
      }
    }
    for (const auto& warning : workload.value("acknowledged", json::array())) {
      if (verbose) {
        notes += fmt::format("{}: acknowledged: {}\n", printable(name),
                             printable(warning.get<std::string>()));
      }
    }
  }
  const std::string line = capability_line(count_capabilities(workloads));
  if (!verbose && !line.empty()) {
    notes += line + "; -v lists them\n";
  }
  fmt::print("{}", table.render(terminal_width()));
  if (!notes.empty()) {
    fmt::print("\n{}", fit(notes, 4));
  }
}

}  // namespace

void add_workloads(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "workloads", "List the workloads and their labels");
  const auto verbose = std::make_shared<bool>(false);
  command->add_flag("-v,--verbose", *verbose, "list the capabilities of each workload");
  command->callback([&globals, &action, verbose] {
    action = [&globals, verbose] {
      const auto workloads = ask(globals, control::method::workloads, json::object());
      if (!workloads) {
        return report(globals, workloads.error());
      }
      globals.json ? print_json(*workloads) : print_workloads(*workloads, *verbose);
      return kYes;
    };
  });
}

}  // namespace trireme::cli
