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

/// The operator's quarantine order, if the workload's reason is another one; else empty.
std::string order_text(const json& workload) {
  const json hold = workload.value("hold", json());
  if (!hold.is_object() || workload.value("reason", "").find("ordered by ") != std::string::npos) {
    return {};
  }
  const std::string reason = hold.value("reason", "");
  return fmt::format("also quarantined, ordered by {} at {}{}{}", hold.value("by", "?"),
                     hold.value("since", "?"), reason.empty() ? "" : ": ", reason);
}

/// Capabilities are one line unless `verbose`; every other warning has a line of its own.
void print_workloads(const json& workloads, bool wide, bool verbose) {
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
    if (const std::string order = order_text(workload); !order.empty()) {
      notes += fmt::format("{}: {}\n", printable(name), printable(order));
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
  fmt::print("{}", table.render(wide ? kUnlimited : terminal_width()));
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
      return print_answer(
          globals, control::method::workloads, json::object(),
          [&](const json& workloads) { print_workloads(workloads, globals.wide, *verbose); });
    };
  });
}

}  // namespace trireme::cli
