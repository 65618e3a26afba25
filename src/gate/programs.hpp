// SPDX-License-Identifier: Apache-2.0
// The gate's programs and lasting maps: loaded, attached, and found again by a later daemon.
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
  /// Of the tracing programs, which follow births and ends of cgroups. They go on without us where
  /// they are pinned.
  std::vector<std::unique_ptr<bpf_link, Destroy>> links;
  struct Free {
    void operator()(ring_buffer* opened) const { ring_buffer__free(opened); }
  };
  std::unique_ptr<ring_buffer, Free> ring;
  std::vector<Refused> refused;  // read from `ring`, and not yet taken
  bool traces = false;           // the tracing programs are loaded
  bool taken_over = false;       // settings of an earlier daemon
  Births::State state = Births::State::absent;
  std::string doubt;  // why `state` is not the best one

  /// Loads them, with the maps of those that are attached to the cgroup `top`.
  /// `room`: how many cgroups can have a number.
  [[nodiscard]] static Result<std::unique_ptr<Programs>> load(const Fd& top, std::uint32_t room);
  [[nodiscard]] int map(const char* name) const;
  [[nodiscard]] int program(const char* name) const;
  /// Egress first: a judge without stamps would refuse. Where births cannot be followed, `doubt`
  /// says so.
  [[nodiscard]] Status attach(const Fd& top);
  [[nodiscard]] Result<bool> is_attached(const Fd& top) const;
  [[nodiscard]] static Status detach(const Fd& top);

 private:
  using Before = std::vector<std::vector<Fd>>;  // programs that are attached, by kind
  /// Without `with_btf`: what any kernel takes, one that lets no program read its memory too.
  [[nodiscard]] Status build(const Before& before, bool with_btf, std::uint32_t room);
  [[nodiscard]] Status take_over(const Before& before, const char* name);
  [[nodiscard]] Status open_ring();
  static int on_refused(void* self, void* data, std::size_t size);
  void follow(const Fd& top);
  [[nodiscard]] Status pin(const Fd& top) const;
};

/// The id of a cgroup's directory.
[[nodiscard]] Result<std::uint64_t> id_of(const Fd& directory);

}  // namespace trireme::gate
