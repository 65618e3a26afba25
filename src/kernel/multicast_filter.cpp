#include "trireme/kernel/multicast_filter.hpp"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>

#include "cgroup_program.hpp"

namespace trireme::kernel {
namespace {

constexpr CgroupProgram kProgram = {
    .name = "trireme_mcast3", .family = "trireme_mcast", .description = "multicast filter"};

/// Passes what was sent to this host alone: by the link (no PACKET_BROADCAST, PACKET_MULTICAST,
/// PACKET_LOOPBACK) and by the destination address (below 224.0.0.0; not in ff00::/8). Before that,
/// what sockets get that rules do not find: those of other transports nothing, and those bound to a
/// device what comes by that device alone. (For a packet of this host to the address of another
/// device, TCP and UDP take that device for the one that it came by; it is lo, and nf_tables looks
/// for sockets of lo.) Jumps count from the next instruction.
std::array<bpf_insn, 39> program() {
  constexpr int kV4 = __builtin_bswap16(ETH_P_IP);  // __sk_buff.protocol is in network byte order
  constexpr int packet_type = offsetof(__sk_buff, pkt_type);
  constexpr int protocol = offsetof(__sk_buff, protocol);
  constexpr int socket = offsetof(__sk_buff, sk);
  return {
      insn(BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0),
      insn(BPF_LDX | BPF_MEM | BPF_DW, 1, 1, socket, 0),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 15, 0),  // -> judged by its packet
      insn(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_sk_fullsock),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 13, 0),  // -> judged by its packet
      insn(BPF_LDX | BPF_MEM | BPF_W, 2, 0, offsetof(bpf_sock, protocol), 0),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 7, IPPROTO_TCP),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 6, IPPROTO_UDP),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 5, IPPROTO_ICMP),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 4, IPPROTO_ICMPV6),
      insn(BPF_LDX | BPF_MEM | BPF_W, 2, 0, offsetof(bpf_sock, type), 0),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 2, SOCK_RAW),
      insn(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),  // UDP-Lite, SCTP, DCCP, L2TP: refuse
      insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
      insn(BPF_LDX | BPF_MEM | BPF_W, 2, 0, offsetof(bpf_sock, bound_dev_if), 0),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 2, 0),  // bound to none -> judged by its packet
      insn(BPF_LDX | BPF_MEM | BPF_W, 3, 6, offsetof(__sk_buff, ifindex), 0),
      insn(BPF_JMP | BPF_JNE | BPF_X, 2, 3, -6, 0),   // -> refuse
      insn(BPF_ALU64 | BPF_MOV | BPF_X, 1, 6, 0, 0),  // judged by its packet
      insn(BPF_LDX | BPF_MEM | BPF_W, 2, 1, packet_type, 0),
      insn(BPF_JMP | BPF_JNE | BPF_K, 2, 0, 13, PACKET_HOST),  // -> refuse
      insn(BPF_LDX | BPF_MEM | BPF_W, 7, 1, protocol, 0),
      insn(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0,
           16),  // offset of the destination address in IPv4 ...
      insn(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 1, kV4),
      insn(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 24),  // ... and IPv6
      insn(BPF_ALU64 | BPF_MOV | BPF_X, 3, 10, 0, 0),
      // NOLINTNEXTLINE(misc-redundant-expression): BPF_ADD and BPF_K are both 0
      insn(BPF_ALU64 | BPF_ADD | BPF_K, 3, 0, 0, -4),
      insn(BPF_ALU64 | BPF_MOV | BPF_K, 4, 0, 0, 4),
      insn(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_skb_load_bytes),
      insn(BPF_JMP | BPF_JNE | BPF_K, 0, 0, 4, 0),  // cannot be read -> refuse
      insn(BPF_LDX | BPF_MEM | BPF_B, 2, 10, -4, 0),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 4, kV4),   // -> IPv4
      insn(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 1, 0xff),  // -> refuse
      insn(BPF_JMP | BPF_JA, 0, 0, 3, 0),              // -> pass
      insn(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),   // refuse
      insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
      insn(BPF_JMP | BPF_JGE | BPF_K, 2, 0, -3, 224),  // IPv4; -> refuse
      insn(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1),   // pass
      insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
}

}  // namespace

Result<MulticastFilter> MulticastFilter::load() {
  auto loaded = kProgram.load(program());
  if (!loaded) {
    return tl::unexpected(loaded.error());
  }
  return MulticastFilter(std::move(*loaded));
}

Status MulticastFilter::attach(const std::string& directory, bool inherits) const {
  return kProgram.attach(program_, directory, BPF_CGROUP_INET_INGRESS, inherits);
}

Status MulticastFilter::detach(const std::string& directory) {
  return kProgram.detach(directory, BPF_CGROUP_INET_INGRESS);
}

}  // namespace trireme::kernel
