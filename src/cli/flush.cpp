// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>

#include "command.hpp"
#include "trireme/control/instance.hpp"
#include "trireme/enforcer/enforcer.hpp"

namespace trireme::cli {
namespace {

/// Works in this network namespace, on the instance of the runtime directory.
Result<enforcer::Flushed> flush(const Globals& globals) {
  Fd lock;
  std::error_code none;
  // Without its directory no daemon can run.
  if (std::filesystem::is_directory(globals.runtime_dir, none)) {
    auto taken = control::lock_instance(globals.runtime_dir);
    if (!taken) {
      return tl::unexpected(taken.error());
    }
    lock = std::move(*taken);
  }
  const auto tree = kernel::CgroupTree::find();
  if (!tree) {
    return tl::unexpected(tree.error());
  }
  return enforcer::flush(*tree, globals.runtime_dir);
}

}  // namespace

void add_flush(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "flush", "After a stop, remove the rules: everything may talk");
  command->callback([&] {
    action = [&] {
      const auto flushed = flush(globals);
      if (!flushed) {
        return report(globals, flushed.error());
      }
      if (globals.json) {
        print_json({{"table", flushed->table},
                    {"containers", flushed->containers},
                    {"workloads", flushed->workloads}});
      } else {
        fmt::print(
            "{}; {} in network namespaces of containers removed; {} workloads forgotten\n",
            flushed->table ? "table inet trireme removed" : "there was no table inet trireme",
            flushed->containers, flushed->workloads);
      }
      return kYes;
    };
  });
}

}  // namespace trireme::cli
