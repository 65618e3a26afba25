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
  /// Hears when cgroups have gone for good; null where the kernel has no BTF.
  std::unique_ptr<bpf_link, Destroy> released;
  bool taken_over = false;  // maps of an earlier daemon

  /// Loads them, with the maps of those that are attached to the cgroup `top`.
  [[nodiscard]] static Result<std::unique_ptr<Programs>> load(const Fd& top);
  [[nodiscard]] int map(const char* name) const;
  /// Egress first: a judge without stamps would refuse.
  [[nodiscard]] Status attach(const Fd& top) const;
  [[nodiscard]] Result<bool> is_attached(const Fd& top) const;
  [[nodiscard]] static Status detach(const Fd& top);
};

}  // namespace trireme::gate
