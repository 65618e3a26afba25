#include "cgroup_program.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace trireme::kernel {
namespace {

constexpr std::size_t kMaxPrograms =
    128;  // of one cgroup with its ancestors; the kernel allows 64 on each

std::uint64_t pointer(const void* memory) {
  return reinterpret_cast<std::uintptr_t>(memory);
}

int call(bpf_cmd command, bpf_attr& attributes) {
  return static_cast<int>(::syscall(SYS_bpf, command, &attributes, sizeof attributes));
}

/// bpf(2) wants the bytes that a command does not use to be zero.
bpf_attr cleared() {
  bpf_attr attributes{};
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

/// Calls `function` for each program of the cgroup with its name, until it returns false.
template <typename Function>
Status each(const Fd& cgroup, bpf_attach_type type, std::uint32_t flags, const Function& function) {
  std::array<std::uint32_t, kMaxPrograms> ids{};
  bpf_attr query = cleared();
  query.query.target_fd = static_cast<std::uint32_t>(cgroup.get());
  query.query.attach_type = type;
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
    if (program.valid() && call(BPF_OBJ_GET_INFO_BY_FD, ask) == 0 &&
        !function(program, std::string(info.name))) {
      return {};
    }
  }
  return {};
}

bpf_attr place(const Fd& cgroup, const Fd& program, bpf_attach_type type) {
  bpf_attr attributes = cleared();
  attributes.target_fd = static_cast<std::uint32_t>(cgroup.get());
  attributes.attach_bpf_fd = static_cast<std::uint32_t>(program.get());
  attributes.attach_type = type;
  return attributes;
}

}  // namespace

Result<Fd> CgroupProgram::load(std::span<const bpf_insn> code) const {
  bpf_attr attributes = cleared();
  attributes.prog_type = BPF_PROG_TYPE_CGROUP_SKB;
  attributes.expected_attach_type = BPF_CGROUP_INET_INGRESS;
  attributes.insns = pointer(code.data());
  attributes.insn_cnt = static_cast<std::uint32_t>(code.size());
  attributes.license = pointer("Apache-2.0");
  std::strncpy(attributes.prog_name, name, sizeof attributes.prog_name - 1);
  Fd program(call(BPF_PROG_LOAD, attributes));
  if (!program.valid()) {
    return fail_errno(std::string("cannot load the ") + description);
  }
  return program;
}

Status CgroupProgram::attach(const Fd& program, const std::string& directory, bpf_attach_type type,
                             bool inherits) const {
  const auto cgroup = open_cgroup(directory);
  if (!cgroup || !cgroup->valid()) {
    return cgroup ? Status{} : Status(tl::unexpected(cgroup.error()));
  }
  bool held = false;
  Status listed = each(*cgroup, type, inherits ? BPF_F_QUERY_EFFECTIVE : 0U,
                       [&](const Fd&, const std::string& other) {
                         held = other == name;
                         return !held;
                       });
  if (!listed || held) {
    return listed;
  }
  if (Status detached = detach(directory, type); !detached) {
    return detached;
  }
  bpf_attr attributes = place(*cgroup, program, type);
  attributes.attach_flags = BPF_F_ALLOW_MULTI;
  return call(BPF_PROG_ATTACH, attributes) == 0
             ? Status{}
             : fail_errno(std::string("cannot attach the ") + description + " to " + directory);
}

Status CgroupProgram::detach(const std::string& directory, bpf_attach_type type) const {
  const auto cgroup = open_cgroup(directory);
  if (!cgroup || !cgroup->valid()) {
    return cgroup ? Status{} : Status(tl::unexpected(cgroup.error()));
  }
  Status detached;
  const Status listed = each(*cgroup, type, 0, [&](const Fd& program, const std::string& other) {
    bpf_attr attributes = place(*cgroup, program, type);
    if (other.starts_with(family) && call(BPF_PROG_DETACH, attributes) != 0 && errno != ENOENT) {
      detached = fail_errno(std::string("cannot detach the ") + description);
    }
    return detached.has_value();
  });
  return listed ? detached : listed;
}

}  // namespace trireme::kernel
