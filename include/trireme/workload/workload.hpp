// SPDX-License-Identifier: Apache-2.0
// A workload, independent of the source that found it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "trireme/kernel/netns.hpp"
#include "trireme/policy/compile.hpp"
#include "trireme/policy/labels.hpp"
#include "trireme/policy/published.hpp"

namespace trireme::workload {

enum class Kind : std::uint8_t { process, container, unit };

enum class State : std::uint8_t {
  enforced,     // the kernel enforces policy on its traffic
  quarantined,  // all traffic to and from it is dropped; `reason` says why
  unenforced,   // known, but policy is not enforced; `reason` says why
};

/// Prefix of Workload::reason when quarantine was requested but could not be enforced ("NOT SHUT").
inline constexpr const char* kNotShut = "NOT SHUT";

/// Prefix of Workload::reason when the workload is quarantined because of the network namespaces
/// that its processes are in.
inline constexpr const char* kElsewhere =
    "a process is in a network namespace that is not enforced";

/// Prefix of the warning about labels that cannot be proved to remote hosts.
inline constexpr const char* kLocalOnly = "LOCAL ONLY: ";

[[nodiscard]] const char* text(Kind kind);
[[nodiscard]] const char* text(State state);

/// A network namespace that a workload's sockets are in.
struct Place {
  std::shared_ptr<const kernel::Netns> network = nullptr;  // null: the daemon's own
  bool whole_network = false;                              // as in CgroupRef
};

struct Workload {
  std::string name;  // of the scope, the container or the unit; unique among live workloads
  Kind kind = Kind::process;
  policy::LabelSet labels;      // [host] labels included
  policy::LabelSet own_labels;  // as its source gave them, without [host] labels
  State state = State::quarantined;
  std::string reason;       // why it is not enforced
  std::string cgroup_path;  // below the cgroup v2 root: "/trireme.slice/x.scope"; empty if it has
                            // no cgroup and is identified by its network namespace
  std::uint64_t cgroup_id = 0;        // inode number of that directory
  policy::Number number = 0;          // 0 unless enforced
  std::uint32_t pid = 0;              // a process in it, for the capability check; 0 if unknown
  std::uint64_t started = 0;          // start_time() of that process
  std::string container_id;           // 64 hex digits; containers only
  std::vector<std::string> warnings;  // "CAP_NET_ADMIN: can remove the rules"
  std::vector<policy::PublishedPort> published = {};  // sorted; containers only
  /// The network namespaces that its sockets are or were in; the first is the one that it was
  /// started in. A place is never removed, whatever the workload's processes do. Empty: not known
  /// yet.
  std::vector<Place> places;
  [[nodiscard]] bool is_in(const std::shared_ptr<const kernel::Netns>& network) const;
  std::vector<std::uint64_t> former = {};  // as in CgroupRef
};

/// The strict slice of the daemon with this runtime directory: "/trireme.slice" for the default
/// directory, "/trireme-<hash>.slice" for any other.
[[nodiscard]] std::string strict_slice(const std::string& runtime_dir);

/// The kind of network namespace that the workload's sockets are in: "host" (the daemon's), "own"
/// (a namespace of its own) or "shared" (another container's); null if it is not known yet.
[[nodiscard]] const char* network_text(const Workload& workload);

/// One warning, starting with "CAP_", for each permitted capability of `pid` that lets it bypass
/// its own policy; empty if there is none or the process has exited. Capabilities in another user
/// namespace than the daemon's affect only rules in `network` (the workload's network namespace;
/// null if it is the daemon's), and only while the process is in it. Reads /proc/PID/status.
[[nodiscard]] std::vector<std::string> capability_warnings(std::uint32_t pid,
                                                           const kernel::Netns* network);

}  // namespace trireme::workload
