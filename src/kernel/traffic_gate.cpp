#include "trireme/kernel/traffic_gate.hpp"

#include <array>

#include "cgroup_program.hpp"

namespace trireme::kernel {
namespace {

constexpr CgroupProgram kGate = {
    .name = "trireme_gate1", .family = "trireme_gate", .description = "traffic gate"};
constexpr std::array kDirections = {BPF_CGROUP_INET_INGRESS, BPF_CGROUP_INET_EGRESS};

/// return 0: drop
constexpr std::array<bpf_insn, 2> kDropAll = {{
    insn(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),
    insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
}};

}  // namespace

Result<TrafficGate> TrafficGate::load() {
  auto loaded = kGate.load(kDropAll);
  if (!loaded) {
    return tl::unexpected(loaded.error());
  }
  return TrafficGate(std::move(*loaded));
}

Status TrafficGate::shut(const std::string& directory) const {
  for (const bpf_attach_type direction : kDirections) {
    if (Status attached = kGate.attach(program_, directory, direction, false); !attached) {
      return attached;
    }
  }
  return {};
}

Status TrafficGate::open(const std::string& directory) {
  Status opened;
  for (const bpf_attach_type direction : kDirections) {
    if (const Status detached = kGate.detach(directory, direction); !detached) {
      opened = detached;
    }
  }
  return opened;
}

}  // namespace trireme::kernel
