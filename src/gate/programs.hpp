// SPDX-License-Identifier: Apache-2.0
// Loads and attaches the gate's programs, and takes over the maps of an earlier daemon's programs.
#pragma once

#include <bpf/libbpf.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/gate/gate.hpp"

namespace trireme::gate {

struct Gate::Programs {
  struct Close {
    void operator()(bpf_object* loaded) const { bpf_object__close(loaded); }
  };
  std::unique_ptr<bpf_object, Close> object;
  struct Destroy {
    void operator()(bpf_link* link) const { bpf_link__destroy(link); }
  };
  /// The links of the tracing programs, which follow the creation and removal of cgroups. Pinned
  /// ones stay when this process ends.
  std::vector<std::unique_ptr<bpf_link, Destroy>> links;
  struct Free {
    void operator()(ring_buffer* opened) const { ring_buffer__free(opened); }
  };
  std::unique_ptr<ring_buffer, Free> ring;
  std::vector<Refused> refused;  // read from `ring`, not yet taken by take_refused()
  bool traces = false;           // the tracing programs are loaded
  bool taken_over = false;       // the settings map is that of an earlier daemon
  Births::State state = Births::State::absent;
  std::string doubt;  // why `state` is not `always`

  /// Loads the programs. They share the maps of programs that are attached to the cgroup `top`.
  /// `room`: how many cgroups can have a number.
  [[nodiscard]] static Result<std::unique_ptr<Programs>> load(const Fd& top, std::uint32_t room);
  /// The descriptor of a map. This object owns it.
  [[nodiscard]] int map(const char* name) const;
  [[nodiscard]] int program(const char* name) const;
  /// Attaches egress before ingress, because ingress refuses packets without a stamp. If the
  /// creation of cgroups cannot be traced, this is no error, and `doubt` has the reason.
  [[nodiscard]] Status attach(const Fd& top);
  [[nodiscard]] Result<bool> is_attached(const Fd& top) const;
  [[nodiscard]] static Status detach(const Fd& top);

 private:
  using Before = std::vector<std::vector<Fd>>;  // attached programs of an earlier daemon, by kind
  /// Without `with_btf`, loads only programs that any kernel accepts, even one that lets no program
  /// read its memory.
  [[nodiscard]] Status build(const Before& before, bool with_btf, std::uint32_t room);
  [[nodiscard]] Status take_over(const Before& before, const char* name);
  [[nodiscard]] Status open_ring();
  static int on_refused(void* self, void* data, std::size_t size);
  void follow(const Fd& top);
  [[nodiscard]] Status pin(const Fd& top) const;
};

/// The cgroup id of a cgroup's directory: its inode number.
[[nodiscard]] Result<std::uint64_t> id_of(const Fd& directory);

}  // namespace trireme::gate
