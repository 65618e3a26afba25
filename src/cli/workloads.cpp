#include <fmt/format.h>

#include "command.hpp"
#include "table.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

std::string label_text(const json& labels) {
  std::string text;
  for (const auto& [key, value] : labels.items()) {
    text += (text.empty() ? "" : ",") + key + "=" + value.get<std::string>();
  }
  return text.empty() ? "-" : text;
}

void print_workloads(const json& workloads) {
  Table table({"NAME", "KIND", "STATE", "LABELS"});
  std::string notes;
  for (const auto& workload : workloads) {
    const std::string name = workload.value("name", "?");
    table.add({name, workload.value("kind", "?"), workload.value("state", "?"), label_text(workload.value("labels", json::object()))});
    if (const std::string reason = workload.value("reason", ""); !reason.empty()) {
      notes += fmt::format("{}: {}\n", printable(name), printable(reason));
    }
    for (const auto& warning : workload.value("warnings", json::array())) {
      notes += fmt::format("{}: warning: {}\n", printable(name), printable(warning.get<std::string>()));
    }
  }
  fmt::print("{}", table.render(terminal_width()));
  if (!notes.empty()) {
    fmt::print("\n{}", notes);
  }
}

}  // namespace

void add_workloads(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "workloads", "List the workloads and their labels");
  command->callback([&] {
    action = [&] {
      const auto workloads = ask(globals, control::method::workloads, json::object());
      if (!workloads) {
        return report(globals, workloads.error());
      }
      globals.json ? print_json(*workloads) : print_workloads(*workloads);
      return kYes;
    };
  });
}

}  // namespace trireme::cli
