/* What the steering program (steer.bpf.c) and the supervisor both know: the policy that the one
 * reads and the other writes, and the counters that go the other way. C for the one, C++ for the
 * other. A change of any layout changes kPolicyAbi: a running kernel may still hold the old one. */
#ifndef UPDAGENT_LISTEN_POLICY_H
#define UPDAGENT_LISTEN_POLICY_H

#include <linux/types.h>

#ifdef __cplusplus
namespace updagent::listen {
#endif

enum {
  kMaxSlots = 16,       /* generations that can have a socket at the same time */
  kNoSlot = 0xFF,       /* in the word: there is none */
  kWeightAll = 10000,   /* weights are of 10,000 new connections */
  kMaxProbes = 8,       /* probes and scrapes under way at the same time */
  kPolicyAbi = 2,       /* of the layouts below */
  kCounterRows = kMaxSlots + 1, /* the last one counts where no slot was wanted */
  kClientBuckets = 256, /* a power of two: enough to tell ten busy addresses from a crowd */
};

/* SteeringPolicy.word: who gets new connections. One word, because separate fields tear: a reader
 * could see the new candidate with the old weight.
 *   bits 0-7 active, 8-15 candidate, 16-23 standby, 24-31 flags, 32-47 weight, the rest 0 */
enum {
  kActiveShift = 0,
  kCandidateShift = 8,
  kStandbyShift = 16,
  kFlagsShift = 24,
  kWeightShift = 32,
  kSlotMask = 0xFF,
  kFlagsMask = 0xFF,
  kWeightMask = 0xFFFF,
  kFlagClientAffinity = 1, /* by hash of the client's address, not by chance */
};

/* SteeringProbe.match: 0 is a free entry; no connection comes from port 0.
 *   bits 0-7 serial (changes with every use of the entry), 8-15 slot, 16-31 source port */
enum {
  kProbeSlotShift = 8,
  kProbePortShift = 16,
};

struct SteeringProbe {
  __u32 source[4];  /* network order; IPv4 as ::ffff:a.b.c.d */
  __u64 expires_ns; /* CLOCK_MONOTONIC; an entry that nobody cleared must not keep a user's port */
  __u32 match;
  __u32 serial; /* of the last use */
};

struct SteeringPolicy {
  __u32 abi;
  __u32 probes_entered; /* bit i: probes[i] is worth a look */
  __u64 tag;            /* random, of this policy: map ids alone may name a stranger's map */
  __u64 expires_ns;     /* CLOCK_MONOTONIC; from then on the weight counts as 0; 0: never */
  __u64 word;
  __u64 salt; /* of the client hash */
  struct SteeringProbe probes[kMaxProbes];
  /* Connections by hash of the client's address, while that decides (kFlagClientAffinity): written
   * by the program, for the question whether a few addresses carry most of them. Wraps around. */
  __u32 clients[kClientBuckets];
};

/* Of one slot of one listener; each connection counts in exactly one of them. */
struct SteeringCounters {
  __u64 selected; /* by role and weight */
  __u64 probes;
  __u64 fallback; /* the slot that was wanted had no socket: this one took it */
  __u64 migrated; /* queued at a socket that was shut down */
  __u64 critical; /* wanted this slot, none of the fallbacks had a socket: the kernel's hash chose */
};

/* `client` is the IPv4 address or the first 64 bits of the IPv6 address, as they lie in the packet.
 * The mixing is that of splitmix64. */
static inline __u64 mix_client(__u64 client, __u64 salt) {
  __u64 mixed = client ^ salt;
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9ULL;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBULL;
  return mixed ^ (mixed >> 31);
}

/* 0..9,999 for a client: it goes to the candidate while this is below the weight, so whoever is
 * with the candidate stays there as the weight grows. From the upper half of the hash; the bucket
 * is from the lower one, so the two know nothing of each other. */
static inline __u32 client_share(__u64 client, __u64 salt) {
  return (__u32)(((mix_client(client, salt) >> 32) * kWeightAll) >> 32);
}
static inline __u32 client_bucket(__u64 client, __u64 salt) {
  return (__u32)mix_client(client, salt) & (kClientBuckets - 1);
}

#ifdef __cplusplus
}
#endif

#endif
