// SPDX-License-Identifier: Apache-2.0
#include "trireme/gate/gate.hpp"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <sys/file.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <span>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "programs.hpp"
#include "trireme/abi/gate.h"

namespace trireme::gate {
namespace {

static_assert(static_cast<int>(Refused::Reason::quarantine_in) == TRIREME_REFUSED_QUARANTINE_IN &&
              static_cast<int>(Refused::Reason::group) == TRIREME_REFUSED_GROUP);

/// `rc` is a result of libbpf: 0, or a negative errno value.
Status checked(int rc, const char* what) {
  return rc == 0 ? Status{} : Status(fail_errno(what, -rc));
}

/// Like checked(), but a missing key is no error.
Status removed(int rc, const char* what) {
  return rc == -ENOENT ? Status{} : checked(rc, what);
}

Result<Fd> make_map(bpf_map_type type, const char* name, std::uint32_t key, std::uint32_t value,
                    std::uint32_t entries) {
  bpf_map_create_opts options{};
  options.sz = sizeof options;
  options.map_flags = type == BPF_MAP_TYPE_ARRAY ? 0U : static_cast<unsigned>(BPF_F_NO_PREALLOC);
  Fd map(bpf_map_create(type, name, key, value, entries, &options));
  if (!map.valid()) {
    return fail_errno(std::string("cannot create BPF map ") + name);
  }
  return map;
}

using Mapped = std::array<std::uint8_t, 16>;

/// IPv4 as ::ffff:a.b.c.d.
Mapped mapped(const policy::Address& address) {
  if (address.family == policy::Address::Family::v6) {
    return address.bytes;
  }
  Mapped result{};
  result[10] = result[11] = 0xff;
  std::copy_n(address.bytes.begin(), 4, result.begin() + 12);
  return result;
}

/// The smallest list of prefixes that cover first..last, in order.
std::vector<trireme_address> prefixes(Mapped first, const Mapped& last) {
  std::vector<trireme_address> list;
  while (true) {
    // The largest block that begins at `first` and does not end after `last`.
    std::uint32_t length = 128;
    while (length > 0) {
      const std::uint32_t bit = length - 1;
      const auto mask = static_cast<std::uint8_t>(0x80U >> bit % 8);
      if ((first.at(bit / 8) & mask) != 0) {
        break;
      }
      Mapped end = first;
      for (std::uint32_t b = bit; b < 128; b++) {
        end.at(b / 8) = static_cast<std::uint8_t>(end.at(b / 8) | 0x80U >> b % 8);
      }
      if (end > last) {
        break;
      }
      length--;
    }
    trireme_address key{.length = length, .bytes = {}};
    std::copy(first.begin(), first.end(), std::begin(key.bytes));
    list.push_back(key);
    for (std::uint32_t b = length; b < 128; b++) {
      first.at(b / 8) = static_cast<std::uint8_t>(first.at(b / 8) | 0x80U >> b % 8);
    }
    if (first >= last) {
      return list;
    }
    for (std::size_t i = first.size(); i-- > 0 && ++first.at(i) == 0;) {
    }
  }
}

Status write_addresses(const Fd& map, const std::vector<policy::AddressInterval>& intervals) {
  for (const policy::AddressInterval& interval : intervals) {
    for (const trireme_address& key : prefixes(mapped(interval.first), mapped(interval.last))) {
      if (Status done =
              checked(bpf_map_update_elem(map.get(), &key, &interval.address_class, BPF_ANY),
                      "cannot write the addresses of the gate's policy");
          !done) {
        return done;
      }
    }
  }
  return {};
}

/// Writes the port classes of TCP and UDP. Class 0, of ports that no rule names, need not be
/// written: a new map is zeroed.
Status write_ports(const Fd& map, const policy::Tables& tables) {
  std::vector<std::uint32_t> keys;
  std::vector<std::uint32_t> classes;
  for (const policy::PortInterval& interval : tables.ports) {
    const bool is_tcp = interval.range.protocol == IPPROTO_TCP;
    if (interval.port_class == 0 || (!is_tcp && interval.range.protocol != IPPROTO_UDP)) {
      continue;
    }
    for (std::uint32_t port = interval.range.first; port <= interval.range.last; port++) {
      keys.push_back((is_tcp ? 0 : 65536) + port);
      classes.push_back(interval.port_class);
    }
  }
  auto count = static_cast<std::uint32_t>(keys.size());
  bpf_map_batch_opts options{};
  options.sz = sizeof options;
  return count == 0 ? Status{}
                    : checked(bpf_map_update_batch(map.get(), keys.data(), classes.data(), &count,
                                                   &options),
                              "cannot write the ports of the gate's policy");
}

template <typename Key>
Status put(const Fd& map, const Key& key, const auto& value) {
  return checked(bpf_map_update_elem(map.get(), &key, &value, BPF_ANY),
                 "cannot write the gate's policy");
}

template <typename Key>
Status take(const Fd& map, const Key& key) {
  return removed(bpf_map_delete_elem(map.get(), &key), "cannot write the gate's policy");
}

/// Entries of a map that has `count` now: twice as many, and 32,768 more. If a change does not fit,
/// the caller must prepare the whole policy again, in larger maps.
std::uint32_t capacity(std::size_t count) {
  constexpr std::size_t kLeast = 1U << 15U;
  constexpr std::size_t kMost = 1U << 26U;
  return static_cast<std::uint32_t>(std::min(std::bit_ceil(count * 2 + kLeast), kMost));
}

/// Opens and locks the top directory of a tree, so that only one daemon controls it.
Result<Fd> lock(const std::string& top) {
  Fd directory(::open(top.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) {
    return fail_errno("cannot open " + top);
  }
  if (::flock(directory.get(), LOCK_EX | LOCK_NB) != 0) {
    return errno == EWOULDBLOCK ? fail("another triremed already controls the cgroup tree " + top,
                                       "run each daemon in its own cgroup namespace")
                                : fail_errno("cannot lock " + top);
  }
  return directory;
}

bool is_plain(const policy::Tables& tables) {
  // One interval per family and the same class in both: @host does not depend on the address.
  return tables.local4.size() == 1 && tables.local6.size() == 1 &&
         tables.local4.front().address_class == tables.local6.front().address_class;
}

}  // namespace

Gate::Gate(std::unique_ptr<Programs> programs, Fd top)
    : programs_(std::move(programs)), top_(std::move(top)) {}

Gate::~Gate() = default;

Result<std::unique_ptr<Gate>> Gate::open(const std::string& top, std::uint32_t room) {
  auto directory = lock(top);
  if (!directory) {
    return tl::unexpected(directory.error());
  }
  auto programs = Programs::load(*directory, room);
  if (!programs) {
    return tl::unexpected(programs.error());
  }
  std::unique_ptr<Gate> gate(new Gate(std::move(*programs), std::move(*directory)));
  if (gate->programs_->taken_over) {
    const std::uint32_t zero = 0;
    trireme_settings before{};
    if (Status read = checked(bpf_map_lookup_elem(gate->programs_->map("settings"), &zero, &before),
                              "cannot read the gate's settings");
        !read) {
      return tl::unexpected(read.error());
    }
    const auto flags = static_cast<std::uint32_t>(before.word);
    gate->generation_ = static_cast<std::uint32_t>(before.word >> 32U);
    gate->current_ = (flags & TRIREME_SLOT) != 0 ? 1 : 0;
    gate->audit_ = (flags & TRIREME_AUDIT) != 0;
    gate->calm_ = before.calm == 0 ? std::nullopt : std::optional(before.calm - 1);
    gate->slots_.at(gate->current_).plain_host = (flags & TRIREME_PLAIN_HOST) != 0;
    gate->slots_.at(gate->current_).host_asks = (flags & TRIREME_HOST_ASKS) != 0;
  }
  gate->room_ = room;
  const auto counts = gate->counts();
  gate->missed_ = counts ? counts->missed : 0;
  return counts ? Result<std::unique_ptr<Gate>>(std::move(gate)) : tl::unexpected(counts.error());
}

bool Gate::takes_over() const {
  return programs_->taken_over;
}

Status Gate::attach() {
  if (Status written = apply_settings(); !written) {
    return written;
  }
  return programs_->attach(top_);
}

Result<bool> Gate::is_attached() const {
  return programs_->is_attached(top_);
}

Status Gate::detach(const std::string& top) {
  const auto directory = lock(top);
  return directory ? Programs::detach(*directory) : tl::unexpected(directory.error());
}

/// Writes the settings with a new generation, which invalidates all caches. Must be called after
/// every change.
Status Gate::apply_settings() {
  generation_ = generation_ == UINT32_MAX ? 1 : generation_ + 1;
  const Slot& now = slots_.at(current_);
  const Slot& next = slots_.at(current_ ^ 1U);
  const bool plain_host = now.plain_host && (!both_ || next.plain_host);
  const bool host_asks = now.host_asks || (both_ && next.host_asks);
  const std::uint32_t flags = (both_ ? TRIREME_BOTH_POLICIES : 0U) | (audit_ ? TRIREME_AUDIT : 0U) |
                              (plain_host ? TRIREME_PLAIN_HOST : 0U) |
                              (host_asks ? TRIREME_HOST_ASKS : 0U) |
                              (current_ == 1 ? TRIREME_SLOT : 0U);
  const trireme_settings settings{.word = std::uint64_t{generation_} << 32U | flags,
                                  .calm = calm_ ? *calm_ + 1 : 0,
                                  .unused = 0};
  const std::uint32_t zero = 0;
  Status written =
      checked(bpf_map_update_elem(programs_->map("settings"), &zero, &settings, BPF_ANY),
              "cannot write the gate's settings");
  unwritten_ = !written;
  return written;
}

Status Gate::set(std::uint64_t cgroup_id, policy::Number number) {
  const bool is_new = !this->number(cgroup_id);
  const std::uint32_t reserve = std::min(kReserve, room_ / 8);
  if (is_new && number != abi::kQuarantine && used_ + reserve >= room_) {
    return fail("no free number for another cgroup: " + std::to_string(used_) + " of " +
                std::to_string(room_) + " are in use, and the rest is reserved for quarantine");
  }
  if (Status done =
          checked(bpf_map_update_elem(programs_->map("numbers"), &cgroup_id, &number, BPF_ANY),
                  "cannot write a cgroup's number");
      !done) {
    return done;
  }
  used_ += is_new ? 1 : 0;
  if (number == abi::kQuarantine) {
    calm_.reset();
  }
  return apply_settings();
}

Status Gate::release(std::uint64_t cgroup_id) {
  if (Status done = removed(bpf_map_delete_elem(programs_->map("numbers"), &cgroup_id),
                            "cannot remove a cgroup's number");
      !done) {
    return done;
  }
  return apply_settings();
}

Status Gate::end(std::uint64_t cgroup_id) {
  // BPF_EXIST: if the last socket is already gone, the kernel has removed the number.
  const auto before = this->number(cgroup_id);
  const std::uint32_t number =
      before == abi::kQuarantine || before == abi::kBorn ? abi::kQuarantine : abi::kEnded;
  if (Status done =
          removed(bpf_map_update_elem(programs_->map("numbers"), &cgroup_id, &number, BPF_EXIST),
                  "cannot mark a cgroup's number as ended");
      !done) {
    return done;
  }
  calm_.reset();
  return apply_settings();
}

Status Gate::adopt(std::uint64_t cgroup_id, policy::Number number) {
  if (Status done =
          removed(bpf_map_update_elem(programs_->map("numbers"), &cgroup_id, &number, BPF_EXIST),
                  "cannot write the number of a removed cgroup");
      !done) {
    return done;
  }
  return apply_settings();
}

std::optional<policy::Number> Gate::number(std::uint64_t cgroup_id) const {
  policy::Number number = 0;
  return bpf_map_lookup_elem(programs_->map("numbers"), &cgroup_id, &number) == 0
             ? std::optional(number)
             : std::nullopt;
}

bool Gate::is_held(std::uint64_t cgroup_id) const {
  return programs_->traces && number(cgroup_id).has_value();
}

Status Gate::quarantine_births(Engines wanted) {
  births_ = wanted.docker || wanted.podman;
  const auto top = id_of(top_);
  if (!top) {
    return tl::unexpected(top.error());
  }
  const std::uint32_t zero = 0;
  const trireme_births births{
      .top = births_ ? *top : 0, .docker = wanted.docker, .podman = wanted.podman};
  if (Status written =
          checked(bpf_map_update_elem(programs_->map("births"), &zero, &births, BPF_ANY),
                  "cannot configure which new containers the kernel quarantines");
      !written) {
    return written;
  }
  // Releases abi::kBorn cgroups. Ignore its error: a lack of room only matters to later cgroups.
  std::ignore = look_through();
  return {};
}

Births Gate::births() const {
  return births_ ? Births{programs_->state, programs_->doubt} : Births{};
}

Result<Gate::Counts> Gate::counts() const {
  const std::uint32_t zero = 0;
  trireme_counts counts{};
  if (Status read = checked(bpf_map_lookup_elem(programs_->map("counts"), &zero, &counts),
                            "cannot read the gate's quarantine counters");
      !read) {
    return tl::unexpected(read.error());
  }
  return Counts{.quarantined = counts.quarantined, .missed = counts.missed};
}

Status Gate::has_room(std::size_t used, const Counts& counts) const {
  const std::string hint =
      programs_->traces ? ""
                        : "without kernel BTF, numbers of removed cgroups are only freed by a "
                          "reboot, or by 'trirectl flush' while the daemon is stopped";
  if (counts.missed != missed_) {
    const std::uint32_t missed = counts.missed - missed_;
    return fail(std::to_string(missed) +
                    (missed == 1 ? " new container was" : " new containers were") +
                    " not quarantined: no free number for a cgroup",
                hint);
  }
  if (used > room_ - room_ / 8) {
    return fail(std::to_string(used) + " of " + std::to_string(room_) +
                    " cgroup numbers are in use; once none is free, new workloads are quarantined",
                hint);
  }
  return {};
}

Status Gate::look_through() {
  if (unwritten_) {
    if (Status written = apply_settings(); !written) {
      return written;
    }
  }
  // Read the counter before the numbers: a cgroup that is quarantined in between then makes the
  // counter differ from calm_.
  const auto now = counts();
  if (!now) {
    return tl::unexpected(now.error());
  }
  const auto all = numbers();
  if (!all) {
    return tl::unexpected(all.error());
  }
  used_ = all->size();
  const auto released = births_ ? Result<std::size_t>(0) : release_undecided(*all);
  if (!released) {
    return tl::unexpected(released.error());
  }
  const bool calm = std::ranges::none_of(*all, [this](const auto& item) {
    return item.second == abi::kQuarantine || item.second == abi::kEnded ||
           (births_ && item.second == abi::kBorn);
  });
  const auto before = std::exchange(calm_, calm ? std::optional(now->quarantined) : std::nullopt);
  if (calm_ != before || *released > 0) {
    if (Status written = apply_settings(); !written) {
      return written;
    }
  }
  return has_room(all->size(), *now);
}

/// Releases cgroups that the kernel quarantined when they were created: no engine is configured any
/// more that would decide about them. Returns their number.
Result<std::size_t> Gate::release_undecided(const Numbers& numbers) const {
  std::size_t count = 0;
  for (const auto& [id, number] : numbers) {
    if (number != abi::kBorn) {
      continue;
    }
    if (Status done = removed(bpf_map_delete_elem(programs_->map("numbers"), &id),
                              "cannot remove a cgroup's number");
        !done) {
      return tl::unexpected(done.error());
    }
    count++;
  }
  return count;
}

Result<Gate::Numbers> Gate::numbers() const {
  Numbers all;
  constexpr std::uint32_t kBatch = 4096;
  std::vector<std::uint64_t> ids(kBatch);
  std::vector<std::uint32_t> numbers(kBatch);
  std::uint32_t place = 0;
  std::uint32_t* from = nullptr;  // null: start at the first entry
  bpf_map_batch_opts options{};
  options.sz = sizeof options;
  while (true) {
    std::uint32_t count = kBatch;
    const int rc = bpf_map_lookup_batch(programs_->map("numbers"), from, &place, ids.data(),
                                        numbers.data(), &count, &options);
    if (rc != 0 && rc != -ENOENT) {
      return fail_errno("cannot list the numbers of cgroups", -rc);
    }
    for (std::uint32_t i = 0; i < count; i++) {
      all[ids[i]] = numbers[i];
    }
    if (rc != 0) {
      return all;
    }
    from = &place;
  }
}

Result<Gate::Slot> Gate::make_slot(const policy::Tables& tables,
                                   const policy::Elements& elements) const {
  Slot slot;
  struct Wanted {
    Fd* map;
    bpf_map_type type;
    const char* name;
    std::uint32_t key, value, entries;
  };
  for (const Wanted& wanted :
       {Wanted{&slot.members, BPF_MAP_TYPE_HASH, "members", 4, sizeof(trireme_member),
               capacity(elements.groups.size())},
        Wanted{&slot.same, BPF_MAP_TYPE_HASH, "same", 4, 4, capacity(elements.same.size())},
        Wanted{&slot.pairs, BPF_MAP_TYPE_HASH, "pairs", sizeof(trireme_pair), 4,
               capacity(elements.pairs.size())},
        Wanted{&slot.outcomes, BPF_MAP_TYPE_HASH, "outcomes", sizeof(trireme_pair), 4,
               capacity(elements.outcomes.size())},
        Wanted{&slot.ports, BPF_MAP_TYPE_ARRAY, "ports", 4, 4, TRIREME_PORTS},
        Wanted{&slot.addresses, BPF_MAP_TYPE_LPM_TRIE, "addresses", sizeof(trireme_address), 4,
               1U << 20U},
        Wanted{&slot.named, BPF_MAP_TYPE_HASH, "named", 16, 4,
               capacity(elements.local_named.size())}}) {
    auto made = make_map(wanted.type, wanted.name, wanted.key, wanted.value, wanted.entries);
    if (!made) {
      return tl::unexpected(made.error());
    }
    *wanted.map = std::move(*made);
  }
  slot.plain_host = is_plain(tables);
  for (const auto* intervals : {&tables.local4, &tables.local6}) {
    for (const policy::AddressInterval& interval : *intervals) {
      slot.host_classes.insert(interval.address_class);
    }
  }
  Status written = write_ports(slot.ports, tables);
  for (const auto* intervals : {&tables.local4, &tables.local6}) {
    written = written ? write_addresses(slot.addresses, *intervals) : written;
  }
  if (!written) {
    return tl::unexpected(written.error());
  }
  return slot;
}

/// Applies a change to the maps of a policy: removals first, as policy::Delta requires.
Status Gate::write(Slot& slot, const policy::Delta& delta) {
  Status done;
  const auto step = [&done](const auto& next) { done = done ? next() : done; };
  const policy::Elements& gone = delta.remove;
  for (const auto& [number, group] : gone.groups) {
    step([&, n = number] { return take(slot.members, n); });
  }
  for (const std::uint32_t group : gone.same) {
    step([&] { return take(slot.same, group); });
  }
  for (const auto& [key, profile] : gone.pairs) {
    step([&, k = key] { return take(slot.pairs, trireme_pair{k.first, k.second}); });
  }
  for (const auto& [key, outcome] : gone.outcomes) {
    step([&, k = key] { return take(slot.outcomes, trireme_pair{k.first, k.second}); });
  }
  for (const auto& [address, klass] : gone.local_named) {
    step([&, a = address] { return take(slot.named, mapped(a)); });
  }
  const policy::Elements& added = delta.add;
  for (const auto& [address, klass] : added.local_named) {
    slot.host_classes.insert(klass);
    slot.plain_host = false;
  }
  slot.host_asks = slot.host_asks || std::ranges::any_of(added.pairs, [&slot](const auto& pair) {
                     return slot.host_classes.contains(pair.first.first);
                   });
  for (const auto& [key, outcome] : added.outcomes) {
    step([&, k = key, o = outcome] {
      return put(slot.outcomes, trireme_pair{k.first, k.second}, static_cast<std::uint32_t>(o));
    });
  }
  for (const auto& [key, profile] : added.pairs) {
    step([&, k = key, p = profile] { return put(slot.pairs, trireme_pair{k.first, k.second}, p); });
  }
  for (const std::uint32_t group : added.same) {
    step([&] { return put(slot.same, group, std::uint32_t{1}); });
  }
  for (const auto& [address, klass] : added.local_named) {
    step([&, a = address, k = klass] { return put(slot.named, mapped(a), k); });
  }
  for (const auto& [number, group] : added.groups) {
    step([&, n = number, g = group] {
      const auto klass = added.classes.find(n);
      return put(slot.members, n,
                 trireme_member{g, klass == added.classes.end() ? 0 : klass->second});
    });
  }
  for (const auto& [number, klass] : added.classes) {
    if (added.groups.contains(number)) {
      continue;
    }
    step([&, n = number, k = klass] {
      trireme_member member{};
      if (bpf_map_lookup_elem(slot.members.get(), &n, &member) != 0) {
        return Status(fail_errno("cannot read the gate's policy"));
      }
      member.klass = k;
      return put(slot.members, n, member);
    });
  }
  return done;
}

/// Puts the maps of a policy into a slot. Each update waits until no program uses the former map
/// (an RCU grace period, tens of milliseconds). They run in parallel, to wait for one period
/// instead of seven.
Status Gate::install(std::uint32_t index, const Slot& slot) const {
  struct Update {
    const char* name = nullptr;
    const Fd* map = nullptr;
    int rc = 0;
  };
  std::array<Update, 7> updates = {{{"members", &slot.members},
                                    {"same", &slot.same},
                                    {"pairs", &slot.pairs},
                                    {"outcomes", &slot.outcomes},
                                    {"ports", &slot.ports},
                                    {"addresses", &slot.addresses},
                                    {"named", &slot.named}}};
  const auto run = [&](Update& update) {
    const int inner = update.map->get();
    update.rc = bpf_map_update_elem(programs_->map(update.name), &index, &inner, BPF_ANY);
  };
  {
    std::vector<std::jthread> threads;
    threads.reserve(updates.size());
    for (Update& update : updates) {
      try {
        threads.emplace_back(run, std::ref(update));
      } catch (const std::system_error&) {  // no thread could be created
        run(update);
      }
    }
  }
  int rc = 0;
  for (const Update& update : updates) {
    rc = rc == 0 ? update.rc : rc;
  }
  return checked(rc, "cannot install a policy in the gate");
}

Status Gate::prepare(const policy::Tables& tables, const policy::Elements& elements, bool audit) {
  auto slot = make_slot(tables, elements);
  if (!slot) {
    return tl::unexpected(slot.error());
  }
  if (Status written = write(*slot, {.add = elements, .remove = {}}); !written) {
    return written;
  }
  // The programs must not use a partly installed policy: set the flag after it is complete.
  const std::uint32_t other = current_ ^ 1U;
  if (Status installed = install(other, *slot); !installed) {
    return installed;
  }
  slots_.at(other) = std::move(*slot);
  next_audit_ = audit;
  both_ = true;
  return apply_settings();
}

Status Gate::finish() {
  both_ = false;
  current_ ^= 1U;
  audit_ = next_audit_;
  return apply_settings();
}

Status Gate::cancel() {
  both_ = false;
  return apply_settings();
}

Status Gate::change(const policy::Delta& delta) {
  if (Status written = write(slots_.at(current_), delta); !written) {
    return written;
  }
  return apply_settings();
}

int Gate::refused_fd() const {
  return ring_buffer__epoll_fd(programs_->ring.get());
}

std::vector<Refused> Gate::take_refused() {
  ring_buffer__consume(programs_->ring.get());
  return std::exchange(programs_->refused, {});
}

int Gate::canary() const {
  return programs_->program("trireme_canary");
}

Result<Refusals> Gate::refusals() const {
  const int processors = libbpf_num_possible_cpus();
  if (processors < 1) {
    return fail_errno("cannot count processors", -processors);
  }
  std::array<std::uint64_t, TRIREME_REFUSALS> sums{};
  std::vector<std::uint64_t> each(static_cast<std::size_t>(processors));
  for (std::uint32_t reason = 0; reason < TRIREME_REFUSALS; reason++) {
    if (Status read = checked(bpf_map_lookup_elem(programs_->map("refusals"), &reason, each.data()),
                              "cannot read the gate's counters");
        !read) {
      return tl::unexpected(read.error());
    }
    sums.at(reason) = std::accumulate(each.begin(), each.end(), std::uint64_t{0});
  }
  return Refusals{.quarantine_in = sums[TRIREME_REFUSED_QUARANTINE_IN],
                  .quarantine_out = sums[TRIREME_REFUSED_QUARANTINE_OUT],
                  .unstamped = sums[TRIREME_REFUSED_UNSTAMPED],
                  .policy = sums[TRIREME_REFUSED_POLICY],
                  .protocol = sums[TRIREME_REFUSED_PROTOCOL],
                  .unreadable = sums[TRIREME_REFUSED_UNREADABLE],
                  .group = sums[TRIREME_REFUSED_GROUP],
                  .audited = sums[TRIREME_AUDITED]};
}

}  // namespace trireme::gate
