// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The interface between the gate's programs (gate.bpf.c) and the daemon (src/gate): keys and values
 * of maps. Included from C and from C++. All numbers are in host byte order unless said otherwise.
 */
#ifndef TRIREME_ABI_GATE_H
#define TRIREME_ABI_GATE_H

#include <linux/types.h>

/* NOLINTBEGIN(modernize-macro-to-enum,cppcoreguidelines-macro-usage): C reads it too */

/* skb->priority of a stamped packet on lo: this high byte, and the sender's number in the low 24
 * bits. Differs from the verifier's priorities (abi.hpp), which begin at 0xF0. */
#define TRIREME_STAMP 0xE7000000u
#define TRIREME_STAMP_MASK 0xFF000000u

/* Numbers below 16 are reserved (abi.hpp). */
enum {
  TRIREME_NOBODY = 0,     /* no stamp: the sender is unknown */
  TRIREME_HOST = 1,       /* a process that is not a workload */
  TRIREME_QUARANTINE = 2, /* no traffic in or out */
  TRIREME_BORN = 3,       /* in `numbers` only: quarantined by trireme_born when the cgroup was
                           * created; the daemon has not decided yet */
  TRIREME_ENDED = 4, /* the workload's cgroup was removed: quarantined, but connections that were
                      * closed before that still deliver what was written, and those whose
                      * own direction is closed end */
  TRIREME_FIRST_NUMBER = 16, /* of a workload or a remote identity; the gate sees the former only */
};

/* Flags of trireme_settings. */
/* During a reload: a packet passes if the policy in either slot allows it. */
#define TRIREME_BOTH_POLICIES (1u << 0)
/* [defaults] mode = "audit": packets that would be refused are counted and pass. */
#define TRIREME_AUDIT (1u << 1)
/* @host has the same class at every address, so that verdicts about @host can be cached. */
#define TRIREME_PLAIN_HOST (1u << 2)
/* A rule lets @host connect to a workload: record the ports that its sockets sent to, so that
 * answers pass. */
#define TRIREME_HOST_ASKS (1u << 3)
/* The slot of the policy in force is 1, not 0. */
#define TRIREME_SLOT (1u << 4)

/* Written by the daemon only.
 * word: a single word, so that it is read atomically. Low 32 bits: flags. High 32 bits: the
 * daemon's part of the generation of numbers and policy. calm: 1 + the value of
 * trireme_counts.quarantined when the daemon last found no cgroup in quarantine; 0 while there is
 * one. While it matches that count, packets on devices other than lo pass without a lookup. */
struct trireme_settings {
  __u64 word;
  __u32 calm;
  __u32 unused;
};

/* Offsets in bytes of kernel structure members that the programs read; set when they are loaded. 0:
 * unknown.
 * home: inode number of the daemon's network namespace.
 * network_of_socket: a socket's pointer to its network namespace. inode_of_network: the inode
 * number in a network namespace. */
struct trireme_layout {
  __u32 home;
  __u32 network_of_socket;
  __u32 inode_of_network;
  /* A socket's pointer to its SO_REUSEPORT group; the group's program, member count and members. */
  __u32 group_of_socket;
  __u32 program_of_group;
  __u32 count_of_group;
  __u32 members_of_group;
  /* A socket's cgroup; the cgroup's kernfs node, and the node's id; the parent's state, and the
   * cgroup that a state belongs to. */
  __u32 cgroup_of_socket;
  __u32 node_of_cgroup;
  __u32 id_of_node;
  __u32 parent_of_cgroup;
  __u32 cgroup_of_state;
};

/* Counters, written by the programs only.
 * ended: the programs' part of the generation. A cache entry is valid only if it was made under the
 * current sum of both parts.
 * quarantined: cgroups that the programs quarantined when they were created or removed.
 * missed: new containers that were not quarantined, because `numbers` was full. */
struct trireme_counts {
  __u32 ended;
  __u32 quarantined;
  __u32 missed;
  __u32 unused;
};

/* Which new cgroups the programs quarantine; written by the daemon.
 * top: id of the cgroup at the top of the daemon's tree; 0: none are quarantined.
 * docker, podman: 1 if containers of this engine are quarantined. */
struct trireme_births {
  __u64 top;
  __u32 docker;
  __u32 podman;
};

/* Size in bytes to which the canary cuts a datagram that lost its stamp. */
#define TRIREME_CANARY_WITHOUT_STAMP 4

/* Why packets were refused; indices of the map `refusals`. The order matters: audit mode lets pass
 * what is refused for a reason from TRIREME_REFUSED_UNSTAMPED on, and never the ones before it.
 * TRIREME_AUDITED counts what it let pass. */
enum trireme_refusal {
  TRIREME_REFUSED_QUARANTINE_IN,
  TRIREME_REFUSED_QUARANTINE_OUT,
  TRIREME_REFUSED_ENDED, /* the socket is one of a workload whose cgroup was removed */
  TRIREME_REFUSED_UNSTAMPED,
  TRIREME_REFUSED_POLICY,
  TRIREME_REFUSED_PROTOCOL,
  TRIREME_REFUSED_UNREADABLE,
  TRIREME_REFUSED_GROUP,
  TRIREME_AUDITED,
  TRIREME_REFUSALS,
};

/* A refused packet (in audit mode: one that would have been refused), with the addresses and ports
 * of its headers. Reported once in 5 seconds for the same numbers, destination port, protocol and
 * reason, and the same cgroup if the socket is in quarantine or its workload has ended. If the
 * ports show that the packet is an answer, source and destination are swapped. */
struct trireme_refused {
  __u64 cgroup; /* the one by which the socket at which the packet was refused has its number; 0:
                 * the socket is no workload's */
  __u32 from;   /* numbers; TRIREME_NOBODY where unknown */
  __u32 to;
  __u8 source[16]; /* IPv4 as ::ffff:a.b.c.d */
  __u8 destination[16];
  __u16 source_port;
  __u16 port; /* of the destination; 0 if the protocol has none */
  __u8 protocol;
  __u8 reason;  /* trireme_refusal */
  __u8 audited; /* audit mode let it pass */
  __u8 local;   /* on lo */
};

/* Keys and values of the maps of a policy; policy/compile.hpp explains groups, classes and
 * profiles.
 */
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
