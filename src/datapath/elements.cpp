// SPDX-License-Identifier: Apache-2.0
#include "trireme/datapath/elements.hpp"

#include <netinet/in.h>
// Must follow netinet/in.h: the kernel's headers then leave out what it already defines.
#include <linux/netfilter.h>

#include "rules.hpp"
#include "trireme/abi/flow_label.hpp"
#include "trireme/datapath/table.hpp"
#include "trireme/policy/names.hpp"

namespace trireme::datapath {

using kernel::NftBatch;
using kernel::NftBytes;
using kernel::NftElement;

namespace {

void write(NftBatch& batch, const kernel::NftSet& set, const std::vector<NftElement>& elements,
           bool remove) {
  if (elements.empty()) {
    return;
  }
  if (remove) {
    batch.delete_elements(set, elements);
  } else {
    batch.add_elements(set, elements);
  }
}

NftBytes pair_key(std::uint32_t first, std::uint32_t second) {
  return NftBytes::u32(first).add_u32(second);
}

NftElement element(NftBytes key, std::optional<std::uint32_t> data) {
  NftElement result{.key = key};
  if (data) {
    result.data = NftBytes::twice(*data);
  }
  return result;
}

}  // namespace

void write_elements(NftBatch& batch, const policy::Elements& elements, std::uint32_t first_id,
                    bool remove) {
  std::vector<NftElement> list;
  const auto emit = [&](const kernel::NftSet& set) {
    write(batch, set, list, remove);
    list.clear();
  };
  for (const auto& [number, group] : elements.groups) {
    list.push_back(element(NftBytes::u32(number), group));
  }
  emit(sets().groups);
  for (const auto& [number, klass] : elements.classes) {
    list.push_back(element(NftBytes::u32(number), klass));
  }
  emit(sets().classes);
  for (const std::uint32_t group : elements.same) {
    list.push_back(element(pair_key(group, group), std::nullopt));
  }
  emit(sets().same);
  for (const auto& [key, profile] : elements.pairs) {
    list.push_back(element(pair_key(key.first, key.second), profile));
  }
  emit(sets().pairs);
  for (const auto& [key, outcome] : elements.outcomes) {
    list.push_back(
        element(pair_key(key.first, first_id + key.second), static_cast<std::uint32_t>(outcome)));
  }
  emit(sets().outcomes);
}

void write_tables(NftBatch& batch, const policy::Tables& tables, std::uint32_t first_id) {
  const auto addresses = [&batch](const kernel::NftSet& set,
                                  const std::vector<policy::AddressInterval>& intervals) {
    // The intervals cover the whole family, so each ends where the next begins, and the last one
    // has no end.
    std::vector<NftElement> list;
    for (const auto& interval : intervals) {
      const NftBytes first =
          NftBytes().add_raw({interval.first.bytes.data(), interval.first.size()});
      if (!list.empty()) {
        list.push_back({.key = first, .interval_end = true});
      }
      list.push_back(element(first, interval.address_class));
    }
    write(batch, set, list, false);
  };
  addresses(sets().local4, tables.local4);
  addresses(sets().local6, tables.local6);
  addresses(sets().remote4, tables.remote4);
  addresses(sets().remote6, tables.remote6);

  std::vector<NftElement> ports = {
      {.key = {}, .catch_all = true, .data = NftBytes::twice(first_id)}};
  for (const auto& interval : tables.ports) {
    NftElement entry =
        element(NftBytes().add_u8(interval.range.protocol).add_be16(interval.range.first),
                first_id + interval.port_class);
    entry.key_end = NftBytes().add_u8(interval.range.protocol).add_be16(interval.range.last);
    ports.push_back(entry);
  }
  write(batch, sets().ports, ports, false);
}

void write_numbers(NftBatch& batch, const std::vector<policy::Number>& numbers, bool remove) {
  std::vector<NftElement> sources;
  std::vector<NftElement> destinations;
  std::vector<NftElement> selves;
  for (const policy::Number number : numbers) {
    sources.push_back({.key = NftBytes::u32(number),
                       .data = label_bytes(abi::FlowLabel::source(number, abi::kAuthorized))});
    destinations.push_back(
        {.key = NftBytes::u32(number),
         .data = label_bytes(abi::FlowLabel::destination(number, abi::kAuthorized))});
    if (number >= abi::kFirstNumber) {
      selves.push_back({.key = pair_key(number, number)});
    }
  }
  write(batch, sets().source, sources, remove);
  write(batch, sets().destination, destinations, remove);
  write(batch, sets().selves, selves, remove);
}

void write_speakers(NftBatch& batch, const std::vector<policy::Prefix>& speakers, bool remove) {
  std::vector<NftElement> four;
  std::vector<NftElement> six;
  for (const policy::Prefix& prefix : speakers) {
    const policy::Address last = prefix.last();
    auto& list = prefix.address.family == policy::Address::Family::v4 ? four : six;
    list.push_back(
        {.key = NftBytes().add_raw({prefix.address.bytes.data(), prefix.address.size()})});
    // The end of an interval is the first address after it. An interval that reaches the last
    // address of the family has no end element.
    policy::Address after = last;
    for (std::size_t i = after.size(); i-- > 0 && ++after.bytes.at(i) == 0;) {
    }
    if (after > last) {
      list.push_back(
          {.key = NftBytes().add_raw({after.bytes.data(), after.size()}), .interval_end = true});
    }
  }
  write(batch, sets().speakers4, four, remove);
  write(batch, sets().speakers6, six, remove);
}

void flush_tables(NftBatch& batch) {
  for (const kernel::NftSet* set :
       {&sets().local4, &sets().local6, &sets().remote4, &sets().remote6, &sets().ports}) {
    batch.flush_set(*set);
  }
}

NftBytes client_key(const wire::Ends& client) {
  NftBytes key;
  key.add_raw({client.source.bytes.data(), client.source.size()}).add_be16(client.source_port);
  return key.add_raw({client.destination.bytes.data(), client.destination.size()})
      .add_be16(client.destination_port);
}

void write_clients(NftBatch& batch, const std::vector<NftBytes>& keys, bool remove) {
  std::vector<NftElement> four;
  std::vector<NftElement> six;
  for (const NftBytes& key : keys) {
    (key.size() == sets().clients4.key_size ? four : six).push_back({.key = key});
  }
  write(batch, sets().clients4, four, remove);
  write(batch, sets().clients6, six, remove);
}

void write_steady(NftBatch& batch) {
  batch.add_elements(sets().steady, std::array{NftElement{.key = NftBytes::u8(NFPROTO_IPV4)},
                                               NftElement{.key = NftBytes::u8(NFPROTO_IPV6)}});
}

void write_refusal(NftBatch& batch, const policy::Policy& policy) {
  const char* chain = policy.mode == policy::Mode::audit      ? kAudit
                      : policy.refuse == policy::Refuse::drop ? kSilent
                                                              : kReject;
  std::vector<NftElement> list;
  for (const std::uint8_t nfproto : {std::uint8_t{NFPROTO_IPV4}, std::uint8_t{NFPROTO_IPV6}}) {
    list.push_back({.key = NftBytes::u8(nfproto),
                    .verdict = kernel::NftVerdict{kernel::NftVerdict::Code::go_to, chain}});
  }
  batch.add_elements(sets().refusal, list);
  if (policy.mode == policy::Mode::audit) {
    batch.add_elements(sets().auditing, std::array{NftElement{.key = NftBytes::u8(NFPROTO_IPV4)},
                                                   NftElement{.key = NftBytes::u8(NFPROTO_IPV6)}});
  }
}

namespace {

/// Calls `write` with each set that has elements for named addresses of this family, and with the
/// member of NamedAddress that is the element's data (null for a plain set).
template <typename Write>
void each_named_set(policy::Address::Family family, const Write& write) {
  const bool v4 = family == policy::Address::Family::v4;
  const Sets& all = sets();
  write(v4 ? all.local_named4 : all.local_named6, &NamedAddress::local_class);
  write(v4 ? all.remote_named4 : all.remote_named6, &NamedAddress::remote_class);
  write(v4 ? all.named4 : all.named6, static_cast<std::uint32_t NamedAddress::*>(nullptr));
}

constexpr std::array kFamilies = {policy::Address::Family::v4, policy::Address::Family::v6};

}  // namespace

void write_named(NftBatch& batch, const std::vector<NamedAddress>& addresses) {
  for (const auto family : kFamilies) {
    each_named_set(family, [&](const kernel::NftSet& set, std::uint32_t NamedAddress::*klass) {
      std::vector<NftElement> list;
      for (const NamedAddress& named : addresses) {
        if (named.address.family == family) {
          const NftBytes key =
              NftBytes().add_raw({named.address.bytes.data(), named.address.size()});
          NftElement item =
              element(key, klass == nullptr ? std::nullopt : std::optional(named.*klass));
          item.timeout = named.timeout;
          item.comment = klass == nullptr ? named.comment : "";
          list.push_back(std::move(item));
        }
      }
      write(batch, set, list, false);
    });
  }
}

void remove_named(NftBatch& batch, const std::vector<policy::Address>& addresses) {
  for (const auto family : kFamilies) {
    std::vector<NftElement> list;
    for (const policy::Address& address : addresses) {
      if (address.family == family) {
        list.push_back({.key = NftBytes().add_raw({address.bytes.data(), address.size()})});
      }
    }
    each_named_set(family, [&](const kernel::NftSet& set, std::uint32_t NamedAddress::*) {
      write(batch, set, list, true);
    });
  }
}

void flush_named(NftBatch& batch) {
  for (const auto family : kFamilies) {
    each_named_set(family, [&](const kernel::NftSet& set, std::uint32_t NamedAddress::*) {
      batch.flush_set(set);
    });
  }
}

bool reads_answers(const policy::Policy& policy) {
  return policy.mode == policy::Mode::audit || !policy::NameIndex(policy).empty();
}

void write_answers(NftBatch& batch, const policy::Policy& policy) {
  if (!reads_answers(policy)) {
    return;
  }
  const char* chain = policy::denies_names(policy) ? kAnswersHeld : kAnswersPass;
  std::vector<NftElement> list;
  for (const std::uint8_t nfproto : {std::uint8_t{NFPROTO_IPV4}, std::uint8_t{NFPROTO_IPV6}}) {
    list.push_back({.key = NftBytes::u8(nfproto),
                    .verdict = kernel::NftVerdict{kernel::NftVerdict::Code::go_to, chain}});
  }
  batch.add_elements(sets().answers, list);
}

}  // namespace trireme::datapath
