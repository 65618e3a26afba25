// SPDX-License-Identifier: Apache-2.0
#include "trireme/kernel/conntrack.hpp"

#include <arpa/inet.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack_tcp.h>
#include <netinet/in.h>

#include <cstring>

namespace trireme::kernel {

namespace {

constexpr unsigned kLabelBits = 128;

struct Free {
  void operator()(nf_conntrack* entry) const { nfct_destroy(entry); }
};
using Entry = std::unique_ptr<nf_conntrack, Free>;

bool is_icmp(std::uint8_t protocol) {
  return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

policy::Address address(const nf_conntrack* entry, nf_conntrack_attr v4, nf_conntrack_attr v6) {
  policy::Address result;
  const bool is_v6 = nfct_get_attr_u8(entry, ATTR_L3PROTO) == AF_INET6;
  result.family = is_v6 ? policy::Address::Family::v6 : policy::Address::Family::v4;
  if (const void* bytes = nfct_get_attr(entry, is_v6 ? v6 : v4)) {
    std::memcpy(result.bytes.data(), bytes, result.size());
  }
  return result;
}

TrackedFlow read(const nf_conntrack* entry) {
  TrackedFlow flow;
  flow.protocol = nfct_get_attr_u8(entry, ATTR_L4PROTO);
  flow.original = {address(entry, ATTR_ORIG_IPV4_SRC, ATTR_ORIG_IPV6_SRC),
                   address(entry, ATTR_ORIG_IPV4_DST, ATTR_ORIG_IPV6_DST)};
  flow.reply = {address(entry, ATTR_REPL_IPV4_SRC, ATTR_REPL_IPV6_SRC),
                address(entry, ATTR_REPL_IPV4_DST, ATTR_REPL_IPV6_DST)};
  const auto port = [entry](nf_conntrack_attr attribute) -> std::uint16_t {
    return nfct_attr_is_set(entry, attribute) > 0 ? ntohs(nfct_get_attr_u16(entry, attribute))
                                                  : std::uint16_t{0};
  };
  flow.original.source_port = port(ATTR_ORIG_PORT_SRC);
  flow.original.destination_port = port(ATTR_ORIG_PORT_DST);
  flow.reply.source_port = port(ATTR_REPL_PORT_SRC);
  flow.reply.destination_port = port(ATTR_REPL_PORT_DST);
  flow.zone = nfct_get_attr_u16(entry, ATTR_ZONE);
  if (nfct_attr_is_set(entry, ATTR_TCP_STATE) > 0) {
    const std::uint8_t state = nfct_get_attr_u8(entry, ATTR_TCP_STATE);
    flow.ended = state == TCP_CONNTRACK_LAST_ACK || state == TCP_CONNTRACK_TIME_WAIT ||
                 state == TCP_CONNTRACK_CLOSE;
  }
  if (is_icmp(flow.protocol)) {
    flow.icmp_type = nfct_get_attr_u8(entry, ATTR_ICMP_TYPE);
    flow.icmp_code = nfct_get_attr_u8(entry, ATTR_ICMP_CODE);
    flow.icmp_id = port(ATTR_ICMP_ID);
  }
  if (const auto* labels =
          static_cast<const nfct_bitmask*>(nfct_get_attr(entry, ATTR_CONNLABELS))) {
    for (unsigned bit = 0; bit < kLabelBits && bit <= nfct_bitmask_maxbit(labels); bit++) {
      if (nfct_bitmask_test_bit(labels, static_cast<std::uint16_t>(bit)) != 0) {
        flow.label.at(bit / 32) |= 1U << bit % 32;
      }
    }
  }
  return flow;
}

/// An object that identifies the entry to the kernel by its original direction.
Entry name(const TrackedFlow& flow) {
  Entry entry(nfct_new());
  if (!entry) {
    throw std::bad_alloc();
  }
  const FlowTuple& original = flow.original;
  const bool v6 = original.source.family == policy::Address::Family::v6;
  nfct_set_attr_u8(entry.get(), ATTR_ORIG_L3PROTO, v6 ? AF_INET6 : AF_INET);
  nfct_set_attr(entry.get(), v6 ? ATTR_ORIG_IPV6_SRC : ATTR_ORIG_IPV4_SRC,
                original.source.bytes.data());
  nfct_set_attr(entry.get(), v6 ? ATTR_ORIG_IPV6_DST : ATTR_ORIG_IPV4_DST,
                original.destination.bytes.data());
  nfct_set_attr_u8(entry.get(), ATTR_ORIG_L4PROTO, flow.protocol);
  if (is_icmp(flow.protocol)) {
    nfct_set_attr_u8(entry.get(), ATTR_ICMP_TYPE, flow.icmp_type);
    nfct_set_attr_u8(entry.get(), ATTR_ICMP_CODE, flow.icmp_code);
    nfct_set_attr_u16(entry.get(), ATTR_ICMP_ID, htons(flow.icmp_id));
  } else {
    nfct_set_attr_u16(entry.get(), ATTR_ORIG_PORT_SRC, htons(original.source_port));
    nfct_set_attr_u16(entry.get(), ATTR_ORIG_PORT_DST, htons(original.destination_port));
  }
  if (flow.zone != 0) {
    nfct_set_attr_u16(entry.get(), ATTR_ZONE, flow.zone);
  }
  return entry;
}

}  // namespace

struct Conntrack::Handle {
  nfct_handle* query = nullptr;
  nfct_handle* change = nullptr;  // a socket of its own: its answers must not mix with a listing's
  Handle() = default;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    for (nfct_handle* handle : {query, change}) {
      if (handle != nullptr) {
        nfct_close(handle);
      }
    }
  }
};

Conntrack::Conntrack(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}
Conntrack::Conntrack(Conntrack&&) noexcept = default;
Conntrack& Conntrack::operator=(Conntrack&&) noexcept = default;
Conntrack::~Conntrack() = default;

Result<Conntrack> Conntrack::open() {
  auto handle = std::make_unique<Handle>();
  handle->query = nfct_open(CONNTRACK, 0);
  handle->change = nfct_open(CONNTRACK, 0);
  if (handle->query == nullptr || handle->change == nullptr) {
    return fail_errno("cannot open a netlink socket to conntrack");
  }
  return Conntrack(std::move(handle));
}

Status Conntrack::each(const std::function<void(const TrackedFlow&)>& callback) {
  const auto on_entry = [](nf_conntrack_msg_type /*type*/, nf_conntrack* entry, void* data) -> int {
    (*static_cast<const std::function<void(const TrackedFlow&)>*>(data))(read(entry));
    return NFCT_CB_CONTINUE;
  };
  auto* data = const_cast<std::function<void(const TrackedFlow&)>*>(
      &callback);  // libnetfilter_conntrack takes void*
  nfct_callback_register(handle_->query, NFCT_T_ALL, on_entry, data);
  // List both families at once: for each listing the kernel walks the hash table of all network
  // namespaces, which takes tens of milliseconds if it is large.
  const std::uint32_t family = AF_UNSPEC;
  const Status status = nfct_query(handle_->query, NFCT_Q_DUMP, &family) < 0
                            ? fail_errno("cannot list conntrack entries")
                            : Status{};
  nfct_callback_unregister(handle_->query);
  return status;
}

Result<bool> Conntrack::find(std::uint8_t protocol, const FlowTuple& original, TrackedFlow& found) {
  TrackedFlow tuple;
  tuple.protocol = protocol;
  tuple.original = original;
  return find(tuple, found);
}

Result<bool> Conntrack::find(const TrackedFlow& wanted, TrackedFlow& found) {
  const auto on_entry = [](nf_conntrack_msg_type /*type*/, nf_conntrack* entry, void* data) -> int {
    *static_cast<TrackedFlow*>(data) = read(entry);
    return NFCT_CB_CONTINUE;
  };
  const Entry key = name(wanted);
  nfct_callback_register(handle_->query, NFCT_T_ALL, on_entry, &found);
  const int status = nfct_query(handle_->query, NFCT_Q_GET, key.get());
  const int error = errno;
  nfct_callback_unregister(handle_->query);
  if (status < 0 && error != ENOENT) {
    return fail_errno("cannot read a conntrack entry", error);
  }
  return status >= 0;
}

Status Conntrack::write_label_bits(const TrackedFlow& flow, std::uint32_t which,
                                   std::uint32_t bits) {
  const Entry entry = name(flow);
  nfct_bitmask* value = nfct_bitmask_new(kLabelBits - 1);
  nfct_bitmask* mask = nfct_bitmask_new(kLabelBits - 1);
  if (value == nullptr || mask == nullptr) {
    throw std::bad_alloc();
  }
  for (std::uint16_t bit = 0; bit < 32; bit++) {
    if ((which >> bit & 1U) != 0) {
      nfct_bitmask_set_bit(mask, bit);
    }
    if ((bits >> bit & 1U) != 0) {
      nfct_bitmask_set_bit(value, bit);
    }
  }
  nfct_set_attr(entry.get(), ATTR_CONNLABELS, value);  // the entry owns both now
  nfct_set_attr(entry.get(), ATTR_CONNLABELS_MASK, mask);
  // ENOSPC: the entry has no room for labels, as it is older than the first rule that sets one.
  if (nfct_query(handle_->change, NFCT_Q_UPDATE, entry.get()) < 0 && errno != ENOENT &&
      errno != ENOSPC) {
    return fail_errno("cannot change the label of a conntrack entry");
  }
  return {};
}

Status Conntrack::remove(const TrackedFlow& flow) {
  const Entry entry = name(flow);
  if (nfct_query(handle_->change, NFCT_Q_DESTROY, entry.get()) < 0 && errno != ENOENT) {
    return fail_errno("cannot delete a conntrack entry");
  }
  return {};
}

}  // namespace trireme::kernel
