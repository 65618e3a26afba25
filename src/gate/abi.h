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
};

/* Flags of trireme_settings. */
/* Ask the policy in the other slot too: for the length of a reload. */
#define TRIREME_BOTH_POLICIES (1u << 0)
/* [defaults] mode is audit: count what would be refused, and let it pass. */
#define TRIREME_AUDIT (1u << 1)
/* All addresses of @host are of one class, so that verdicts of @host may be remembered. */
#define TRIREME_PLAIN_HOST (1u << 2)
/* Some cgroup is in quarantine: look at packets of other devices than lo as well. */
#define TRIREME_SOMEBODY_SHUT (1u << 3)
/* @host may reach some workload: remember whom its sockets asked, so that answers come back. */
#define TRIREME_HOST_ASKS (1u << 4)
/* The slot of the policy in force: 0 or 1. */
#define TRIREME_SLOT (1u << 5)

/* One word, so that nobody reads half of a change. Low 32 bits: flags. High 32 bits: the generation
 * of numbers and policy; what was remembered under another one is void. Never 0. */
struct trireme_settings {
  __u64 word;
};

/* Why packets were refused; indices of the map `refusals`. */
enum trireme_refusal {
  TRIREME_REFUSED_QUARANTINE_IN,
  TRIREME_REFUSED_QUARANTINE_OUT,
  TRIREME_REFUSED_UNSTAMPED,
  TRIREME_REFUSED_POLICY,
  TRIREME_REFUSED_PROTOCOL,
  TRIREME_REFUSED_UNREADABLE,
  TRIREME_AUDITED,
  TRIREME_REFUSALS,
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
