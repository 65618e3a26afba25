#include <fmt/format.h>

#include <cstdio>

#include "command.hpp"
#include "table.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

void print_list(const json& list, const char* head) {
  for (const auto& item : list) {
    fmt::print("{:<12} {}\n", head, printable(item.get<std::string>()));
    head = "";
  }
}

void print_status(const json& status) {
  const json policy = status.value("policy", json::object());
  fmt::print("{:<12} {}\n", "trireme", status.value("version", "?"));
  fmt::print("{:<12} {}\n", "mode", status.value("mode", "?"));
  fmt::print("{:<12} generation {}, {} rules, loaded {}\n", "policy", policy.value("generation", 0), policy.value("rules", 0),
             policy.value("loaded", "?"));
  fmt::print("{:<12} {}\n", "", printable(policy.value("directory", "?")));
  if (const json errors = policy.value("errors", json::array()); !errors.empty()) {
    fmt::print("{:<12} the files on disk are not valid; generation {} stays in force:\n", "", policy.value("generation", 0));
    print_list(errors, "errors");
  }
  print_list(policy.value("warnings", json::array()), "warnings");
  if (const json counts = status.value("workloads", json()); counts.is_object()) {
    fmt::print("{:<12} {} enforced, {} quarantined, {} unenforced\n", "workloads", counts.value("enforced", 0),
               counts.value("quarantined", 0), counts.value("unenforced", 0));
  }
  const json sources = status.value("sources", json::object());
  for (const auto& [name, state] : sources.items()) {
    fmt::print("{:<12} {}\n", name, printable(state.get<std::string>()));
  }
  fmt::print("{:<12} {}\n", "cgroups", status.value("cgroup_driver", "?"));
  print_list(status.value("problems", json::array()), "problems");
}

}  // namespace

void add_status(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "status", "Show what the daemon does and which policy holds");
  command->callback([&] {
    action = [&] {
      const auto status = ask(globals, control::method::status, json::object());
      if (!status) {
        return report(globals, status.error());
      }
      globals.json ? print_json(*status) : print_status(*status);
      return kYes;
    };
  });
}

}  // namespace trireme::cli
