// SPDX-License-Identifier: Apache-2.0
#include "programs.hpp"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <ranges>
#include <span>
#include <string_view>
#include <utility>

#include "object.hpp"
#include "trireme/abi/gate.h"

namespace trireme::gate {
namespace {

constexpr std::size_t kMaxPrograms = 128;  // of one cgroup; the kernel's limit is 64

constexpr const char* kClosed = "trireme_closed";  // not loaded on kernels before Linux 5.15

struct Kind {
  const char* name;  // of the program; bpftool shows its first 15 bytes
  bpf_attach_type type;
};
constexpr std::array kKinds = {Kind{"trireme_stamp", BPF_CGROUP_INET_EGRESS},
                               Kind{"trireme_judge", BPF_CGROUP_INET_INGRESS},
                               Kind{kClosed, BPF_CGROUP_INET_SOCK_RELEASE}};

/// The names of the tracing programs, in the order in which they are attached. Those that remove
/// entries come first: otherwise an entry could be added whose removal is missed.
constexpr std::array kTracing = {"trireme_released", "trireme_ended", "trireme_born"};
constexpr const char* kBpfFileSystem = "/sys/fs/bpf";
constexpr const char* kPins = "/sys/fs/bpf/trireme";
constexpr const char* kNext = "_next";  // bpffs does not allow dots in names

/// Maps that the programs of a later daemon take over. They include the maps of the policy, so that
/// it stays in force until the new daemon has written its own.
constexpr std::array kLasting = {"settings", "numbers", "counts",     "refusals", "members",
                                 "same",     "pairs",   "outcomes",   "ports",    "addresses",
                                 "named",    "asked",   "translated", "closed"};

/// The gate's programs of this kind that are attached to this cgroup; with BPF_F_QUERY_EFFECTIVE in
/// `flags`, also those of its ancestors.
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
        std::string_view(info.name, ::strnlen(info.name, sizeof info.name))
            .starts_with(kind.name)) {
      found.push_back(std::move(program));
    }
  }
  return found;
}

/// The kernel's id of a program; 0 if unknown.
std::uint32_t program_id(int program) {
  bpf_prog_info info{};
  std::uint32_t size = sizeof info;
  return bpf_obj_get_info_by_fd(program, &info, &size) == 0 ? info.id : 0;
}

/// The map with this name that a program uses; nullopt if there is none.
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

/// True if the map of an earlier daemon has the type and sizes that this daemon's programs expect.
bool fits(const bpf_map* map, const Fd& known) {
  bpf_map_info about{};
  std::uint32_t size = sizeof about;
  return bpf_obj_get_info_by_fd(known.get(), &about, &size) == 0 &&
         about.type == static_cast<std::uint32_t>(bpf_map__type(map)) &&
         about.key_size == bpf_map__key_size(map) && about.value_size == bpf_map__value_size(map) &&
         about.max_entries == bpf_map__max_entries(map);
}

/// The address; ::ffff:a.b.c.d as IPv4.
policy::Address plain(const std::uint8_t (&mapped)[16]) {
  constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  const std::span<const std::uint8_t, 16> bytes(mapped);
  policy::Address address;
  if (std::ranges::equal(bytes.first<12>(), kMapped)) {
    std::ranges::copy(bytes.last<4>(), address.bytes.begin());
  } else {
    address.family = policy::Address::Family::v6;
    std::ranges::copy(bytes, address.bytes.begin());
  }
  return address;
}

/// The offset in bytes of a member of a kernel structure; nullopt if it has no such member.
std::optional<std::uint32_t> offset(const btf* types, const char* of, std::string_view member) {
  const auto id = btf__find_by_name_kind(types, of, BTF_KIND_STRUCT);
  const btf_type* type = id < 0 ? nullptr : btf__type_by_id(types, static_cast<std::uint32_t>(id));
  for (std::uint32_t i = 0; type != nullptr && i < btf_vlen(type); i++) {
    if (btf__name_by_offset(types, btf_members(type)[i].name_off) == member) {
      return btf_member_bit_offset(type, i) / 8;
    }
  }
  return std::nullopt;
}

struct Kernel {
  trireme_layout layout = {};           // members are 0 if unknown
  bool tells_cgroup_of_socket = false;  // since Linux 5.15
};

/// Determines, from kernel BTF, what the programs need to know about this kernel and this process.
Kernel look_at_kernel() {
  struct FreeTypes {
    void operator()(btf* types) const { btf__free(types); }
  };
  const std::unique_ptr<btf, FreeTypes> types(btf__load_vmlinux_btf());
  if (types == nullptr) {
    return {};
  }
  bool complete = true;
  const auto at = [&](const char* of, std::string_view member) {
    const auto found = offset(types.get(), of, member);
    complete = complete && found;
    return found.value_or(0);
  };
  Kernel kernel;
  kernel.layout.cgroup_of_socket = at("sock", "sk_cgrp_data") + at("sock_cgroup_data", "cgroup");
  kernel.tells_cgroup_of_socket = std::exchange(complete, true);
  kernel.layout.node_of_cgroup = at("cgroup", "kn");
  kernel.layout.id_of_node = at("kernfs_node", "id");
  kernel.layout.parent_of_cgroup = at("cgroup", "self") + at("cgroup_subsys_state", "parent");
  kernel.layout.cgroup_of_state = at("cgroup_subsys_state", "cgroup");
  kernel.layout.program_of_group = at("sock_reuseport", "prog");
  kernel.layout.count_of_group = at("sock_reuseport", "num_socks");
  kernel.layout.members_of_group = at("sock_reuseport", "socks");
  const std::uint32_t group = at("sock", "sk_reuseport_cb");
  kernel.layout.group_of_socket =
      std::exchange(complete, true) && kernel.tells_cgroup_of_socket ? group : 0;
  kernel.layout.network_of_socket = at("sock", "__sk_common") + at("sock_common", "skc_net");
  kernel.layout.inode_of_network = at("net", "ns") + at("ns_common", "inum");
  struct stat home {};
  if (complete && ::stat("/proc/thread-self/ns/net", &home) == 0) {
    kernel.layout.home = static_cast<std::uint32_t>(home.st_ino);
  }
  return kernel;
}

/// The directory of the pins of a tree. `top`: the cgroup id of its top.
std::string pins_of(std::uint64_t top) {
  std::string path = kPins;
  path += '/';
  path += std::to_string(top);
  return path;
}

Status make_directory(const std::string& path) {
  return ::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST
             ? Status{}
             : fail_errno("cannot create directory " + path);
}

/// Creates the directory for the pins and returns its path. Errors: no BPF file system is mounted.
Result<std::string> pins_for(std::uint64_t top) {
  struct statfs info {};
  if (::statfs(kBpfFileSystem, &info) != 0 ||
      static_cast<unsigned long>(info.f_type) != BPF_FS_MAGIC) {
    return fail("no BPF file system is mounted at /sys/fs/bpf");
  }
  std::string directory = pins_of(top);
  Status made = make_directory(kPins);
  made = made ? make_directory(directory) : made;
  return made ? Result<std::string>(std::move(directory)) : tl::unexpected(made.error());
}

/// Removes the pins of a tree, by any daemon. It is no error if there are none.
Status remove_pins(std::uint64_t top) {
  const std::string directory = pins_of(top);
  for (const char* name : kTracing) {
    for (const char* end : {"", kNext}) {
      const std::string path = directory + "/" + name + end;
      if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
        return fail_errno("cannot remove " + path);
      }
    }
  }
  if (::rmdir(directory.c_str()) != 0 && errno != ENOENT) {
    return fail_errno("cannot remove " + directory);
  }
  ::rmdir(kPins);  // unless another tree has pins there
  return {};
}

}  // namespace

Result<std::uint64_t> id_of(const Fd& directory) {
  struct stat info {};
  if (::fstat(directory.get(), &info) != 0) {
    return fail_errno("cannot stat the top of the cgroup tree");
  }
  return static_cast<std::uint64_t>(info.st_ino);
}

Result<std::unique_ptr<Gate::Programs>> Gate::Programs::load(const Fd& top, std::uint32_t room) {
  // Silence libbpf: the errors that it returns are reported here.
  libbpf_set_print(nullptr);
  auto programs = std::make_unique<Programs>();
  Before before;
  for (const Kind& kind : kKinds) {
    auto found = attached(top, kind, 0);
    if (!found) {
      return fail(found.error().message, "the kernel needs CONFIG_CGROUP_BPF");
    }
    before.push_back(std::move(*found));
  }
  // The program of an ancestor runs last: its stamps would replace those of this daemon.
  const auto effective = attached(top, kKinds.front(), BPF_F_QUERY_EFFECTIVE);
  if (effective && effective->size() > before.front().size()) {
    return fail("this cgroup tree is a part of one that another triremed controls",
                "stop one of the two daemons");
  }
  Status built = fail("the kernel has no BTF");
  if (::access("/sys/kernel/btf/vmlinux", R_OK) == 0) {
    built = programs->build(before, true, room);
  }
  if (!built) {
    programs->doubt = built.error().message;
    built = programs->build(before, false, room);
  }
  built = built ? programs->open_ring() : built;
  return built ? Result<std::unique_ptr<Programs>>(std::move(programs))
               : tl::unexpected(built.error());
}

Status Gate::Programs::build(const Before& before, bool with_btf, std::uint32_t room) {
  const auto image = gate::object();
  bpf_object_open_opts options{};
  options.sz = sizeof options;
  options.object_name = "trireme";
  object.reset(bpf_object__open_mem(image.data(), image.size(), &options));
  if (object == nullptr) {
    return fail_errno("cannot read the gate's BPF programs");
  }
  const Kernel kernel = with_btf ? look_at_kernel() : Kernel{};
  int rc = bpf_map__set_max_entries(bpf_object__find_map_by_name(object.get(), "numbers"), room);
  rc = rc != 0 ? rc
               : bpf_map__set_initial_value(bpf_object__find_map_by_name(object.get(), ".rodata"),
                                            &kernel.layout, sizeof kernel.layout);
  if (rc != 0) {
    return fail_errno("cannot prepare the gate's BPF programs", -rc);
  }
  taken_over = false;
  for (const char* name : kLasting) {
    if (Status taken = take_over(before, name); !taken) {
      return taken;
    }
  }
  for (const char* name : kTracing) {
    bpf_program__set_autoload(bpf_object__find_program_by_name(object.get(), name), with_btf);
  }
  bpf_program__set_autoload(bpf_object__find_program_by_name(object.get(), kClosed),
                            kernel.tells_cgroup_of_socket);
  const bool with_groups = kernel.layout.group_of_socket != 0;
  bpf_program__set_autoload(bpf_object__find_program_by_name(object.get(), "trireme_judge"),
                            with_groups);
  bpf_program__set_autoload(bpf_object__find_program_by_name(object.get(), "trireme_judge_plain"),
                            !with_groups);
  if (rc = bpf_object__load(object.get()); rc != 0) {
    return fail_errno("the kernel refuses the gate's BPF programs", -rc);
  }
  traces = with_btf;
  return {};
}

Status Gate::Programs::take_over(const Before& before, const char* name) {
  bpf_map* map = bpf_object__find_map_by_name(object.get(), name);
  for (const std::vector<Fd>& list : before) {
    const auto known = list.empty() ? std::nullopt : map_of(list.front(), name);
    if (known && fits(map, *known)) {
      if (const int rc = bpf_map__reuse_fd(map, known->get()); rc != 0) {
        return fail_errno(std::string("cannot take over the BPF map ") + name, -rc);
      }
      taken_over = taken_over || std::string_view(name) == "settings";
      return {};
    }
  }
  return {};
}

Status Gate::Programs::open_ring() {
  ring.reset(ring_buffer__new(map("refused"), on_refused, this, nullptr));
  return ring != nullptr ? Status{} : fail_errno("cannot open the ring buffer of refused packets");
}

int Gate::Programs::on_refused(void* self, void* data, std::size_t size) {
  trireme_refused event{};
  if (size < sizeof event) {
    return 0;
  }
  std::memcpy(&event, data, sizeof event);
  static_cast<Programs*>(self)->refused.push_back(
      {.reason = static_cast<Refused::Reason>(event.reason),
       .from = event.from,
       .to = event.to,
       .source = plain(event.source),
       .destination = plain(event.destination),
       .cgroup = event.cgroup,
       .protocol = event.protocol,
       .port = event.port,
       .audited = event.audited != 0,
       .local = event.local != 0});
  return 0;
}

int Gate::Programs::map(const char* name) const {
  return bpf_object__find_map_fd_by_name(object.get(), name);
}

/// The descriptor of a program, or of its variant NAME_plain; negative if neither was loaded.
int Gate::Programs::program(const char* name) const {
  const int loaded = bpf_program__fd(bpf_object__find_program_by_name(object.get(), name));
  const bpf_program* plain =
      bpf_object__find_program_by_name(object.get(), (std::string(name) + "_plain").c_str());
  return loaded >= 0 || plain == nullptr ? loaded : bpf_program__fd(plain);
}

Status Gate::Programs::attach(const Fd& top) {
  for (const Kind& kind : kKinds) {
    if (program(kind.name) < 0) {
      continue;
    }
    const auto before = attached(top, kind, 0);
    if (!before) {
      return tl::unexpected(before.error());
    }
    struct bpf_prog_attach_opts options {};
    options.sz = sizeof options;
    options.flags = BPF_F_ALLOW_MULTI;
    if (!before->empty()) {
      options.flags |= BPF_F_REPLACE;
      options.replace_prog_fd = before->front().get();
    }
    if (const int rc = bpf_prog_attach_opts(program(kind.name), top.get(), kind.type, &options);
        rc != 0) {
      return fail_errno(std::string("cannot attach ") + kind.name + " to the cgroup tree", -rc);
    }
  }
  if (traces) {
    follow(top);
  }
  return {};
}

/// Attaches and pins the tracing programs. The links are kept open as well, because root can remove
/// pins.
void Gate::Programs::follow(const Fd& top) {
  links.clear();
  for (const char* name : kTracing) {
    bpf_link* link = bpf_program__attach(bpf_object__find_program_by_name(object.get(), name));
    if (link == nullptr) {
      doubt = fail_errno("cannot trace the creation and removal of cgroups").value().message;
      return;
    }
    links.emplace_back(link);
  }
  const Status pinned = pin(top);
  state = pinned ? Births::State::always : Births::State::while_running;
  doubt = pinned ? "" : pinned.error().message;
}

/// Replaces the pins of an earlier daemon one by one. While the programs of both are attached, each
/// event is handled twice, which has the same effect as once.
Status Gate::Programs::pin(const Fd& top) const {
  const auto id = id_of(top);
  const auto directory = id ? pins_for(*id) : tl::unexpected(id.error());
  if (!directory) {
    return tl::unexpected(directory.error());
  }
  for (std::size_t i = 0; i < kTracing.size(); i++) {
    const std::string path = *directory + "/" + kTracing.at(i);
    const std::string next = path + kNext;
    ::unlink(next.c_str());  // left by a daemon that was killed at this point
    if (const int rc = bpf_link__pin(links.at(i).get(), next.c_str()); rc != 0) {
      return fail_errno("cannot pin " + path, -rc);
    }
    if (::rename(next.c_str(), path.c_str()) != 0) {
      return fail_errno("cannot pin " + path);
    }
  }
  return {};
}

Result<bool> Gate::Programs::is_attached(const Fd& top) const {
  for (const Kind& kind : kKinds) {
    if (program(kind.name) < 0) {
      continue;
    }
    const auto there = attached(top, kind, 0);
    if (!there) {
      return tl::unexpected(there.error());
    }
    const std::uint32_t id = program_id(program(kind.name));
    if (!std::ranges::any_of(
            *there, [&](const Fd& each) { return id != 0 && program_id(each.get()) == id; })) {
      return false;
    }
  }
  return true;
}

Status Gate::Programs::detach(const Fd& top) {
  // First the tracing programs, which could quarantine more cgroups; then ingress before egress,
  // because ingress refuses packets without a stamp.
  const auto id = id_of(top);
  if (const Status removed = id ? remove_pins(*id) : Status(tl::unexpected(id.error())); !removed) {
    return removed;
  }
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
