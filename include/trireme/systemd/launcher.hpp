// SPDX-License-Identifier: Apache-2.0
// trirun's requests: authorisation, scope, enrolment, answer. The command runs only after the
// answer, so no packet leaves unlabelled.
//
// Only the caller itself is moved: children that it has, and sockets that it opened before, stay
// with the cgroup they were made in. trirun has neither.
//
// Rules, after design.md's "Placement":
//   - The caller is who the kernel says it is (SO_PEERCRED and friends), in the daemon's own
//   network namespace, and the same process before and after.
//   - Root may use every property that the scope driver knows; Slice= only below trireme.slice.
//   - Anybody else needs a [[launch]] grant that covers every label, may set the properties of
//   grants.hpp alone, no uid or gid, and gets
//     its unit named <user>-<unit>. Each user has a share of what the kernel can tell apart
//     (launch_shares.hpp).
//   - From inside a workload: root may. Anybody else needs a grant that covers the labels it leaves
//   as well as those it takes, or a granted workload
//     could shed what its administrator put on it. Out of a quarantine, nobody but root.
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
  Fd pidfd;  // SO_PEERPIDFD (Linux 6.5); where invalid, the launcher opens one and compares start
             // times
  policy::LabelSet labels;
  std::vector<std::string> properties;  // NAME=VALUE
  std::string unit;  // without ".scope" or with it; empty: trirun-<pid>-<8 random hex digits>
  bool changes_user = false;  // --uid or --gid: trirun does it after the answer; only root may
};

/// The labels, properties, unit and changes_user that `params` of the method launch ask for. Who
/// asks is the kernel's to say: the caller fills in the rest. Throws nlohmann::json::exception
/// where a parameter is missing or has another type.
[[nodiscard]] Result<LaunchRequest> parse_launch(const nlohmann::json& params);

struct Launched {
  std::string name;         // "web.scope"
  std::string cgroup_path;  // "/trireme.slice/web.scope"
  policy::Number number = 0;
};

class Launcher {
 public:
  /// Called once per request, from the event loop or before launch() returns. After an error the
  /// caller must not run its command; if it does, the strict slice denies it everything.
  using Done = std::function<void(Result<Launched>)>;

  /// `is_reserved` tells scopes that are no launcher's to make: by their names others would take
  /// them for theirs. `shares` says how many commands each user may have. References outlive this
  /// object.
  Launcher(workload::Registry& registry, ScopeDriver& scopes,
           std::function<bool(const std::string& name)> is_reserved, LaunchShares shares);
  ~Launcher();
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

  void configure(std::shared_ptr<const policy::Identity> identity);
  void launch(LaunchRequest request, Done done);

 private:
  struct Attempt;
  Status prepare(Attempt& attempt);
  Status authorise(const LaunchRequest& request, const std::vector<Property>& properties);
  Status may_leave(const LaunchRequest& request);
  Result<Launched> placed(const Attempt& attempt, const std::string& path);

  workload::Registry& registry_;
  ScopeDriver& scopes_;
  std::function<bool(const std::string&)> is_reserved_;
  LaunchGrants grants_;
  LaunchShares shares_;
  std::shared_ptr<bool> alive_;  // a scope that is ready after the launcher has gone calls nobody
};

/// A name for a scope from what the user asked: valid unit name characters only, at most 200 bytes,
/// ".scope" added. Errors name the character.
[[nodiscard]] Result<std::string> scope_unit_name(const std::string& unit);

}  // namespace trireme::systemd
