// Keeps from the sockets of a cgroup, and of those below it, what rules cannot judge: multicast and
// broadcast datagrams above all.
//
// nf_tables sees such a datagram once and the kernel then delivers it to every socket that wants
// it, so rules that judge by the socket cannot judge it. A BPF program on the cgroup
// (BPF_CGROUP_INET_INGRESS) is run for each copy instead. It also keeps UDP-Lite, SCTP, DCCP and
// L2TP from those sockets, and from a socket that is bound to a device what this host sends to the
// device's address: nf_tables finds no socket for such packets. Raw sockets get what they get, but
// for multicast.
#pragma once

#include <string>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::kernel {

class MulticastFilter {
 public:
  /// Loads the program. Errors: a kernel without CONFIG_CGROUP_BPF, neither CAP_BPF nor
  /// CAP_SYS_ADMIN.
  [[nodiscard]] static Result<MulticastFilter> load();

  /// Attaches it to the cgroup at `directory` (absolute) beside programs of others; stays when this
  /// process ends. A cgroup that has it already is left as it is, and where it `inherits` one whose
  /// ancestor has it, for as long as that does; one that is gone is fine.
  [[nodiscard]] Status attach(const std::string& directory, bool inherits = false) const;
  /// Takes programs of ours off that very cgroup. A cgroup that is gone, or has none, is fine.
  [[nodiscard]] static Status detach(const std::string& directory);

 private:
  explicit MulticastFilter(Fd program) : program_(std::move(program)) {}
  Fd program_;
};

}  // namespace trireme::kernel
