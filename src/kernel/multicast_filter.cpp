#include "trireme/kernel/multicast_filter.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace trireme::kernel {
namespace {

/// How bpftool shows it; the digit changes with the program, so that an older one is replaced.
constexpr const char* kName = "trireme_mcast2";
constexpr const char* kFamily = "trireme_mcast";
constexpr std::size_t kMaxPrograms = 128;  // of one cgroup with its ancestors; the kernel allows 64 on each

constexpr bpf_insn insn(unsigned code, unsigned destination, unsigned source, int offset, int immediate) {
  return {.code = static_cast<std::uint8_t>(code),
          .dst_reg = static_cast<std::uint8_t>(destination & 15U),
          .src_reg = static_cast<std::uint8_t>(source & 15U),
          .off = static_cast<std::int16_t>(offset),
          .imm = immediate};
}

/// Passes what was sent to this host alone: by the link (no PACKET_BROADCAST, PACKET_MULTICAST, PACKET_LOOPBACK) and by the destination
/// address (below 224.0.0.0; not in ff00::/8). Before that, what a socket of a transport gets that rules find no socket for: nothing.
/// Jumps count from the next instruction.
std::array<bpf_insn, 35> program() {
  constexpr int kV4 = __builtin_bswap16(ETH_P_IP);  // __sk_buff.protocol is in network byte order
  constexpr int packet_type = offsetof(__sk_buff, pkt_type);
  constexpr int protocol = offsetof(__sk_buff, protocol);
  constexpr int socket = offsetof(__sk_buff, sk);
  return {
      insn(BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0),
      insn(BPF_LDX | BPF_MEM | BPF_DW, 1, 1, socket, 0),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 11, 0),  // -> judged by its packet
      insn(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_sk_fullsock),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 9, 0),
      insn(BPF_LDX | BPF_MEM | BPF_W, 2, 0, offsetof(bpf_sock, protocol), 0),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 7, IPPROTO_TCP),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 6, IPPROTO_UDP),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 5, IPPROTO_ICMP),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 4, IPPROTO_ICMPV6),
      insn(BPF_LDX | BPF_MEM | BPF_W, 2, 0, offsetof(bpf_sock, type), 0),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 2, SOCK_RAW),
      insn(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),  // UDP-Lite, SCTP, DCCP, L2TP: refuse
      insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
      insn(BPF_ALU64 | BPF_MOV | BPF_X, 1, 6, 0, 0),
      insn(BPF_LDX | BPF_MEM | BPF_W, 2, 1, packet_type, 0),
      insn(BPF_JMP | BPF_JNE | BPF_K, 2, 0, 13, PACKET_HOST),  // -> refuse
      insn(BPF_LDX | BPF_MEM | BPF_W, 7, 1, protocol, 0),
      insn(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 16),  // offset of the destination address in IPv4 ...
      insn(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 1, kV4),
      insn(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 24),  // ... and IPv6
      insn(BPF_ALU64 | BPF_MOV | BPF_X, 3, 10, 0, 0),
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

std::uint64_t pointer(const void* memory) {
  return reinterpret_cast<std::uintptr_t>(memory);
}

int call(bpf_cmd command, bpf_attr& attributes) {
  return static_cast<int>(::syscall(SYS_bpf, command, &attributes, sizeof attributes));
}

/// bpf(2) wants the bytes that a command does not use to be zero.
bpf_attr cleared() {
  bpf_attr attributes;
  std::memset(&attributes, 0, sizeof attributes);
  return attributes;
}

Result<Fd> open_cgroup(const std::string& directory) {
  Fd cgroup(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!cgroup.valid() && errno != ENOENT) {
    return fail_errno("cannot open " + directory);
  }
  return cgroup;
}

/// Calls `function` for each ingress program whose name is ours, until it returns false.
template <typename Function>
Status each(const Fd& cgroup, std::uint32_t flags, const Function& function) {
  std::array<std::uint32_t, kMaxPrograms> ids{};
  bpf_attr query = cleared();
  query.query.target_fd = static_cast<std::uint32_t>(cgroup.get());
  query.query.attach_type = BPF_CGROUP_INET_INGRESS;
  query.query.query_flags = flags;
  query.query.prog_ids = pointer(ids.data());
  query.query.prog_cnt = kMaxPrograms;
  if (call(BPF_PROG_QUERY, query) != 0) {
    return fail_errno("cannot list a cgroup's BPF programs");
  }
  for (const std::uint32_t id : std::span(ids).first(query.query.prog_cnt)) {
    bpf_attr open = cleared();
    open.prog_id = id;
    const Fd program(call(BPF_PROG_GET_FD_BY_ID, open));
    bpf_prog_info info{};
    bpf_attr ask = cleared();
    ask.info.bpf_fd = static_cast<std::uint32_t>(program.get());
    ask.info.info_len = sizeof info;
    ask.info.info = pointer(&info);
    if (program.valid() && call(BPF_OBJ_GET_INFO_BY_FD, ask) == 0 && !function(program, std::string(info.name))) {
      return {};
    }
  }
  return {};
}

Status take_off(const Fd& cgroup, const Fd& program) {
  bpf_attr attributes = cleared();
  attributes.target_fd = static_cast<std::uint32_t>(cgroup.get());
  attributes.attach_bpf_fd = static_cast<std::uint32_t>(program.get());
  attributes.attach_type = BPF_CGROUP_INET_INGRESS;
  return call(BPF_PROG_DETACH, attributes) == 0 || errno == ENOENT ? Status{} : fail_errno("cannot detach the multicast filter");
}

}  // namespace

Result<MulticastFilter> MulticastFilter::load() {
  const auto code = program();
  bpf_attr attributes = cleared();
  attributes.prog_type = BPF_PROG_TYPE_CGROUP_SKB;
  attributes.expected_attach_type = BPF_CGROUP_INET_INGRESS;
  attributes.insns = pointer(code.data());
  attributes.insn_cnt = code.size();
  attributes.license = pointer("Apache-2.0");
  std::strncpy(attributes.prog_name, kName, sizeof attributes.prog_name - 1);
  Fd program(call(BPF_PROG_LOAD, attributes));
  if (!program.valid()) {
    return fail_errno("cannot load the multicast filter");
  }
  return MulticastFilter(std::move(program));
}

Status MulticastFilter::attach(const std::string& directory) const {
  const auto cgroup = open_cgroup(directory);
  if (!cgroup || !cgroup->valid()) {
    return cgroup ? Status{} : Status(tl::unexpected(cgroup.error()));
  }
  bool held = false;
  Status listed = each(*cgroup, BPF_F_QUERY_EFFECTIVE, [&](const Fd&, const std::string& name) {
    held = name == kName;
    return !held;
  });
  if (!listed || held) {
    return listed;
  }
  if (Status detached = detach(directory); !detached) {
    return detached;
  }
  bpf_attr attributes = cleared();
  attributes.target_fd = static_cast<std::uint32_t>(cgroup->get());
  attributes.attach_bpf_fd = static_cast<std::uint32_t>(program_.get());
  attributes.attach_type = BPF_CGROUP_INET_INGRESS;
  attributes.attach_flags = BPF_F_ALLOW_MULTI;
  return call(BPF_PROG_ATTACH, attributes) == 0 ? Status{} : fail_errno("cannot attach the multicast filter to " + directory);
}

Status MulticastFilter::detach(const std::string& directory) {
  const auto cgroup = open_cgroup(directory);
  if (!cgroup || !cgroup->valid()) {
    return cgroup ? Status{} : Status(tl::unexpected(cgroup.error()));
  }
  Status detached;
  Status listed = each(*cgroup, 0, [&](const Fd& program, const std::string& name) {
    if (name.starts_with(kFamily)) {
      detached = take_off(*cgroup, program);
    }
    return detached.has_value();
  });
  return listed ? detached : listed;
}

}  // namespace trireme::kernel
