// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What the gate's programs (gate.bpf.c) and the daemon (gate.cpp) agree on: keys and values of
 * maps. Included from C and from C++. All numbers are in host byte order unless said otherwise. */
#ifndef TRIREME_GATE_ABI_H
#define TRIREME_GATE_ABI_H

#include <linux/types.h>

/* NOLINTBEGIN(modernize-macro-to-enum,cppcoreguidelines-macro-usage): C reads it too */

/* skb->priority of a packet on lo: this byte, then the sender's number. Not one of the verifier's
 * rulings (handshake/codes.hpp), which begin at 0xF0. */
#define TRIREME_STAMP 0xE7000000u
#define TRIREME_STAMP_MASK 0xFF000000u

/* Numbers below 16 are reserved: policy/compile.hpp. */
enum {
  TRIREME_NOBODY = 0,     /* no stamp: nobody knows who sent it */
  TRIREME_HOST = 1,       /* a process that is not a workload */
  TRIREME_QUARANTINE = 2, /* nothing in, nothing out */
  TRIREME_BORN = 3,       /* in `numbers` only: quarantined by the kernel when the cgroup was made;
                           * the daemon has not decided yet */
  TRIREME_ENDED = 4, /* the workload's cgroup has gone: in quarantine, but connections that were
                      * closed before that deliver what had been written */
  TRIREME_FIRST_NUMBER = 16, /* of a workload */
};

/* Flags of trireme_settings. */
/* Ask the policy in the other slot too: for the length of a reload. */
#define TRIREME_BOTH_POLICIES (1u << 0)
/* [defaults] mode is audit: count what would be refused, and let it pass. */
#define TRIREME_AUDIT (1u << 1)
/* All addresses of @host are of one class, so that verdicts of @host may be remembered. */
#define TRIREME_PLAIN_HOST (1u << 2)
/* @host may reach some workload: remember whom its sockets asked, so that answers come back. */
#define TRIREME_HOST_ASKS (1u << 3)
/* The slot of the policy in force: 0 or 1. */
#define TRIREME_SLOT (1u << 4)

/* Written by the daemon alone.
 * word: one word, so that nobody reads half of a change. Low 32 bits: flags. High 32 bits: the
 * daemon's part of the generation of numbers and policy.
 * calm: 1 + trireme_counts.quarantined as it was when the daemon last saw that no cgroup is in
 * quarantine; 0 while one is. While it agrees with that count, packets of other devices than lo
 * pass unseen. */
struct trireme_settings {
  __u64 word;
  __u32 calm;
  __u32 unused;
};

/* Where the kernel has what the programs read of it, known when they are loaded; 0: unknown.
 * home: inode number of the daemon's network namespace. Offsets in bytes: a socket's pointer to its
 * network namespace, and that one's inode number. */
struct trireme_layout {
  __u32 home;
  __u32 network_of_socket;
  __u32 inode_of_network;
  /* A socket's group of SO_REUSEPORT; its program, count and array of members. */
  __u32 group_of_socket;
  __u32 program_of_group;
  __u32 count_of_group;
  __u32 members_of_group;
  /* A socket's cgroup, that one's kernfs node and its id, and the way to the cgroup above. */
  __u32 cgroup_of_socket;
  __u32 node_of_cgroup;
  __u32 id_of_node;
  __u32 parent_of_cgroup;
  __u32 cgroup_of_state;
};

/* Written by the kernel alone; counts that only rise.
 * ended: the kernel's part of the generation. What was remembered under another sum of both parts
 * is void.
 * quarantined: cgroups that the kernel has put in quarantine, at their birth or their end.
 * missed: births that found no room in `numbers`. */
struct trireme_counts {
  __u32 ended;
  __u32 quarantined;
  __u32 missed;
  __u32 unused;
};

/* Which new cgroups the kernel quarantines, written by the daemon.
 * top: id of the cgroup at the top of the daemon's tree; 0: no births are looked at.
 * docker, podman: whether containers of such an engine are. */
struct trireme_births {
  __u64 top;
  __u32 docker;
  __u32 podman;
};

/* Bytes that are left of a canary datagram that has lost its stamp. */
#define TRIREME_CANARY_WITHOUT_STAMP 4

/* Why packets were refused; indices of the map `refusals`. */
enum trireme_refusal {
  TRIREME_REFUSED_QUARANTINE_IN,
  TRIREME_REFUSED_QUARANTINE_OUT,
  TRIREME_REFUSED_UNSTAMPED,
  TRIREME_REFUSED_POLICY,
  TRIREME_REFUSED_PROTOCOL,
  TRIREME_REFUSED_UNREADABLE,
  TRIREME_REFUSED_GROUP,
  TRIREME_AUDITED,
  TRIREME_REFUSALS,
};

/* What was refused (or, in audit mode, would have been), as its packet says; once in 5 seconds for
 * the same ends, destination port, protocol and reason. Answers are turned round where their ports
 * tell that they are. */
struct trireme_refused {
  __u32 from; /* numbers; TRIREME_NOBODY where unknown */
  __u32 to;
  __u8 source[16]; /* IPv4 as ::ffff:a.b.c.d */
  __u8 destination[16];
  __u16 source_port;
  __u16 port; /* of the destination; 0 where the protocol has none */
  __u8 protocol;
  __u8 reason;  /* trireme_refusal */
  __u8 audited; /* it passed */
  __u8 local;   /* on lo */
};

/* A policy is one map of each of these kinds: policy/compile.hpp says what they mean. */
struct trireme_member {
  __u32 group;
  __u32 klass;
};
struct trireme_pair { /* (source class, destination class) or (profile, port class) */
  __u32 first;
  __u32 second;
};
struct trireme_address { /* key of an LPM trie; IPv4 as ::ffff:a.b.c.d */
  __u32 length;          /* bits */
  __u8 bytes[16];
};
/* Index into the array `ports`: TCP's 65,536, then UDP's. */
#define TRIREME_PORTS 131072u

/* NOLINTEND(modernize-macro-to-enum,cppcoreguidelines-macro-usage) */

#endif
