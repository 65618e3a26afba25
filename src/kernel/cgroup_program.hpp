// BPF programs that look at the packets of a cgroup's sockets: loaded, attached beside those of
// others, found again by their names.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <span>
#include <string>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::kernel {

constexpr bpf_insn insn(unsigned code, unsigned destination, unsigned source, int offset,
                        int immediate) {
  return {.code = static_cast<std::uint8_t>(code),
          .dst_reg = static_cast<std::uint8_t>(destination & 15U),
          .src_reg = static_cast<std::uint8_t>(source & 15U),
          .off = static_cast<std::int16_t>(offset),
          .imm = immediate};
}

/// A kind of program of ours.
struct CgroupProgram {
  const char* name;  // how bpftool shows it, at most 15 bytes; its end changes with the program, so
                     // that an older one is replaced
  const char* family;       // what the names of all its versions begin with
  const char* description;  // for errors

  /// For BPF_CGROUP_INET_INGRESS or _EGRESS: it may return 0 or 1.
  [[nodiscard]] Result<Fd> load(std::span<const bpf_insn> code) const;
  /// Attaches a loaded one to the cgroup at `directory` in the place of older versions, unless it
  /// is there already, or `inherits` and an ancestor has it; a cgroup that is gone is fine.
  [[nodiscard]] Status attach(const Fd& program, const std::string& directory, bpf_attach_type type,
                              bool inherits) const;
  /// Takes all versions off that very cgroup. One that is gone, or has none, is fine.
  [[nodiscard]] Status detach(const std::string& directory, bpf_attach_type type) const;
};

}  // namespace trireme::kernel
