// Keeps every packet from the sockets of a cgroup and of those below it, in whatever network
// namespace they are: BPF programs on the cgroup (BPF_CGROUP_INET_INGRESS and _EGRESS) that drop
// all. For the time until rules hold; stays when this process ends. Packet sockets (AF_PACKET) are
// not held, and what the kernel sends without a socket of theirs (a reset to a closed port, an ACK
// out of TIME_WAIT).
#pragma once

#include <string>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::kernel {

class TrafficGate {
 public:
  /// Loads the program. Errors: a kernel without CONFIG_CGROUP_BPF, neither CAP_BPF nor
  /// CAP_SYS_ADMIN.
  [[nodiscard]] static Result<TrafficGate> load();
  /// Shuts the cgroup at `directory` (absolute). Shut already, by us or an ancestor: nothing
  /// happens. One that is gone is fine.
  [[nodiscard]] Status shut(const std::string& directory) const;
  /// Takes our programs off that very cgroup. One that is gone, or not shut, is fine.
  [[nodiscard]] static Status open(const std::string& directory);

 private:
  explicit TrafficGate(Fd program) : program_(std::move(program)) {}
  Fd program_;
};

}  // namespace trireme::kernel
