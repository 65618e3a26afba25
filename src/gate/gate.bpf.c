// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The gate: a pair of programs at the top of the cgroup tree, which run for every local socket.
 *
 * Egress stamps each packet on lo with the sender's number. Ingress decides on a packet at the
 * receiving socket, by that stamp, the socket's own number and the port. The sender of a packet
 * without a stamp is unknown; workloads refuse such packets. docs/datapath.md, "The gate".
 *
 * A socket belongs to the cgroup in which it was created, even if it is passed to a process of
 * another one. Its number is that of the deepest ancestor of this cgroup (or itself) that has one.
 *
 * Functions that are not static are checked by the kernel's BPF verifier once, whatever they are
 * called with; static ones at each call. Linux 5.10 lets them take numbers and the packet only.
 */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/in.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "trireme/abi/gate.h"

char _license[] SEC("license") = "Dual BSD/GPL";

#define IPPROTO_ICMPV6 58
#define SOCK_RAW_TYPE 3 /* SOCK_RAW */
#define LOOPBACK 1      /* ifindex of lo, in every network namespace (LOOPBACK_IFINDEX) */
#define DEEPEST 24      /* levels below the root of the hierarchy that are searched for a number */
#define KNOWN_CGROUPS 256   /* entries of the cache of numbers, per processor */
#define KNOWN_VERDICTS 1024 /* entries of the cache of verdicts, per processor */
#define ASKED 8             /* ports that an unconnected UDP socket sent to last */

enum { REFUSE = 0, PASS = 1 };

/* The daemon sets these offsets. Relocations by the loader are not used here: they would make
 * kernel BTF a requirement for all programs. */
const volatile struct trireme_layout layout = {};

/* --- maps that a later daemon's programs take over --- */

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct trireme_settings);
} settings SEC(".maps");

/* cgroup id -> number. Preallocated, because tracing programs add entries too. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1); /* the daemon sets the size */
  __type(key, __u64);
  __type(value, __u32);
} numbers SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct trireme_counts);
} counts SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, TRIREME_REFUSALS);
  __type(key, __u32);
  __type(value, __u64);
} refusals SEC(".maps");

/* --- the policy: each map has two slots, so that a reload can write one next to the other --- */

/* Templates of the inner maps; the daemon creates these with the number of entries that it needs.
 * They give sizes instead of types, because BTF lacks structures that only inner maps name. */
struct members_map {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(struct trireme_member));
};
struct same_map {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(__u32));
};
struct pairs_map {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(struct trireme_pair));
  __uint(value_size, sizeof(__u32));
};
struct ports_map {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, TRIREME_PORTS);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(__u32));
};
struct addresses_map {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(struct trireme_address));
  __uint(value_size, sizeof(__u32));
};
struct named_map {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(__u8[16]));
  __uint(value_size, sizeof(__u32));
};

#define TWO_SLOTS(kind, name)                 \
  struct {                                    \
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); \
    __uint(max_entries, 2);                   \
    __type(key, __u32);                       \
    __array(values, struct kind);             \
  } name SEC(".maps")

TWO_SLOTS(members_map, members);     /* number -> group, class */
TWO_SLOTS(same_map, same);           /* groups whose members can reach each other */
TWO_SLOTS(pairs_map, pairs);         /* (source class, destination class) -> profile */
TWO_SLOTS(pairs_map, outcomes);      /* (profile, port class) -> outcome; no entry: denied */
TWO_SLOTS(ports_map, ports);         /* index of a port -> port class */
TWO_SLOTS(addresses_map, addresses); /* address -> class of @host there */
/* The same for addresses of DNS names; looked up before `addresses`. */
TWO_SLOTS(named_map, named);

/* --- caches per processor, and what is stored with sockets --- */

/* On one processor, a program can be interrupted or preempted by another at any instruction. `busy`
 * counts the writers of a slot: only the first one writes, and a program that finds the slot busy
 * does not use it. `turn` changes with each write, so that an interrupted reader notices it. */
struct cgroup_slot {
  __u64 id;
  __u32 generation;
  __u32 number;
  __u32 busy;
  __u32 turn;
};
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, KNOWN_CGROUPS);
  __type(key, __u32);
  __type(value, struct cgroup_slot);
} known_cgroups SEC(".maps");

struct verdict_slot {
  __u32 from;
  __u32 to;
  __u32 what; /* port << 1 | is_udp */
  __u32 generation;
  __u32 allowed;
  __u32 busy;
  __u32 turn;
  __u32 unused;
};
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, KNOWN_VERDICTS);
  __type(key, __u32);
  __type(value, struct verdict_slot);
} known_verdicts SEC(".maps");

/* Ports that an unconnected UDP socket sent to: answers from there are recognized. In network byte
 * order. */
struct asked_ports {
  __u32 next;
  __u16 port[ASKED];
};
struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct asked_ports);
} asked SEC(".maps");

/* The destination port of a socket's packets, if NAT on OUTPUT changed it; network byte order. */
struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, __u16);
} translated SEC(".maps");

/* TCP sockets that the processes of a live workload have closed: no process has them any more. What
 * was written to them is still delivered after the workload's cgroup was removed. All other sockets
 * of the cgroup deliver nothing from then on. */
struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, __u32);
} closed SEC(".maps");

#define barrier() asm volatile("" ::: "memory")

static __always_inline void count(__u32 reason) {
  __u64* counter = bpf_map_lookup_elem(&refusals, &reason);
  if (counter)
    (*counter)++;
}

/* --- packets --- */

#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_DESTINATION 60

/* Returns the offset of the transport header, and its protocol; 0 if headers are not readable. */
static __always_inline __u32 transport(struct __sk_buff* skb, __u8* protocol) {
  if (skb->protocol == bpf_htons(0x0800)) {
    __u8 header[10];
    if (bpf_skb_load_bytes(skb, 0, header, sizeof header))
      return 0;
    *protocol = header[9];
    return (header[0] & 15u) * 4;
  }
  __u8 next;
  if (skb->protocol != bpf_htons(0x86dd) || bpf_skb_load_bytes(skb, 6, &next, 1))
    return 0;
  __u32 at = 40;
  for (int i = 0; i < 6; i++) {
    if (next != NEXT_HOP_BY_HOP && next != NEXT_ROUTING && next != NEXT_DESTINATION &&
        next != NEXT_FRAGMENT)
      break;
    __u8 extension[2];
    if (bpf_skb_load_bytes(skb, at, extension, sizeof extension))
      return 0;
    at += next == NEXT_FRAGMENT ? 8 : (extension[1] + 1u) * 8;
    next = extension[0];
  }
  *protocol = next;
  return at;
}

/* Reads both addresses, IPv4 as ::ffff:a.b.c.d. Returns 0 if they are not readable. */
static __always_inline int read_addresses(struct __sk_buff* skb, __u8* source, __u8* destination) {
  if (skb->protocol == bpf_htons(0x0800)) {
    __builtin_memset(source, 0, 10);
    __builtin_memset(source + 10, 0xff, 2);
    __builtin_memset(destination, 0, 10);
    __builtin_memset(destination + 10, 0xff, 2);
    return !bpf_skb_load_bytes(skb, 12, source + 12, 4) &&
           !bpf_skb_load_bytes(skb, 16, destination + 12, 4);
  }
  return !bpf_skb_load_bytes(skb, 8, source, 16) && !bpf_skb_load_bytes(skb, 24, destination, 16);
}

struct tcp_start {
  __u16 source;
  __u16 destination;
  __u32 sequence;
  __u32 acknowledged;
  __u8 offset;
  __u8 flags;
};
enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };

/* --- refusals, counted and logged --- */

#define AGAIN 5000000000ull   /* ns: the same refusal is logged once in this time */
#define MOST 32               /* logged refusals per owner in this time */
#define FIRST_TEMPORARY 32768 /* the kernel assigns ports from here on to clients */

/* Refused packets, for the daemon. If it is full, refusals are only counted. */
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 16);
} refused SEC(".maps");

struct logged_key {
  __u64 owner; /* the cgroup, where a number stands for several workloads; else 0 */
  __u32 from;
  __u32 to;
  __u16 port;
  __u8 protocol;
  __u8 reason;
  __u32 unused; /* without it, the key would end with bytes that are not initialized */
};
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, struct logged_key);
  __type(value, __u64);
} logged SEC(".maps");

struct share {
  __u64 since;
  __u32 count;
  __u32 unused;
};
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 1024);
  __type(key, __u64); /* a number, or CGROUP_OWNER and the id of a cgroup */
  __type(value, struct share);
} shares SEC(".maps");

#define CGROUP_OWNER (1ull << 63) /* no id of a cgroup has this bit */

/* Limits the log per owner, so that one sender cannot displace the refusals of others. */
static __always_inline int has_share(__u64 owner, __u64 now) {
  struct share* share = bpf_map_lookup_elem(&shares, &owner);
  if (!share || now - share->since > AGAIN) {
    struct share first = {.since = now, .count = 1};
    bpf_map_update_elem(&shares, &owner, &first, BPF_ANY);
    return 1;
  }
  return __sync_fetch_and_add(&share->count, 1), share->count <= MOST;
}

/* The id of the cgroup by which a socket has its number: the number alone does not identify one of
 * several workloads in quarantine. */
__noinline __u64 owner_of(struct __sk_buff* skb) {
  for (int level = DEEPEST; level >= 1; level--) {
    __u64 id = bpf_skb_ancestor_cgroup_id(skb, level);
    if (id && bpf_map_lookup_elem(&numbers, &id))
      return id;
  }
  return 0;
}

/* `what`: the reason in the low 8 bits; bit 8 is set if audit mode lets the packet pass. */
__noinline int log_refusal(struct __sk_buff* skb, __u32 from, __u32 to, __u32 what) {
  __u8 protocol = 0;
  __u16 ports_there[2] = {};
  __u8 tcp_flags = 0;
  __u32 at = transport(skb, &protocol);
  if (at && (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP))
    bpf_skb_load_bytes(skb, at, ports_there, sizeof ports_there);
  if (at && protocol == IPPROTO_TCP)
    bpf_skb_load_bytes(skb, at + 13, &tcp_flags, 1);
  __u16 source_port = bpf_ntohs(ports_there[0]), port = bpf_ntohs(ports_there[1]);
  int is_answer = source_port && source_port < FIRST_TEMPORARY && port >= FIRST_TEMPORARY &&
                  (tcp_flags & (SYN | ACK)) != SYN;
  __u32 reason = what & 0xff;
  /* All workloads in quarantine have one number, and all that have ended another one. */
  __u64 owner = reason <= TRIREME_REFUSED_ENDED ? owner_of(skb) : 0;
  struct logged_key key = {.owner = owner,
                           .from = is_answer ? to : from,
                           .to = is_answer ? from : to,
                           .port = is_answer ? source_port : port,
                           .protocol = protocol,
                           .reason = reason};
  __u64 now = bpf_ktime_get_ns();
  __u64* last = bpf_map_lookup_elem(&logged, &key);
  if (last && now - *last < AGAIN)
    return 0;
  /* A sender with its own number has its own share, also of what it sends to such workloads. */
  if (!has_share(owner && from < TRIREME_FIRST_NUMBER ? CGROUP_OWNER | owner : from, now))
    return 0;
  if (!owner)
    owner = owner_of(skb);
  struct trireme_refused* event = bpf_ringbuf_reserve(&refused, sizeof *event, 0);
  if (!event)
    return 0;
  event->cgroup = owner;
  event->from = key.from;
  event->to = key.to;
  event->source_port = is_answer ? port : source_port;
  event->port = key.port;
  event->protocol = protocol;
  event->reason = key.reason;
  event->audited = what >> 8 & 1;
  event->local = skb->ifindex == LOOPBACK;
  if (is_answer)
    read_addresses(skb, event->destination, event->source);
  else
    read_addresses(skb, event->source, event->destination);
  bpf_ringbuf_submit(event, 0);
  bpf_map_update_elem(&logged, &key, &now, BPF_ANY);
  return 0;
}

static __always_inline int refuse(struct __sk_buff* skb, __u32 flags, __u32 from, __u32 to,
                                  __u32 reason) {
  int audited = reason >= TRIREME_REFUSED_UNSTAMPED && flags & TRIREME_AUDIT;
  count(audited ? TRIREME_AUDITED : reason);
  log_refusal(skb, from, to, reason | (audited ? 1u << 8 : 0));
  return audited ? PASS : REFUSE;
}

/* --- numbers of sockets --- */

/* True if no cgroup is in quarantine: see struct trireme_settings. */
static __always_inline int is_calm(const struct trireme_settings* set,
                                   const struct trireme_counts* counted) {
  __u32 calm = *(volatile const __u32*)&set->calm;
  return calm && calm == *(volatile const __u32*)&counted->quarantined + 1;
}

static __always_inline __u32 look_up_number(struct __sk_buff* skb) {
  for (int level = DEEPEST; level >= 1; level--) {
    __u64 id = bpf_skb_ancestor_cgroup_id(skb, level);
    if (!id)
      continue;
    __u32* number = bpf_map_lookup_elem(&numbers, &id);
    if (number)
      return *number == TRIREME_BORN ? TRIREME_QUARANTINE : *number;
  }
  return TRIREME_HOST;
}

static __always_inline struct cgroup_slot* slot_of(__u64 id) {
  __u32 index = (__u32)(id ^ id >> 8) % KNOWN_CGROUPS;
  return bpf_map_lookup_elem(&known_cgroups, &index);
}

/* Reads the cache. Returns TRIREME_NOBODY if the number is not cached. */
static __always_inline __u32 recall(const struct cgroup_slot* slot, __u64 id, __u32 generation) {
  __u32 turn = *(volatile __u32*)&slot->turn;
  barrier();
  if (*(volatile __u32*)&slot->busy || slot->id != id || slot->generation != generation)
    return TRIREME_NOBODY;
  __u32 number = slot->number;
  barrier();
  return *(volatile __u32*)&slot->turn == turn ? number : TRIREME_NOBODY;
}

static __always_inline void remember(struct cgroup_slot* slot, __u64 id, __u32 generation,
                                     __u32 number) {
  __sync_fetch_and_add(&slot->busy, 1);
  barrier();
  if (*(volatile __u32*)&slot->busy == 1) {
    __sync_fetch_and_add(&slot->turn, 1);
    barrier();
    slot->id = id;
    slot->generation = generation;
    slot->number = number;
    barrier();
  }
  __sync_fetch_and_add(&slot->busy, -1);
}

static __always_inline __u32 number_of(struct __sk_buff* skb, __u32 generation) {
  __u64 id = bpf_skb_cgroup_id(skb);
  struct cgroup_slot* slot = slot_of(id);
  if (!slot)
    return look_up_number(skb);
  __u32 number = recall(slot, id, generation);
  if (number == TRIREME_NOBODY) {
    number = look_up_number(skb);
    remember(slot, id, generation, number);
  }
  return number;
}

/* --- policy --- */

struct packet {
  __u32 from;
  __u32 own;
  __u32 generation;
  __u32 flags;
};

static __always_inline __u32 class_of(__u32 slot, __u32 number, const __u8* address, __u32* group) {
  *group = 0;
  if (number == TRIREME_HOST) {
    void* by_name = bpf_map_lookup_elem(&named, &slot);
    __u32* found = by_name ? bpf_map_lookup_elem(by_name, address) : 0;
    if (found)
      return *found;
    struct trireme_address key = {.length = 128};
    __builtin_memcpy(key.bytes, address, 16);
    void* trie = bpf_map_lookup_elem(&addresses, &slot);
    found = trie ? bpf_map_lookup_elem(trie, &key) : 0;
    return found ? *found : 0;
  }
  void* table = bpf_map_lookup_elem(&members, &slot);
  struct trireme_member* member = table ? bpf_map_lookup_elem(table, &number) : 0;
  if (!member)
    return 0;
  *group = member->group;
  return member->klass;
}

/* Evaluates the policy in one slot. Ids of classes, profiles and groups begin at 1; 0 is none. */
static __always_inline int allowed_by(__u32 slot, __u32 from, const __u8* from_address, __u32 to,
                                      const __u8* to_address, __u16 port, __u8 is_udp) {
  __u32 from_group, to_group;
  struct trireme_pair pair = {.first = class_of(slot, from, from_address, &from_group),
                              .second = class_of(slot, to, to_address, &to_group)};
  if (from_group && from_group == to_group) {
    void* groups = bpf_map_lookup_elem(&same, &slot);
    if (groups && bpf_map_lookup_elem(groups, &from_group))
      return 1;
  }
  if (!pair.first || !pair.second)
    return 0;
  void* table = bpf_map_lookup_elem(&pairs, &slot);
  __u32* profile = table ? bpf_map_lookup_elem(table, &pair) : 0;
  if (!profile)
    return 0;
  __u32 index = (is_udp ? 65536u : 0u) + bpf_ntohs(port);
  table = bpf_map_lookup_elem(&ports, &slot);
  __u32* port_class = table ? bpf_map_lookup_elem(table, &index) : 0;
  if (!port_class)
    return 0;
  struct trireme_pair outcome = {.first = *profile, .second = *port_class};
  table = bpf_map_lookup_elem(&outcomes, &slot);
  return table && bpf_map_lookup_elem(table, &outcome);
}

enum { IS_UDP = 1u << 16, BACKWARD = 1u << 17 };

/* Evaluates the policy, or reads the cache. `ends`: the numbers of the packet's sender (high 32
 * bits) and receiver. `terms`: generation (high 32 bits) and flags. `what`: a port in network byte
 * order, IS_UDP, and BACKWARD for a flow from the receiver to the sender, whose answer this packet
 * is. */
__noinline int allowed(struct __sk_buff* skb, __u64 ends, __u64 terms, __u32 what) {
  int backward = (what & BACKWARD) != 0, is_udp = (what & IS_UDP) != 0;
  __u32 from = backward ? (__u32)ends : (__u32)(ends >> 32);
  __u32 to = backward ? (__u32)(ends >> 32) : (__u32)ends;
  __u32 flags = (__u32)terms, generation = terms >> 32;
  __u16 port = what & 0xffffu;
  __u32 key = (__u32)port << 1 | is_udp;
  struct verdict_slot* known = 0;
  if (flags & TRIREME_PLAIN_HOST || (from != TRIREME_HOST && to != TRIREME_HOST)) {
    __u32 index = (from * 31 + to * 7 + key) % KNOWN_VERDICTS;
    known = bpf_map_lookup_elem(&known_verdicts, &index);
  }
  if (known) {
    __u32 turn = *(volatile __u32*)&known->turn;
    barrier();
    if (!*(volatile __u32*)&known->busy && known->from == from && known->to == to &&
        known->what == key && known->generation == generation) {
      int verdict = known->allowed & 1;
      barrier();
      if (*(volatile __u32*)&known->turn == turn)
        return verdict;
    }
  }
  __u8 source[16] __attribute__((aligned(4))) = {};
  __u8 destination[16] __attribute__((aligned(4))) = {};
  if ((from == TRIREME_HOST || to == TRIREME_HOST) && !read_addresses(skb, source, destination))
    return 0;
  /* The addresses from the flow's point of view: from_address is that of its sender. */
  const __u8* from_address = backward ? destination : source;
  const __u8* to_address = backward ? source : destination;
  __u32 slot = flags & TRIREME_SLOT ? 1 : 0;
  int verdict = allowed_by(slot, from, from_address, to, to_address, port, is_udp);
  if (!verdict && flags & TRIREME_BOTH_POLICIES)
    verdict = allowed_by(slot ^ 1, from, from_address, to, to_address, port, is_udp);
  if (known) {
    __sync_fetch_and_add(&known->busy, 1);
    barrier();
    if (*(volatile __u32*)&known->busy == 1) {
      __sync_fetch_and_add(&known->turn, 1);
      barrier();
      known->from = from;
      known->to = to;
      known->what = key;
      known->allowed = verdict;
      known->generation = generation;
      barrier();
    }
    __sync_fetch_and_add(&known->busy, -1);
  }
  return verdict;
}

static __always_inline int may_flow(struct __sk_buff* skb, const struct packet* p, __u32 what) {
  return allowed(skb, (__u64)p->from << 32 | p->own, (__u64)p->generation << 32 | p->flags, what);
}

/* --- sockets of removed cgroups --- */

/* True for a segment without data of a connection whose direction from here is closed. Such
 * segments only end the connection, at both ends. */
__noinline int only_ends(struct __sk_buff* skb) {
  struct bpf_sock* sk = skb->sk;
  if (!sk || !(sk = bpf_sk_fullsock(sk)) || sk->protocol != IPPROTO_TCP ||
      (sk->state != BPF_TCP_FIN_WAIT1 && sk->state != BPF_TCP_FIN_WAIT2 &&
       sk->state != BPF_TCP_CLOSING && sk->state != BPF_TCP_LAST_ACK))
    return 0;
  __u8 protocol;
  struct tcp_start tcp;
  __u32 at = transport(skb, &protocol);
  return at && protocol == IPPROTO_TCP && !bpf_skb_load_bytes(skb, at, &tcp, 14) &&
         !(tcp.flags & SYN) && skb->len <= at + (tcp.offset >> 4) * 4u;
}

/* True for what may pass to and from this socket of a removed cgroup: everything if it is a
 * connection that was closed before the removal, else what only ends it. */
static __always_inline int may_pass(struct __sk_buff* skb) {
  struct bpf_sock* sk = skb->sk;
  return (sk && (sk = bpf_sk_fullsock(sk)) && sk->protocol == IPPROTO_TCP &&
          bpf_sk_storage_get(&closed, sk, 0, 0)) ||
         only_ends(skb);
}

/* --- egress --- */

static __always_inline void remember_translation(struct bpf_sock* sk, __u16 port) {
  __u16* kept = bpf_sk_storage_get(&translated, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  if (kept)
    *kept = port;
}

static __always_inline void remember_asked(struct bpf_sock* sk, __u16 port) {
  struct asked_ports* ring = bpf_sk_storage_get(&asked, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  if (!ring)
    return; /* no memory: an answer then passes only if a rule allows its direction */
  for (int i = 0; i < ASKED; i++)
    if (ring->port[i] == port)
      return;
  __u32 at = ring->next++ % ASKED;
  if (at < ASKED)
    ring->port[at] = port;
}

SEC("cgroup_skb/egress")
int trireme_stamp(struct __sk_buff* skb) {
  __u32 zero = 0;
  struct trireme_settings* set = bpf_map_lookup_elem(&settings, &zero);
  if (!set)
    return REFUSE;
  __u64 word = *(volatile __u64*)&set->word;
  __u32 flags = (__u32)word;
  struct trireme_counts* counted = bpf_map_lookup_elem(&counts, &zero);
  if (!counted)
    return REFUSE;
  if (skb->ifindex != LOOPBACK && is_calm(set, counted))
    return PASS;
  __u32 number = number_of(skb, (word >> 32) + *(volatile __u32*)&counted->ended);
  if (number == TRIREME_ENDED && !may_pass(skb))
    return refuse(skb, flags, number, TRIREME_NOBODY, TRIREME_REFUSED_ENDED);
  if (number == TRIREME_QUARANTINE)
    return refuse(skb, flags, number, TRIREME_NOBODY, TRIREME_REFUSED_QUARANTINE_OUT);
  if (skb->ifindex != LOOPBACK)
    return PASS;
  skb->priority = TRIREME_STAMP | number;
  if (number == TRIREME_ENDED || (number == TRIREME_HOST && !(flags & TRIREME_HOST_ASKS)))
    return PASS;

  /* Record the ports by which answers will be recognized. Packets of a handshake in progress come
   * with the listening socket. */
  struct bpf_sock* sk = skb->sk;
  if (!sk || !(sk = bpf_sk_fullsock(sk)))
    return PASS;
  __u8 protocol;
  __u32 at = transport(skb, &protocol);
  if (!at)
    return refuse(skb, flags, number, TRIREME_NOBODY, TRIREME_REFUSED_UNREADABLE);
  if (protocol == IPPROTO_TCP) {
    struct tcp_start tcp;
    if (bpf_skb_load_bytes(skb, at, &tcp, 14))
      return refuse(skb, flags, number, TRIREME_NOBODY, TRIREME_REFUSED_UNREADABLE);
    if ((tcp.flags & (SYN | ACK)) == SYN && tcp.destination != sk->dst_port)
      remember_translation(sk, tcp.destination);
  } else if (protocol == IPPROTO_UDP) {
    __u16 destination;
    if (bpf_skb_load_bytes(skb, at + 2, &destination, 2))
      return refuse(skb, flags, number, TRIREME_NOBODY, TRIREME_REFUSED_UNREADABLE);
    if (!sk->dst_port)
      remember_asked(sk, destination);
    else if (sk->dst_port != destination)
      remember_translation(sk, destination);
  }
  return PASS;
}

/* True if the socket is in the daemon's own network namespace. */
static __always_inline int is_at_home(struct bpf_sock* sk) {
  if (!layout.home || !layout.inode_of_network)
    return 0;
  /* The kernel's BPF verifier forbids arithmetic on a pointer to a socket: copy the pointer into a
   * variable. */
  const char* address = 0;
  const char* network = 0;
  __u32 inode = 0;
  if (bpf_probe_read_kernel(&address, sizeof address, &sk) ||
      bpf_probe_read_kernel(&network, sizeof network, address + layout.network_of_socket) ||
      bpf_probe_read_kernel(&inode, sizeof inode, network + layout.inode_of_network))
    return 1;
  return inode == layout.home;
}

/* Docker's resolver at 127.0.0.11 in a container's network namespace is a socket that dockerd
 * created there. It belongs to no workload. Queries to it and its answers pass in all network
 * namespaces except the daemon's own. It sends nothing but answers. */
static __always_inline int is_resolver(const __u8* address) {
  const __u32* words = (const __u32*)address;
  return !words[0] && !words[1] && words[2] == bpf_htonl(0xffff) &&
         words[3] == bpf_htonl(0x7f00000b);
}
/* True for packets to or from the resolver. */
__noinline int with_resolver(struct __sk_buff* skb, __u32 from, __u32 own, __u32 may_answer) {
  __u8 source[16] __attribute__((aligned(4)));
  __u8 destination[16] __attribute__((aligned(4)));
  struct bpf_sock* sk = skb->sk;
  if (own != TRIREME_HOST && from != TRIREME_HOST)
    return 0;
  if (!sk || !(sk = bpf_sk_fullsock(sk)) || !read_addresses(skb, source, destination))
    return 0;
  return ((own == TRIREME_HOST && is_resolver(destination)) ||
          (may_answer && from == TRIREME_HOST && is_resolver(source))) &&
         !is_at_home(sk);
}

static __always_inline int judge_tcp(struct __sk_buff* skb, struct bpf_sock* sk, struct packet* p,
                                     __u32 at) {
  __u32 flags = p->flags;
  struct tcp_start tcp;
  if (bpf_skb_load_bytes(skb, at, &tcp, 14))
    return refuse(skb, flags, p->from, p->own, TRIREME_REFUSED_UNREADABLE);
  int has_data = skb->len > at + (tcp.offset >> 4) * 4u;
  int is_request = (tcp.flags & (SYN | ACK)) == SYN;
  /* Resets, and segments without data, SYN or FIN, may come from a control socket, a TIME_WAIT
   * socket or a SYN cookie, which have no stamp. They transport nothing, and pass. */
  if (tcp.flags & RST || (!has_data && !(tcp.flags & FIN) && !is_request))
    return PASS;
  if (p->from == TRIREME_NOBODY)
    return refuse(skb, flags, p->from, p->own, TRIREME_REFUSED_UNSTAMPED);
  /* The sender closed it before its cgroup was removed; it was allowed when it was established. */
  if (p->from == TRIREME_ENDED && !is_request && sk->state != BPF_TCP_LISTEN)
    return PASS;
  if (may_flow(skb, p, tcp.destination))
    return PASS;
  if (!is_request) {
    if (may_flow(skb, p, BACKWARD | tcp.source))
      return PASS;
    __u16* port = bpf_sk_storage_get(&translated, sk, 0, 0);
    if (port && may_flow(skb, p, BACKWARD | *port))
      return PASS;
  }
  if (with_resolver(skb, p->from, p->own, !is_request))
    return PASS;
  return refuse(skb, flags, p->from, p->own, TRIREME_REFUSED_POLICY);
}

static __always_inline int judge_udp(struct __sk_buff* skb, struct bpf_sock* sk, struct packet* p,
                                     __u32 at) {
  __u32 flags = p->flags;
  __u16 ports_here[2];
  if (p->from == TRIREME_NOBODY)
    return refuse(skb, flags, p->from, p->own, TRIREME_REFUSED_UNSTAMPED);
  if (bpf_skb_load_bytes(skb, at, ports_here, 4))
    return refuse(skb, flags, p->from, p->own, TRIREME_REFUSED_UNREADABLE);
  if (may_flow(skb, p, IS_UDP | ports_here[1]))
    return PASS;
  int may_answer = 1;
  if (sk->dst_port) {
    if (may_flow(skb, p, IS_UDP | BACKWARD | ports_here[0]))
      return PASS;
    __u16* port = bpf_sk_storage_get(&translated, sk, 0, 0);
    if (port && may_flow(skb, p, IS_UDP | BACKWARD | *port))
      return PASS;
  } else {
    struct asked_ports* ring = bpf_sk_storage_get(&asked, sk, 0, 0);
    if (!ring)
      may_answer = 0;
    else
      for (int i = 0; i < ASKED; i++)
        if (ring->port[i] && may_flow(skb, p, IS_UDP | BACKWARD | ring->port[i]))
          return PASS;
  }
  if (with_resolver(skb, p->from, p->own, may_answer))
    return PASS;
  return refuse(skb, flags, p->from, p->own, TRIREME_REFUSED_POLICY);
}

/* True for packets from other devices than lo for which nf_tables cannot find the receiving socket,
 * or only one of several: multicast, broadcast, UDP-Lite, SCTP, DCCP. */
static __always_inline int is_unseen(struct __sk_buff* skb) {
  if (skb->pkt_type != PACKET_HOST)
    return 1;
  struct bpf_sock* sk = skb->sk;
  if (!sk || !(sk = bpf_sk_fullsock(sk)))
    return 0;
  switch (sk->protocol) {
    case IPPROTO_TCP:
      return 0;
    case IPPROTO_UDP:
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
      break;
    default:
      if (sk->type != SOCK_RAW_TYPE)
        return 1;
  }
  int is_v4 = skb->protocol == bpf_htons(0x0800);
  __u8 first;
  if (bpf_skb_load_bytes(skb, is_v4 ? 16 : 24, &first, 1))
    return 1;
  return is_v4 ? first >= 224 : first == 0xff;
}

/* --- SO_REUSEPORT groups --- */

#define MEMBERS 256 /* of a group that are examined; a larger group counts as shared */

static __always_inline __u64 read_word(__u64 base, __u32 offset) {
  __u64 word = 0;
  bpf_probe_read_kernel(&word, sizeof word, (const void*)(base + offset));
  return word;
}

/* The number of the sockets of a cgroup, given by its address. Not inlined, so that the kernel's
 * BPF verifier checks it once. It searches at most DEEPEST levels upwards from the cgroup;
 * look_up_number() covers the levels 1 to DEEPEST below the root. For deeper cgroups the results
 * can differ: here they count as quarantined, and the result is not cached for packets. */
__noinline int number_at(__u64 cgroup, __u32 generation) {
  __u64 id = read_word(read_word(cgroup, layout.node_of_cgroup), layout.id_of_node);
  struct cgroup_slot* slot = slot_of(id);
  __u32 number = slot ? recall(slot, id, generation) : TRIREME_NOBODY;
  if (number != TRIREME_NOBODY)
    return number;
  __u64 above = cgroup;
  for (int i = 0; i < DEEPEST && above; i++) {
    __u64 key = read_word(read_word(above, layout.node_of_cgroup), layout.id_of_node);
    __u32* known = bpf_map_lookup_elem(&numbers, &key);
    if (known)
      return *known == TRIREME_BORN ? TRIREME_QUARANTINE : *known;
    __u64 state = read_word(above, layout.parent_of_cgroup);
    above = state ? read_word(state, layout.cgroup_of_state) : 0;
  }
  return above ? TRIREME_QUARANTINE : TRIREME_HOST;
}

/* True if the sockets of a SO_REUSEPORT group have different numbers. */
__noinline int is_shared(__u64 group, __u32 generation) {
  __u16 count = 0;
  bpf_probe_read_kernel(&count, sizeof count, (const void*)(group + layout.count_of_group));
  __u32 first = TRIREME_NOBODY;
  for (__u32 i = 0; i < MEMBERS; i++) {
    if (i >= count)
      return 0;
    __u64 member = read_word(group, layout.members_of_group + i * 8);
    __u32 number = number_at(read_word(member, layout.cgroup_of_socket), generation);
    if (first == TRIREME_NOBODY)
      first = number;
    else if (first != number)
      return 1;
  }
  return count > MEMBERS;
}

/* The SO_REUSEPORT group of a socket, if a program (SO_ATTACH_REUSEPORT_CBPF) selects a member for
 * each packet; else 0. nf_tables looks up a member earlier, and may have decided for another one
 * than the receiver. */
static __always_inline __u64 selecting_group(struct __sk_buff* skb) {
  struct bpf_sock* sk = skb->sk;
  if (!layout.group_of_socket || !sk || !(sk = bpf_sk_fullsock(sk)))
    return 0;
  if (sk->protocol == IPPROTO_TCP ? sk->state != BPF_TCP_LISTEN : sk->protocol != IPPROTO_UDP)
    return 0;
  __u64 address = 0;
  if (bpf_probe_read_kernel(&address, sizeof address, &sk))
    return 0;
  __u64 group = read_word(address, layout.group_of_socket);
  return group && read_word(group, layout.program_of_group) ? group : 0;
}

static __always_inline int judge(struct __sk_buff* skb, int with_groups) {
  __u32 zero = 0;
  struct trireme_settings* set = bpf_map_lookup_elem(&settings, &zero);
  if (!set)
    return REFUSE;
  __u64 word = *(volatile __u64*)&set->word;
  __u32 flags = (__u32)word;
  struct trireme_counts* counted = bpf_map_lookup_elem(&counts, &zero);
  if (!counted)
    return REFUSE;
  int is_unjudged = skb->ifindex != LOOPBACK && is_unseen(skb);
  __u64 group = with_groups && skb->ifindex != LOOPBACK ? selecting_group(skb) : 0;
  if (skb->ifindex != LOOPBACK && !is_unjudged && !group && is_calm(set, counted))
    return PASS;
  /* Read the generation before the number: what is looked up later is at least as new, so that no
   * old number is cached under a new generation. */
  __u32 generation = (word >> 32) + *(volatile __u32*)&counted->ended;
  barrier();
  __u32 own = number_of(skb, generation);
  __u32 priority = skb->priority;
  struct packet p = {.own = own, .generation = generation, .flags = flags};
  if (skb->ifindex == LOOPBACK && (priority & TRIREME_STAMP_MASK) == TRIREME_STAMP)
    p.from = priority & ~TRIREME_STAMP_MASK;
  if (own == TRIREME_ENDED)
    return may_pass(skb) ? PASS : refuse(skb, flags, p.from, own, TRIREME_REFUSED_ENDED);
  if (own == TRIREME_QUARANTINE)
    return refuse(skb, flags, p.from, own, TRIREME_REFUSED_QUARANTINE_IN);
  if (is_unjudged && own != TRIREME_HOST)
    return refuse(skb, flags, p.from, own, TRIREME_REFUSED_PROTOCOL);
  if (group && is_shared(group, generation))
    return refuse(skb, flags, p.from, own, TRIREME_REFUSED_GROUP);
  if (skb->ifindex != LOOPBACK)
    return PASS;
  if (p.from == own)
    return PASS;
  if (own == TRIREME_HOST && p.from == TRIREME_NOBODY)
    return PASS; /* the receiver is not a workload, and the sender is unknown */

  __u8 protocol;
  __u32 at = transport(skb, &protocol);
  struct bpf_sock* sk = skb->sk;
  if (!at || !sk || !(sk = bpf_sk_fullsock(sk)))
    return refuse(skb, flags, p.from, own, TRIREME_REFUSED_UNREADABLE);
  switch (protocol) {
    case IPPROTO_TCP:
      return judge_tcp(skb, sk, &p, at);
    case IPPROTO_UDP:
      return judge_udp(skb, sk, &p, at);
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
      return PASS; /* nf_tables decides on ICMP, which has no ports */
    default:
      return refuse(skb, flags, p.from, own, TRIREME_REFUSED_PROTOCOL);
  }
}

SEC("?cgroup_skb/ingress")
int trireme_judge(struct __sk_buff* skb) {
  return judge(skb, 1);
}
/* For kernels that let no program read their memory. A program of its own, because Linux before 6.8
 * also verifies functions that are never called. */
SEC("?cgroup_skb/ingress")
int trireme_judge_plain(struct __sk_buff* skb) {
  return judge(skb, 0);
}

/* --- the canary --- */

#define UDP_HEADER 8

/* Filter on a socket of the daemon that sends to itself. Cuts off datagrams without a stamp, by
 * which the daemon notices that something removes stamps on lo. */
SEC("socket")
int trireme_canary(struct __sk_buff* skb) {
  return (skb->priority & TRIREME_STAMP_MASK) == TRIREME_STAMP
             ? 0xffff
             : UDP_HEADER + TRIREME_CANARY_WITHOUT_STAMP;
}

/* --- creation and removal of cgroups --- */

/* Which cgroups to quarantine. A later daemon does not take over this map, because only the tracing
 * programs use it, and it finds maps through the programs that are attached to the cgroup. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct trireme_births);
} births SEC(".maps");

/* Members of kernel structures that are read; the loader relocates their offsets. */
struct kernfs_node {
  __u64 id;
  const char* name;
} __attribute__((preserve_access_index));
struct cgroup_root {
  int hierarchy_id;
} __attribute__((preserve_access_index));
struct cgroup;
struct cgroup_subsys_state {
  struct cgroup* cgroup;
  struct cgroup_subsys_state* parent;
} __attribute__((preserve_access_index));
struct cgroup {
  struct cgroup_subsys_state self;
  struct kernfs_node* kn;
  struct cgroup_root* root;
} __attribute__((preserve_access_index));

struct sock_cgroup_data {
  struct cgroup* cgroup;
} __attribute__((preserve_access_index));
struct sock {
  struct sock_cgroup_data sk_cgrp_data;
} __attribute__((preserve_access_index));
struct tcp_sock {
  __u32 write_seq;
  __u32 snd_una;
} __attribute__((preserve_access_index));

/* True for cgroups of the v2 hierarchy. Ids are unique within a hierarchy only, so that cgroups of
 * v1 must be ignored. */
static __always_inline int is_v2(const struct cgroup* cgroup) {
  return cgroup->root->hierarchy_id == 0;
}

/* Increments the counter for a new cgroup (TRIREME_BORN), a removed one (TRIREME_QUARANTINE), or
 * one without room in `numbers`. */
static __always_inline void raise(__u32 which) {
  __u32 zero = 0;
  struct trireme_counts* counted = bpf_map_lookup_elem(&counts, &zero);
  if (!counted)
    return;
  if (which == TRIREME_BORN)
    __sync_fetch_and_add(&counted->quarantined, 1);
  else if (which == TRIREME_QUARANTINE) {
    __sync_fetch_and_add(&counted->quarantined, 1);
    __sync_fetch_and_add(&counted->ended, 1);
  } else
    __sync_fetch_and_add(&counted->missed, 1);
}

#define HEX 64   /* digits of a container's id */
#define PREFIX 7 /* "docker-" or "libpod-" */
#define SUFFIX 6 /* ".scope", ".slice" */
#define LONGEST 255

static __always_inline int is_hex(const char* text) {
  for (int i = 0; i < HEX; i++)
    if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f')))
      return 0;
  return 1;
}
/* Not memcmp(): some compilers emit a call, which BPF programs cannot make. */
#define BEGINS_WITH(text, literal)                                               \
  ({                                                                             \
    int same = 1;                                                                \
    _Pragma("unroll") for (__u32 at = 0; at < sizeof(literal) - 1; at++) same &= \
        (text)[at] == (literal)[at];                                             \
    same;                                                                        \
  })
static __always_inline int is_docker(const char* text) {
  return BEGINS_WITH(text, "docker-");
}
static __always_inline int is_libpod(const char* text) {
  return BEGINS_WITH(text, "libpod-");
}

/* True for NAME.slice: the daemon watches the children of slices. */
static __always_inline int is_slice(const struct cgroup* cgroup) {
  char name[LONGEST + 1];
  const char* text = cgroup->kn->name;
  long size = bpf_probe_read_kernel_str(name, sizeof name, text);
  if (size < SUFFIX + 2)
    return 0;
  char end[8] = {};
  return !bpf_probe_read_kernel(end, SUFFIX, text + size - 1 - SUFFIX) &&
         BEGINS_WITH(end, ".slice");
}

/* True for the parents in which the cgroupfs driver creates containers. */
static __always_inline int is_parent(const struct cgroup* cgroup) {
  char name[16] = {};
  long size = bpf_probe_read_kernel_str(name, sizeof name, cgroup->kn->name);
  return (size == sizeof "docker" && BEGINS_WITH(name, "docker")) ||
         (size == sizeof "libpod_parent" && BEGINS_WITH(name, "libpod_parent"));
}

/* True if the cgroup of a container belongs to Podman. */
static __always_inline int is_podmans(const struct cgroup* cgroup) {
  char name[PREFIX + 1] = {};
  bpf_probe_read_kernel_str(name, sizeof name, cgroup->kn->name);
  return is_libpod(name);
}

enum { NO_CONTAINER, SCOPE, DIRECTORY };

/* SCOPE: docker-ID.scope or libpod-ID.scope. DIRECTORY: ID or libpod-ID, of the cgroupfs driver. */
static __always_inline int kind_of(const struct cgroup* cgroup) {
  char name[PREFIX + HEX + SUFFIX + 2] = {};
  long size = bpf_probe_read_kernel_str(name, sizeof name, cgroup->kn->name) - 1;
  if (size == HEX)
    return is_hex(name) ? DIRECTORY : NO_CONTAINER;
  if (size != PREFIX + HEX && size != PREFIX + HEX + SUFFIX)
    return NO_CONTAINER;
  if (!is_hex(name + PREFIX))
    return NO_CONTAINER;
  if (size == PREFIX + HEX)
    return is_libpod(name) ? DIRECTORY : NO_CONTAINER;
  return (is_docker(name) || is_libpod(name)) && BEGINS_WITH(name + PREFIX + HEX, ".scope")
             ? SCOPE
             : NO_CONTAINER;
}

/* True if the daemon watches the parent. Cgroups that are created deeper, inside a service or
 * another container, are part of that. */
static __always_inline int is_followed(const struct cgroup* cgroup, int kind, __u64 top) {
  const struct cgroup* above = cgroup->self.parent->cgroup;
  if (kind == DIRECTORY)
    return is_parent(above) && above->self.parent->cgroup->kn->id == top;
  for (int i = 0; i < DEEPEST; i++) {
    if (above->kn->id == top)
      return 1;
    if (!is_slice(above))
      return 0;
    above = above->self.parent->cgroup;
  }
  return 0;
}

/* Runs when a cgroup was created, before a process can be in it: quarantines a container. */
SEC("?tp_btf/cgroup_mkdir")
int trireme_born(__u64* arguments) {
  const struct cgroup* cgroup = (const struct cgroup*)arguments[0];
  __u32 zero = 0;
  const struct trireme_births* wanted = bpf_map_lookup_elem(&births, &zero);
  if (!wanted || !wanted->top || !is_v2(cgroup))
    return 0;
  int kind = kind_of(cgroup);
  if (!(is_podmans(cgroup) ? wanted->podman : wanted->docker))
    return 0;
  if (kind == NO_CONTAINER || !is_followed(cgroup, kind, wanted->top))
    return 0;
  __u64 id = cgroup->kn->id;
  __u32 number = TRIREME_BORN;
  raise(bpf_map_update_elem(&numbers, &id, &number, BPF_ANY) ? TRIREME_NOBODY : TRIREME_BORN);
  return 0;
}

/* Runs when a cgroup was removed. Other processes may still have sockets that were created in it.
 */
SEC("?tp_btf/cgroup_rmdir")
int trireme_ended(__u64* arguments) {
  const struct cgroup* cgroup = (const struct cgroup*)arguments[0];
  if (!is_v2(cgroup))
    return 0;
  __u64 id = cgroup->kn->id;
  const __u32* known = bpf_map_lookup_elem(&numbers, &id);
  if (!known)
    return 0;
  __u32 number =
      *known == TRIREME_QUARANTINE || *known == TRIREME_BORN ? TRIREME_QUARANTINE : TRIREME_ENDED;
  if (!bpf_map_update_elem(&numbers, &id, &number, BPF_EXIST))
    raise(TRIREME_QUARANTINE);
  return 0;
}

/* Runs when the last socket of a removed cgroup is gone. */
SEC("?tp_btf/cgroup_release")
int trireme_released(__u64* arguments) {
  const struct cgroup* cgroup = (const struct cgroup*)arguments[0];
  if (!is_v2(cgroup))
    return 0;
  __u64 id = cgroup->kn->id;
  bpf_map_delete_elem(&numbers, &id);
  return 0;
}

/* --- closing of sockets --- */

static __always_inline __u32 look_up_closed(const struct cgroup* cgroup) {
  for (int i = 0; i < DEEPEST && cgroup; i++) {
    __u64 id = BPF_CORE_READ(cgroup, kn, id);
    __u32* number = bpf_map_lookup_elem(&numbers, &id);
    if (number)
      return *number == TRIREME_BORN ? TRIREME_QUARANTINE : *number;
    cgroup = BPF_CORE_READ(cgroup, self.parent, cgroup);
  }
  return TRIREME_HOST;
}

#define V4_FAMILY 2 /* AF_INET */

/* True if the peer is a loopback address, to which no packet is lost. */
static __always_inline int is_to_loopback(struct bpf_sock* sk) {
  if (sk->family == V4_FAMILY)
    return (sk->dst_ip4 & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
  return !sk->dst_ip6[0] && !sk->dst_ip6[1] &&
         (sk->dst_ip6[2] == bpf_htonl(0xffff)
              ? (sk->dst_ip6[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000)
              : !sk->dst_ip6[2] && sk->dst_ip6[3] == bpf_htonl(1));
}

/* Runs when the last process that has a socket closes it. While the cgroup exists, the workload
 * closes it, or a process to which the workload passed the socket. After the cgroup was removed,
 * another process does, which may also have written the data that TCP still has. So only sockets
 * that are closed before are recorded in `closed`. If that fails, they deliver nothing after the
 * removal. */
SEC("?cgroup/sock_release")
int trireme_closed(struct bpf_sock* sk) {
  __u32 zero = 0;
  struct trireme_settings* set = bpf_map_lookup_elem(&settings, &zero);
  struct trireme_counts* counted = bpf_map_lookup_elem(&counts, &zero);
  if (!set || !counted || sk->protocol != IPPROTO_TCP)
    return PASS;
  /* The kernel's BPF verifier forbids arithmetic on a pointer to a socket: copy the pointer into a
   * variable. */
  const struct tcp_sock* address = 0;
  if (bpf_probe_read_kernel(&address, sizeof address, &sk))
    return PASS;
  if (is_to_loopback(sk) && BPF_CORE_READ(address, write_seq) == BPF_CORE_READ(address, snd_una))
    return PASS; /* all data has arrived; only the FIN remains, which arrives at once */
  const struct cgroup* cgroup = BPF_CORE_READ((const struct sock*)address, sk_cgrp_data.cgroup);
  if (!cgroup)
    return PASS;
  __u64 word = *(volatile __u64*)&set->word;
  __u32 generation = (word >> 32) + *(volatile __u32*)&counted->ended;
  barrier();
  __u64 id = BPF_CORE_READ(cgroup, kn, id);
  struct cgroup_slot* slot = slot_of(id);
  __u32 number = slot ? recall(slot, id, generation) : TRIREME_NOBODY;
  if (number == TRIREME_NOBODY)
    number = look_up_closed(cgroup);
  if (number >= TRIREME_FIRST_NUMBER)
    bpf_sk_storage_get(&closed, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  return PASS;
}
