// SPDX-License-Identifier: Apache-2.0
// What the last daemon knew and saved: quarantine orders, networks of container engines.
#include <spdlog/spdlog.h>

#include "daemon.hpp"
#include "declared_networks.hpp"
#include "kept_holds.hpp"
#include "trireme/base/disk.hpp"

namespace trireme::daemon {

/// Quarantine orders of the last daemon apply from the start.
void Daemon::recall_holds() {
  auto holds = read_holds(options_.state_dir);
  if (!holds) {
    // The next change would overwrite it.
    const std::string aside = holds_file(options_.state_dir) + ".damaged";
    std::ignore = Disk().rename(holds_file(options_.state_dir), aside);
    problems_.note(
        "earlier quarantine orders",
        fail("those for workloads that do not run now are lost: " + holds.error().message,
             "see " + aside + ", and give them again with 'trirectl quarantine'"));
  }
  registry_->set_holds(holds ? std::move(*holds) : std::vector<workload::Hold>());
  registry_->on_holds = [this] {
    Status kept = keep_holds(options_.state_dir, registry_->holds());
    problems_.note("quarantine orders",
                   kept ? Status{}
                        : fail("the last change is not saved, and a reboot would undo it: " +
                               kept.error().message));
    return kept;
  };
}

/// Uses the networks that the last daemon learned from the container engines until they answer.
void Daemon::follow_declared_networks() {
  docker::DeclaredNetworks before = read_declared_networks(options_.runtime_dir);
  points_->set_container_networks(together(before));
  docker_->set_declared(std::move(before));
  docker_->on_declared = [this](const docker::DeclaredNetworks& networks) {
    points_->set_container_networks(together(networks));
    if (Status kept = keep_declared_networks(options_.runtime_dir, networks); !kept) {
      spdlog::error(
          "cannot save the networks of containers; after a restart, containers are not asked for "
          "tokens until their engine answers: {}",
          kept.error().text());
    }
  };
}

}  // namespace trireme::daemon
