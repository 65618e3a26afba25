// SPDX-License-Identifier: Apache-2.0
// The gate's policy: the maps of one policy, and the exchange of one policy for another.
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <bit>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "calls.hpp"
#include "programs.hpp"
#include "trireme/abi/gate.h"

namespace trireme::gate {
namespace {

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

bool is_plain(const policy::Tables& tables) {
  // One interval per family and the same class in both: @host does not depend on the address.
  return tables.local4.size() == 1 && tables.local6.size() == 1 &&
         tables.local4.front().address_class == tables.local6.front().address_class;
}

}  // namespace

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

}  // namespace trireme::gate
