// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>

#include "command.hpp"
#include "trireme/control/instance.hpp"
#include "trireme/enforcer/enforcer.hpp"

namespace trireme::cli {
namespace {

/// Flushes the current network namespace and the instance of the runtime directory. Holds the
/// instance's lock meanwhile, so that no daemon starts.
Result<enforcer::Flushed> flush(const Globals& globals) {
  Fd lock;
  std::error_code none;
  // Without its runtime directory no daemon of this instance can run; there is nothing to lock.
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

void print_flushed(const enforcer::Flushed& flushed) {
  if (!flushed.table && flushed.containers == 0 && flushed.workloads == 0) {
    fmt::print("nothing to remove\n");
    return;
  }
  fmt::print("{}; {} {} in container network namespaces removed; labels removed from {} {}\n",
             flushed.table ? "table inet trireme removed" : "no table inet trireme found",
             flushed.containers, flushed.containers == 1 ? "table" : "tables", flushed.workloads,
             flushed.workloads == 1 ? "cgroup" : "cgroups");
}

}  // namespace

void add_flush(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "flush", "Remove all rules (daemon must be stopped)");
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
        print_flushed(*flushed);
      }
      return kYes;
    };
  });
}

}  // namespace trireme::cli
