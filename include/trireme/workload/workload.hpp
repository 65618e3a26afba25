// SPDX-License-Identifier: Apache-2.0
// What a workload is, whoever started it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "trireme/kernel/netns.hpp"
#include "trireme/policy/compile.hpp"
#include "trireme/policy/labels.hpp"

namespace trireme::workload {

enum class Kind : std::uint8_t { process, container, unit };

enum class State : std::uint8_t {
  enforced,     // the kernel judges its traffic by its labels
  quarantined,  // everything to and from it is dropped; `reason` says why
  unenforced,   // known, but cannot be judged; `reason` says why
};

/// How the reason of one begins that is to be in quarantine, and that nothing keeps there.
inline constexpr const char* kNotShut = "NOT SHUT";

/// How the reason of one begins that is in quarantine because of where its processes are.
inline constexpr const char* kStrayed = "a process is in a network namespace that is not enforced";

/// How the warning begins of one whose labels cannot be proved elsewhere.
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
  std::string reason;           // why it is not enforced
  std::string cgroup_path;      // below the cgroup v2 root: "/trireme.slice/x.scope"; empty: it has
                                // none, its network tells it apart
  std::uint64_t cgroup_id = 0;  // inode number of that directory
  policy::Number number = 0;    // 0 unless enforced
  std::uint32_t pid = 0;        // of a process in it, for the capability check; 0 where unknown
  std::uint64_t started = 0;    // start_time() of that process
  std::string container_id;     // 64 hex digits; containers only
  std::vector<std::string> warnings;  // "CAP_NET_ADMIN: can remove the rules"
  /// Where its sockets are or have been: first the one that it was started in. Once a place is
  /// here it stays, whatever the workload's processes do. Empty: not known yet.
  std::vector<Place> places;
  [[nodiscard]] bool is_in(const std::shared_ptr<const kernel::Netns>& network) const;
  std::vector<std::uint64_t> former = {};  // as in CgroupRef
};

/// The strict slice of the instance with this runtime directory: "/trireme.slice" for the system's
/// own, "/trireme-<hash>.slice" for others.
[[nodiscard]] std::string strict_slice(const std::string& runtime_dir);

/// Where the workload's sockets are: "host" (our own network namespace), "own" (one that is its
/// own) or "shared" (another container's); null where that is not known yet.
[[nodiscard]] const char* network_text(const Workload& workload);

/// What the permitted capabilities of `pid` let it do to its own policy, a line each that starts
/// with "CAP_"; empty where they let it do nothing, or where the process is gone. Those of a user
/// namespace of its own count only against rules in `network`, the workload's where it is another
/// than ours, and only while the process is in that. Reads /proc/PID/status.
[[nodiscard]] std::vector<std::string> capability_warnings(std::uint32_t pid,
                                                           const kernel::Netns* network);

}  // namespace trireme::workload
