// SPDX-License-Identifier: Apache-2.0
// Handles trirun's requests: authorization, scope, enrollment, answer. trirun runs the command only
// after the answer, so no packet leaves before the command is labeled.
//
// Only the calling process is moved. Children that it already has, and sockets that it already
// opened, stay in the cgroup that they were created in. trirun has neither.
//
// Rules:
//   - The kernel identifies the caller (SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD). It must be in
//     the daemon's network namespace, and be the same process before and after the scope is
//     created.
//   - Root may set every property that the scope driver knows; Slice= only at or below
//     trireme.slice.
//   - Any other user needs a [[launch]] grant that covers every label, may set only the properties
//     of grants.hpp, may not choose a uid or gid, and gets a unit named <user>-<unit>. Each user
//     has a share of the workload numbers (launch_shares.hpp).
//   - A caller inside a workload: root may launch. Any other user needs a grant that covers the
//     labels of that workload as well as the new ones; otherwise a workload could drop labels that
//     its administrator gave it. Only root may leave a quarantined workload.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/systemd/grants.hpp"
#include "trireme/systemd/launch_shares.hpp"
#include "trireme/systemd/scope.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::systemd {

struct LaunchRequest {
  std::uint32_t pid = 0;              // SO_PEERCRED
  std::uint32_t uid = 0;              // SO_PEERCRED: effective at connect(2)
  std::uint32_t gid = 0;              // SO_PEERCRED
  std::vector<std::uint32_t> groups;  // SO_PEERGROUPS: the supplementary groups
  Fd pidfd;  // SO_PEERPIDFD (Linux 6.5); if invalid, the launcher opens one and compares start
             // times
  policy::LabelSet labels;
  std::vector<std::string> properties;  // NAME=VALUE
  std::string unit;           // with or without ".scope"; empty: trirun-<pid>-<8 random hex digits>
  bool changes_user = false;  // --uid or --gid, which trirun applies after the answer; root only
};

/// Reads labels, properties, unit and changes_user from the `params` of the method launch. The
/// caller fills in the other members from what the kernel reports about the peer. Throws
/// nlohmann::json::exception if a parameter is missing or has the wrong type.
[[nodiscard]] Result<LaunchRequest> parse_launch(const nlohmann::json& params);

struct Launched {
  std::string name;         // "web.scope"
  std::string cgroup_path;  // "/trireme.slice/web.scope"
  policy::Number number = 0;
};

class Launcher {
 public:
  /// Called once per request, from the event loop or before launch() returns. After an error the
  /// caller must not run its command; if it does, the strict slice denies all its traffic.
  using Done = std::function<void(Result<Launched>)>;

  /// `is_reserved` returns true for scope names that another source would claim (a container's).
  /// `shares` limits the number of commands per user. The references must outlive this object.
  Launcher(workload::Registry& registry, ScopeDriver& scopes,
           std::function<bool(const std::string& name)> is_reserved, LaunchShares shares);
  ~Launcher();
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

  void configure(std::shared_ptr<const config::Host> host);
  void launch(LaunchRequest request, Done done);

 private:
  struct Attempt;
  Status prepare(Attempt& attempt);
  Status authorize(const LaunchRequest& request, const std::vector<Property>& properties);
  Status may_leave(const LaunchRequest& request);
  Result<Launched> placed(const Attempt& attempt, const std::string& path);

  workload::Registry& registry_;
  ScopeDriver& scopes_;
  std::function<bool(const std::string&)> is_reserved_;
  LaunchGrants grants_;
  LaunchShares shares_;
  std::shared_ptr<bool> alive_;  // expires with the launcher, so that a late reply is ignored
};

/// The scope's name for the unit name that the user gave, with ".scope" added if it is missing.
/// Errors: the name is empty, is longer than 200 bytes without the suffix, or contains a character
/// that is not valid in a unit name (the error names it).
[[nodiscard]] Result<std::string> scope_unit_name(const std::string& unit);

}  // namespace trireme::systemd
