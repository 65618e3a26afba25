// Keeps multicast and broadcast datagrams from the sockets of a cgroup and of those below it.
//
// nf_tables sees such a datagram once and the kernel then delivers it to every socket that wants it, so rules that judge by the socket
// cannot judge it. A BPF program on the cgroup (BPF_CGROUP_INET_INGRESS) is run for each copy instead. It also keeps UDP-Lite, SCTP, DCCP
// and L2TP from those sockets: nf_tables finds no socket for such packets. Raw sockets get what they get, but for multicast.
#pragma once

#include <string>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::kernel {

class MulticastFilter {
 public:
  /// Loads the program. Errors: a kernel without CONFIG_CGROUP_BPF, neither CAP_BPF nor CAP_SYS_ADMIN.
  [[nodiscard]] static Result<MulticastFilter> load();

  /// Attaches it to the cgroup at `directory` (absolute) beside programs of others; stays when this process ends. A cgroup that is held to
  /// it already, by itself or an ancestor, is left as it is; one that is gone is fine.
  [[nodiscard]] Status attach(const std::string& directory) const;
  /// Takes programs of ours off that very cgroup. A cgroup that is gone, or has none, is fine.
  [[nodiscard]] static Status detach(const std::string& directory);

 private:
  explicit MulticastFilter(Fd program) : program_(std::move(program)) {}
  Fd program_;
};

}  // namespace trireme::kernel
