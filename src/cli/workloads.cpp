// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "command.hpp"
#include "flow_line.hpp"
#include "table.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

void print_workloads(const json& workloads, bool wide) {
  std::vector<std::string> header = {"NAME", "KIND", "STATE", "LABELS"};
  if (wide) {
    header.insert(header.end(), {"NETWORK", "IDENTITY", "CGROUP"});
  }
  Table table(std::move(header));
  table.paint_column(2);
  std::string notes;
  for (const auto& workload : workloads) {
    const std::string name = workload.value("name", "?");
    std::vector<std::string> row = {name, workload.value("kind", "?"), workload.value("state", "?"),
                                    labels_text(workload.value("labels", json::object()))};
    if (wide) {
      const json network = workload.value("network", json());
      row.push_back(network.is_string() ? network.get<std::string>() : "-");
      row.push_back(std::to_string(workload.value("identity", std::uint64_t{0})));
      row.push_back(workload.value("cgroup", ""));
    }
    table.add(std::move(row));
    if (const std::string reason = workload.value("reason", ""); !reason.empty()) {
      notes += fmt::format("{}: {}\n", printable(name), printable(reason));
    }
    for (const auto& warning : workload.value("warnings", json::array())) {
      notes +=
          fmt::format("{}: warning: {}\n", printable(name), printable(warning.get<std::string>()));
    }
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
  command->callback([&] {
    action = [&] {
      const auto workloads = ask(globals, control::method::workloads, json::object());
      if (!workloads) {
        return report(globals, workloads.error());
      }
      globals.json ? print_json(*workloads) : print_workloads(*workloads, globals.wide);
      return kYes;
    };
  });
}

}  // namespace trireme::cli
