#include "programs.hpp"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <ranges>
#include <string_view>

#include "object.hpp"

namespace trireme::gate {
namespace {

constexpr std::size_t kMaxPrograms = 128;  // of one cgroup; the kernel allows 64

struct Kind {
  const char* name;  // of the program; bpftool shows its first 15 bytes
  bpf_attach_type type;
};
constexpr std::array kKinds = {Kind{"trireme_stamp", BPF_CGROUP_INET_EGRESS},
                               Kind{"trireme_judge", BPF_CGROUP_INET_INGRESS}};

/// Maps that a later daemon's programs take over. The policy's are among them, so that it decides
/// until the new daemon's is in force.
constexpr std::array kLasting = {"settings",  "numbers", "refusals", "members",
                                 "same",      "pairs",   "outcomes", "ports",
                                 "addresses", "named",   "asked",    "translated"};

/// Programs of ours of this kind that are attached to that very cgroup; with BPF_F_QUERY_EFFECTIVE
/// in `flags` those of its ancestors too.
Result<std::vector<Fd>> attached(const Fd& top, const Kind& kind, std::uint32_t flags) {
  std::array<std::uint32_t, kMaxPrograms> ids{};
  std::uint32_t count = kMaxPrograms;
  if (const int rc = bpf_prog_query(top.get(), kind.type, flags, nullptr, ids.data(), &count);
      rc != 0) {
    return fail_errno("cannot list the BPF programs of the cgroup tree", -rc);
  }
  std::vector<Fd> found;
  for (std::uint32_t i = 0; i < count; i++) {
    Fd program(bpf_prog_get_fd_by_id(ids.at(i)));
    bpf_prog_info info{};
    std::uint32_t size = sizeof info;
    if (program.valid() && bpf_obj_get_info_by_fd(program.get(), &info, &size) == 0 &&
        std::string_view(info.name, ::strnlen(info.name, sizeof info.name)) == kind.name) {
      found.push_back(std::move(program));
    }
  }
  return found;
}

/// 0 where the kernel does not tell.
std::uint32_t id_of(const Fd& program) {
  bpf_prog_info info{};
  std::uint32_t size = sizeof info;
  return bpf_obj_get_info_by_fd(program.get(), &info, &size) == 0 ? info.id : 0;
}

/// The map with this name among those that a program uses.
std::optional<Fd> map_of(const Fd& program, std::string_view name) {
  std::array<std::uint32_t, 64> ids{};
  bpf_prog_info info{};
  info.nr_map_ids = ids.size();
  info.map_ids = reinterpret_cast<std::uintptr_t>(ids.data());
  std::uint32_t size = sizeof info;
  if (bpf_obj_get_info_by_fd(program.get(), &info, &size) != 0) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < std::min<std::size_t>(info.nr_map_ids, ids.size()); i++) {
    Fd map(bpf_map_get_fd_by_id(ids.at(i)));
    bpf_map_info about{};
    std::uint32_t about_size = sizeof about;
    if (map.valid() && bpf_obj_get_info_by_fd(map.get(), &about, &about_size) == 0 &&
        std::string_view(about.name, ::strnlen(about.name, sizeof about.name)) == name) {
      return map;
    }
  }
  return std::nullopt;
}

}  // namespace

Result<std::unique_ptr<Gate::Programs>> Gate::Programs::load(const Fd& top) {
  // What libbpf would print is in the errors that it returns.
  libbpf_set_print(nullptr);
  auto programs = std::make_unique<Programs>();
  const auto image = gate::object();
  bpf_object_open_opts options{};
  options.sz = sizeof options;
  options.object_name = "trireme";
  programs->object.reset(bpf_object__open_mem(image.data(), image.size(), &options));
  if (programs->object == nullptr) {
    return fail_errno("cannot read the gate's BPF programs");
  }
  std::array<std::vector<Fd>, kKinds.size()> before;
  for (std::size_t i = 0; i < kKinds.size(); i++) {
    auto found = attached(top, kKinds.at(i), 0);
    if (!found) {
      return tl::unexpected(found.error());
    }
    before.at(i) = std::move(*found);
  }
  // Whoever is above stamps last, and what is stamped here would not be known.
  const auto effective = attached(top, kKinds.front(), BPF_F_QUERY_EFFECTIVE);
  if (effective && effective->size() > before.front().size()) {
    return fail("a triremed is in charge of a cgroup tree that this one is a part of",
                "one of the two has to go");
  }
  for (const char* name : kLasting) {
    bpf_map* map = bpf_object__find_map_by_name(programs->object.get(), name);
    for (const std::vector<Fd>& list : before) {
      const auto known = list.empty() ? std::nullopt : map_of(list.front(), name);
      if (map != nullptr && known) {
        if (const int rc = bpf_map__reuse_fd(map, known->get()); rc != 0) {
          return fail_errno(std::string("cannot take over the BPF map ") + name, -rc);
        }
        programs->taken_over = true;
        break;
      }
    }
  }
  bpf_program* released =
      bpf_object__find_program_by_name(programs->object.get(), "trireme_released");
  const bool has_btf = ::access("/sys/kernel/btf/vmlinux", R_OK) == 0;
  bpf_program__set_autoload(released, has_btf);
  if (const int rc = bpf_object__load(programs->object.get()); rc != 0) {
    return fail_errno("the kernel refuses the gate's BPF programs", -rc);
  }
  if (has_btf) {
    programs->released.reset(bpf_program__attach(released));
    if (programs->released == nullptr) {
      return fail_errno("cannot follow the ends of cgroups");
    }
  }
  return programs;
}

int Gate::Programs::map(const char* name) const {
  return bpf_object__find_map_fd_by_name(object.get(), name);
}

Status Gate::Programs::attach(const Fd& top) const {
  for (const Kind& kind : kKinds) {
    const auto before = attached(top, kind, 0);
    if (!before) {
      return tl::unexpected(before.error());
    }
    const int program = bpf_program__fd(bpf_object__find_program_by_name(object.get(), kind.name));
    struct bpf_prog_attach_opts options {};
    options.sz = sizeof options;
    options.flags = BPF_F_ALLOW_MULTI;
    if (!before->empty()) {
      options.flags |= BPF_F_REPLACE;
      options.replace_prog_fd = before->front().get();
    }
    if (const int rc = bpf_prog_attach_opts(program, top.get(), kind.type, &options); rc != 0) {
      return fail_errno(std::string("cannot attach ") + kind.name + " to the cgroup tree", -rc);
    }
  }
  return {};
}

Result<bool> Gate::Programs::is_attached(const Fd& top) const {
  for (const Kind& kind : kKinds) {
    const auto there = attached(top, kind, 0);
    if (!there) {
      return tl::unexpected(there.error());
    }
    const Fd own(::dup(bpf_program__fd(bpf_object__find_program_by_name(object.get(), kind.name))));
    const auto id = id_of(own);
    if (!std::ranges::any_of(*there,
                             [&](const Fd& each) { return id != 0 && id_of(each) == id; })) {
      return false;
    }
  }
  return true;
}

Status Gate::Programs::detach(const Fd& top) {
  // The judge first: without stamps it would refuse.
  for (const Kind& kind : std::views::reverse(kKinds)) {
    const auto found = attached(top, kind, 0);
    if (!found) {
      return tl::unexpected(found.error());
    }
    for (const Fd& program : *found) {
      if (const int rc = bpf_prog_detach2(program.get(), top.get(), kind.type); rc != 0) {
        return fail_errno(std::string("cannot detach ") + kind.name, -rc);
      }
    }
  }
  return {};
}

}  // namespace trireme::gate
