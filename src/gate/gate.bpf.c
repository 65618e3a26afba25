// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The gate: one pair of programs at the top of the cgroup tree, for every local socket.
 *
 * Egress stamps each packet for lo with its sender's number. Ingress judges a packet at the very
 * socket that is about to get it, by that stamp, the socket's own number and the port. A packet
 * without a stamp is nobody's: workloads refuse it. docs/datapath.md, "The gate".
 *
 * A socket's number is that of the deepest cgroup among its ancestors that has one. A socket keeps
 * the cgroup that made it, wherever it is passed.
 */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/in.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

char _license[] SEC("license") = "Dual BSD/GPL";

#define IPPROTO_ICMPV6 58
#define SOCK_RAW_TYPE 3 /* SOCK_RAW */
#define LOOPBACK 1      /* lo's index, in every network namespace (LOOPBACK_IFINDEX) */
#define DEEPEST 24      /* levels of the tree below the real root that are looked at */
#define KNOWN_CGROUPS 256
#define KNOWN_VERDICTS 1024
#define ASKED 8 /* ports that an unconnected UDP socket has asked at last */

enum { REFUSE = 0, PASS = 1 };

/* Not by the loader's relocations, which need BTF for every program. */
const volatile struct trireme_layout layout = {};

/* --- maps that last: an upgrade of the programs takes them over --- */

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct trireme_settings);
} settings SEC(".maps");

/* cgroup id -> number. Preallocated: tracing programs write it too. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1); /* the daemon decides how many */
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

/* --- the policy: each of these has two slots, so that a reload can prepare one beside the other
 * --- */

/* What makes a map of its kind; the daemon decides how much fits in. Sizes and not types: BTF of
 * inner maps lacks structs that nothing else names. */
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
TWO_SLOTS(same_map, same);           /* groups whose members reach each other */
TWO_SLOTS(pairs_map, pairs);         /* (source class, destination class) -> profile */
TWO_SLOTS(pairs_map, outcomes);      /* (profile, port class) -> outcome; absent: refused */
TWO_SLOTS(ports_map, ports);         /* port class */
TWO_SLOTS(addresses_map, addresses); /* class of @host at an address */
TWO_SLOTS(named_map, named); /* the same, of addresses that have a DNS name; before `addresses` */

/* --- what is remembered on each processor, and on sockets --- */

/* A slot is written by one at a time: whoever finds it busy does without. On one processor a
 * program can be interrupted, or preempted, by another at any instruction. `turn` changes with each
 * writing, so that a reader who was interrupted notices. */
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
  __u32 what; /* port << 1 | is UDP */
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

/* Ports in network byte order, as packets have them. */
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

/* The destination port that NAT on OUTPUT gave a socket's packets, where it is not the socket's. */
struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, __u16);
} translated SEC(".maps");

/* TCP sockets that a workload's own processes have closed, so that no process has them any more:
 * what had been written to them is delivered, though the workload's cgroup ends. Whatever is not
 * here delivers nothing after the end. */
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

/* Where the transport header begins, and its protocol; 0 where it cannot be read. */
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

#define AGAIN 5000000000ull   /* nanoseconds: the same refusal is logged once in this time */
#define MOST 32               /* different ones of one sender in this time */
#define FIRST_TEMPORARY 32768 /* ports from here on are those that the kernel gives to clients */

/* Read by the daemon. Where it does not, or not fast enough, there are the counters. */
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 16);
} refused SEC(".maps");

struct logged_key {
  __u32 from;
  __u32 to;
  __u16 port;
  __u8 protocol;
  __u8 reason;
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
  __type(key, __u32);
  __type(value, struct share);
} shares SEC(".maps");

/* Nobody fills the log in the place of others. */
static __always_inline int has_share(__u32 sender, __u64 now) {
  struct share* share = bpf_map_lookup_elem(&shares, &sender);
  if (!share || now - share->since > AGAIN) {
    struct share first = {.since = now, .count = 1};
    bpf_map_update_elem(&shares, &sender, &first, BPF_ANY);
    return 1;
  }
  return __sync_fetch_and_add(&share->count, 1), share->count <= MOST;
}

/* `what`: the reason, and from bit 8 on whether it was audited only. */
static __noinline int log_refusal(struct __sk_buff* skb, __u32 from, __u32 to, __u32 what) {
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
  struct logged_key key = {.from = is_answer ? to : from,
                           .to = is_answer ? from : to,
                           .port = is_answer ? source_port : port,
                           .protocol = protocol,
                           .reason = what & 0xff};
  __u64 now = bpf_ktime_get_ns();
  __u64* last = bpf_map_lookup_elem(&logged, &key);
  if ((last && now - *last < AGAIN) || !has_share(from, now))
    return 0;
  struct trireme_refused* event = bpf_ringbuf_reserve(&refused, sizeof *event, 0);
  if (!event)
    return 0;
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

/* --- who --- */

/* Whether no cgroup is in quarantine. */
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

/* TRIREME_NOBODY where it is not known. */
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

/* --- what is allowed --- */

struct packet {
  __u32 from;
  __u32 own;
  __u32 generation;
  __u32 flags;
  __u32 slot;
  __u16 source_port; /* network byte order */
  __u16 destination_port;
  __u8 is_udp;
  __u8 source[16] __attribute__((aligned(4)));
  __u8 destination[16] __attribute__((aligned(4)));
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

/* By one policy. Class, profile and group 0 are nobody's: identifiers begin at 1. */
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

/* A function of its own, called for each direction and port that may matter. */
static __noinline int allowed(struct packet* p, __u32 backward, __u32 port) {
  if (!p)
    return 0;
  __u32 from = backward ? p->own : p->from, to = backward ? p->from : p->own;
  __u32 what = (port & 0xffffu) << 1 | (p->is_udp & 1);
  struct verdict_slot* known = 0;
  if (p->flags & TRIREME_PLAIN_HOST || (from != TRIREME_HOST && to != TRIREME_HOST)) {
    __u32 index = (from * 31 + to * 7 + what) % KNOWN_VERDICTS;
    known = bpf_map_lookup_elem(&known_verdicts, &index);
  }
  if (known) {
    __u32 turn = *(volatile __u32*)&known->turn;
    barrier();
    if (!*(volatile __u32*)&known->busy && known->from == from && known->to == to &&
        known->what == what && known->generation == p->generation) {
      int verdict = known->allowed & 1;
      barrier();
      if (*(volatile __u32*)&known->turn == turn)
        return verdict;
    }
  }
  /* The addresses as the flow's sender has them. */
  const __u8* from_address = backward ? p->destination : p->source;
  const __u8* to_address = backward ? p->source : p->destination;
  int verdict = allowed_by(p->slot & 1, from, from_address, to, to_address, port, p->is_udp);
  if (!verdict && p->flags & TRIREME_BOTH_POLICIES)
    verdict = allowed_by((p->slot & 1) ^ 1, from, from_address, to, to_address, port, p->is_udp);
  if (known) {
    __sync_fetch_and_add(&known->busy, 1);
    barrier();
    if (*(volatile __u32*)&known->busy == 1) {
      __sync_fetch_and_add(&known->turn, 1);
      barrier();
      known->from = from;
      known->to = to;
      known->what = what;
      known->allowed = verdict;
      known->generation = p->generation;
      barrier();
    }
    __sync_fetch_and_add(&known->busy, -1);
  }
  return verdict;
}

/* --- what has ended --- */

/* Of an ended cgroup's sockets: whether this one is a connection that was closed before the end. */
static __always_inline int is_closed(struct __sk_buff* skb) {
  struct bpf_sock* sk = skb->sk;
  return sk && (sk = bpf_sk_fullsock(sk)) && sk->protocol == IPPROTO_TCP &&
         bpf_sk_storage_get(&closed, sk, 0, 0);
}

/* --- on the way out --- */

static __always_inline void remember_translation(struct bpf_sock* sk, __u16 port) {
  __u16* kept = bpf_sk_storage_get(&translated, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  if (kept)
    *kept = port;
}

static __always_inline void remember_asked(struct bpf_sock* sk, __u16 port) {
  struct asked_ports* ring = bpf_sk_storage_get(&asked, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  if (!ring)
    return; /* no memory: the answer is judged by the rules of its own direction */
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
  if (number == TRIREME_ENDED && !is_closed(skb))
    number = TRIREME_QUARANTINE;
  if (number == TRIREME_QUARANTINE)
    return refuse(skb, flags, number, TRIREME_NOBODY, TRIREME_REFUSED_QUARANTINE_OUT);
  if (skb->ifindex != LOOPBACK)
    return PASS;
  skb->priority = TRIREME_STAMP | number;
  if (number == TRIREME_ENDED || (number == TRIREME_HOST && !(flags & TRIREME_HOST_ASKS)))
    return PASS;

  /* What answers will be recognised by. A handshake under way comes as its listener.
   */
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

/* Whether the socket is in the daemon's own network namespace. */
static __always_inline int is_at_home(struct bpf_sock* sk) {
  if (!layout.home || !layout.inode_of_network)
    return 0;
  /* The verifier lets no program calculate with a socket's address, and with a number it does. */
  const char* address = 0;
  const char* network = 0;
  __u32 inode = 0;
  if (bpf_probe_read_kernel(&address, sizeof address, &sk) ||
      bpf_probe_read_kernel(&network, sizeof network, address + layout.network_of_socket) ||
      bpf_probe_read_kernel(&inode, sizeof inode, network + layout.inode_of_network))
    return 1;
  return inode == layout.home;
}

/* Docker's resolver in a container's network, 127.0.0.11, is a socket that dockerd has made there:
 * of no workload, and part of the container. What a workload sends to it and what it answers passes
 * in all network namespaces but the daemon's own. It begins nothing itself. */
static __always_inline int is_resolver(const __u8* address) {
  const __u32* words = (const __u32*)address;
  return !words[0] && !words[1] && words[2] == bpf_htonl(0xffff) &&
         words[3] == bpf_htonl(0x7f00000b);
}
/* Asked last, and once: the verifier takes its time over it. */
static __always_inline int with_resolver(const struct packet* p, struct bpf_sock* sk,
                                         int may_answer) {
  return ((p->own == TRIREME_HOST && is_resolver(p->destination)) ||
          (may_answer && p->from == TRIREME_HOST && is_resolver(p->source))) &&
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
  /* They may come from a control socket, a TIME_WAIT socket or a SYN cookie, and say nothing. */
  if (tcp.flags & RST || (!has_data && !(tcp.flags & FIN) && !is_request))
    return PASS;
  if (p->from == TRIREME_NOBODY)
    return refuse(skb, flags, p->from, p->own, TRIREME_REFUSED_UNSTAMPED);
  if (!read_addresses(skb, p->source, p->destination))
    return refuse(skb, flags, p->from, p->own, TRIREME_REFUSED_UNREADABLE);
  /* The connection was judged when it began. */
  if (p->from == TRIREME_ENDED && !is_request && sk->state != BPF_TCP_LISTEN)
    return PASS;
  if (allowed(p, 0, tcp.destination))
    return PASS;
  if (!is_request) {
    if (allowed(p, 1, tcp.source))
      return PASS;
    __u16* port = bpf_sk_storage_get(&translated, sk, 0, 0);
    if (port && allowed(p, 1, *port))
      return PASS;
  }
  if (with_resolver(p, sk, !is_request))
    return PASS;
  return refuse(skb, flags, p->from, p->own, TRIREME_REFUSED_POLICY);
}

static __always_inline int judge_udp(struct __sk_buff* skb, struct bpf_sock* sk, struct packet* p,
                                     __u32 at) {
  __u32 flags = p->flags;
  __u16 ports_here[2];
  if (p->from == TRIREME_NOBODY)
    return refuse(skb, flags, p->from, p->own, TRIREME_REFUSED_UNSTAMPED);
  if (bpf_skb_load_bytes(skb, at, ports_here, 4) || !read_addresses(skb, p->source, p->destination))
    return refuse(skb, flags, p->from, p->own, TRIREME_REFUSED_UNREADABLE);
  p->is_udp = 1;
  if (allowed(p, 0, ports_here[1]))
    return PASS;
  int may_answer = 1;
  if (sk->dst_port) {
    if (allowed(p, 1, ports_here[0]))
      return PASS;
    __u16* port = bpf_sk_storage_get(&translated, sk, 0, 0);
    if (port && allowed(p, 1, *port))
      return PASS;
  } else {
    struct asked_ports* ring = bpf_sk_storage_get(&asked, sk, 0, 0);
    if (!ring)
      may_answer = 0;
    else
      for (int i = 0; i < ASKED; i++)
        if (ring->port[i] && allowed(p, 1, ring->port[i]))
          return PASS;
  }
  if (with_resolver(p, sk, may_answer))
    return PASS;
  return refuse(skb, flags, p->from, p->own, TRIREME_REFUSED_POLICY);
}

/* What rules cannot judge of what comes from elsewhere, since they see one socket of many, or none:
 * multicast, broadcast, UDP-Lite, SCTP, DCCP. */
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

/* --- groups of sockets --- */

#define MEMBERS 256 /* of a group; a larger one counts as shared */

static __always_inline __u64 read_word(__u64 base, __u32 offset) {
  __u64 word = 0;
  bpf_probe_read_kernel(&word, sizeof word, (const void*)(base + offset));
  return word;
}

/* The number of sockets made in a cgroup, by its address. A function that is verified once. It
 * looks up from below and packets from above: what is too deep for it is nobody's whom it knows,
 * and nothing that it finds is remembered for them. */
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

/* Whether a group of SO_REUSEPORT has sockets of more than one workload, or of one and of others.
 */
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

/* The group that a socket was selected from by a program (SO_ATTACH_REUSEPORT_CBPF), where it can
 * still be another one for each packet; 0: none. Rules, which look a member up beforehand, may then
 * have judged for another one. */
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
  /* The settings first: what is looked up after them is as new as they are, or newer. */
  __u32 generation = (word >> 32) + *(volatile __u32*)&counted->ended;
  barrier();
  __u32 own = number_of(skb, generation);
  __u32 priority = skb->priority;
  struct packet p = {
      .own = own, .generation = generation, .flags = flags, .slot = flags & TRIREME_SLOT ? 1 : 0};
  if (skb->ifindex == LOOPBACK && (priority & TRIREME_STAMP_MASK) == TRIREME_STAMP)
    p.from = priority & ~TRIREME_STAMP_MASK;
  if (own == TRIREME_ENDED) {
    if (is_closed(skb))
      return PASS;
    own = TRIREME_QUARANTINE;
  }
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
    return PASS; /* as if trireme were not there */

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
      return PASS; /* rules judge it: it has no ports */
    default:
      return refuse(skb, flags, p.from, own, TRIREME_REFUSED_PROTOCOL);
  }
}

SEC("?cgroup_skb/ingress")
int trireme_judge(struct __sk_buff* skb) {
  return judge(skb, 1);
}
/* Where a kernel lets no program read its memory. Linux before 6.8 looks at functions that are
 * called nowhere, too. */
SEC("?cgroup_skb/ingress")
int trireme_judge_plain(struct __sk_buff* skb) {
  return judge(skb, 0);
}

/* --- the canary --- */

#define UDP_HEADER 8

/* At a socket of the daemon that sends to itself: what arrives without its stamp is cut off. */
SEC("socket")
int trireme_canary(struct __sk_buff* skb) {
  return (skb->priority & TRIREME_STAMP_MASK) == TRIREME_STAMP
             ? 0xffff
             : UDP_HEADER + TRIREME_CANARY_WITHOUT_STAMP;
}

/* --- births and ends of cgroups --- */

/* Where the daemon has said what to look for. Only the programs below use it, so that a later
 * daemon, which finds the maps of those that are attached to the cgroup, writes its own. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct trireme_births);
} births SEC(".maps");

/* What is read of the kernel's own structures; the loader finds where the fields are. */
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

/* Ids are only unique within a hierarchy, and those of cgroup v1 are no concern of ours. */
static __always_inline int is_v2(const struct cgroup* cgroup) {
  return cgroup->root->hierarchy_id == 0;
}

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
/* Some compilers make a call of memcmp, which no program can do. */
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

/* NAME.slice: whose children the daemon follows. */
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

/* The parents that the cgroupfs driver puts containers into. */
static __always_inline int is_parent(const struct cgroup* cgroup) {
  char name[16] = {};
  long size = bpf_probe_read_kernel_str(name, sizeof name, cgroup->kn->name);
  return (size == sizeof "docker" && BEGINS_WITH(name, "docker")) ||
         (size == sizeof "libpod_parent" && BEGINS_WITH(name, "libpod_parent"));
}

/* Of a container's cgroup. */
static __always_inline int is_podmans(const struct cgroup* cgroup) {
  char name[PREFIX + 1] = {};
  bpf_probe_read_kernel_str(name, sizeof name, cgroup->kn->name);
  return is_libpod(name);
}

enum { NO_CONTAINER, SCOPE, DIRECTORY };

/* docker-ID.scope and libpod-ID.scope; or ID and libpod-ID, as the cgroupfs driver has them. */
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

/* Whether the daemon would hear of it: what is made deeper, inside of a service or of another
 * container, is a part of that. */
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

/* A directory for a container, before anybody can use it. */
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

/* The directory has gone. Sockets that were made in it may live on elsewhere. */
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

/* The last socket that was made in it has gone too. */
SEC("?tp_btf/cgroup_release")
int trireme_released(__u64* arguments) {
  const struct cgroup* cgroup = (const struct cgroup*)arguments[0];
  if (!is_v2(cgroup))
    return 0;
  __u64 id = cgroup->kn->id;
  bpf_map_delete_elem(&numbers, &id);
  return 0;
}

/* --- closing --- */

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

/* Nothing is lost on the way there. */
static __always_inline int is_to_loopback(struct bpf_sock* sk) {
  if (sk->family == V4_FAMILY)
    return (sk->dst_ip4 & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
  return !sk->dst_ip6[0] && !sk->dst_ip6[1] &&
         (sk->dst_ip6[2] == bpf_htonl(0xffff)
              ? (sk->dst_ip6[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000)
              : !sk->dst_ip6[2] && sk->dst_ip6[3] == bpf_htonl(1));
}

/* The last process that has a socket closes it. While its cgroup is a workload's that is the
 * workload's doing, or of somebody whom it has let act in its name. Once the cgroup has ended it is
 * somebody else's, and so may be what TCP has kept back. Where this cannot be remembered nothing is
 * delivered after the end. */
SEC("?cgroup/sock_release")
int trireme_closed(struct bpf_sock* sk) {
  __u32 zero = 0;
  struct trireme_settings* set = bpf_map_lookup_elem(&settings, &zero);
  struct trireme_counts* counted = bpf_map_lookup_elem(&counts, &zero);
  if (!set || !counted || sk->protocol != IPPROTO_TCP)
    return PASS;
  /* The verifier lets no program calculate with a socket's address, and with a number it does. */
  const struct tcp_sock* address = 0;
  if (bpf_probe_read_kernel(&address, sizeof address, &sk))
    return PASS;
  if (is_to_loopback(sk) && BPF_CORE_READ(address, write_seq) == BPF_CORE_READ(address, snd_una))
    return PASS; /* all has arrived, and the end of it will at once */
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
