// SPDX-License-Identifier: Apache-2.0
// Units, containers and compose services that use the network and are not workloads: what would
// make them workloads, and which of their open connections policy would then deny.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "sockets_here.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::daemon {

class Daemon;

/// Whose a socket is.
struct SocketOwner {
  enum class Kind : std::uint8_t { unlabeled, workload, unit, container, compose };
  Kind kind = Kind::unlabeled;
  std::string name = {};         // "shop.service", "web"; of a compose service "PROJECT/SERVICE"
  std::string project = {};      // kind compose only
  std::string service = {};      // kind compose only
  policy::LabelSet labels = {};  // of a workload its labels; of the others those to propose
  [[nodiscard]] bool is_candidate() const {
    return kind != Kind::unlabeled && kind != Kind::workload;
  }
  auto operator<=>(const SocketOwner& other) const {
    return std::pair(kind, name) <=> std::pair(other.kind, other.name);
  }
  bool operator==(const SocketOwner& other) const {
    return kind == other.kind && name == other.name;
  }
};

struct OwnedSocket {
  kernel::InetSocket socket;
  std::uint64_t network = 0;  // inode of its network namespace; 0: the daemon's own
  SocketOwner owner;
  EphemeralPorts ephemeral = {};  // of its network namespace
};

struct Unmanaged {
  struct Candidate {
    SocketOwner owner;
    std::set<std::string> listens = {};  // "tcp/5432"
    std::size_t connects = 0;            // open connections that it began
  };
  std::vector<Candidate> candidates;     // sorted by kind and name
  std::uint64_t connections = 0;         // open ones between different owners, with a candidate
  std::vector<policy::SeenFlow> denied;  // of these; identical ones are one entry
};

/// The name as a label value: characters that values cannot have become '-'.
[[nodiscard]] std::string label_value(const std::string& name);
/// The lines that make a candidate a workload: a [[unit]] entry, an option of `docker run`, or a
/// part of a compose file.
[[nodiscard]] std::string lines_for(const SocketOwner& owner);

/// `policy` is evaluated as if it was enforced and the candidates had the proposed labels.
/// `has_handshakes`: workloads in two network namespaces can prove these to each other.
[[nodiscard]] Unmanaged find_unmanaged(const std::vector<OwnedSocket>& sockets,
                                       const AddressesByNetwork& addresses,
                                       const policy::Policy& policy, bool has_handshakes);

/// What a survey has not looked at.
struct Unseen {
  std::size_t unread = 0;      // network namespaces, because the time was over
  std::size_t unsearched = 0;  // cgroups of units and containers, because the time was over
  std::size_t cut = 0;         // such cgroups of which not all threads were looked at
  std::size_t unopened = 0;    // network namespaces that could not be opened
};
/// One line for each kind; empty if everything was looked at.
[[nodiscard]] std::vector<std::string> notes_on(const Unseen& unseen);

/// The result of the method `survey`. Reads cgroups and sockets; blocks as long as the kernel lists
/// them, in all but the daemon's own network namespace no longer than ReadingTime::kMost. Errors:
/// this host's sockets cannot be listed.
[[nodiscard]] Result<nlohmann::json> survey_json(Daemon& daemon);

}  // namespace trireme::daemon
