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

#include "calls.hpp"
#include "programs.hpp"
#include "trireme/abi/gate.h"

namespace trireme::gate {
namespace {

static_assert(static_cast<int>(Refused::Reason::quarantine_in) == TRIREME_REFUSED_QUARANTINE_IN &&
              static_cast<int>(Refused::Reason::group) == TRIREME_REFUSED_GROUP);

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
                  .ended = sums[TRIREME_REFUSED_ENDED],
                  .unstamped = sums[TRIREME_REFUSED_UNSTAMPED],
                  .policy = sums[TRIREME_REFUSED_POLICY],
                  .protocol = sums[TRIREME_REFUSED_PROTOCOL],
                  .unreadable = sums[TRIREME_REFUSED_UNREADABLE],
                  .group = sums[TRIREME_REFUSED_GROUP],
                  .audited = sums[TRIREME_AUDITED]};
}

}  // namespace trireme::gate
