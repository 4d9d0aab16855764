/* Chooses the generation that gets a new connection: the kernel runs this for each SYN (and again
 * for the ACK that a SYN cookie comes back with), for each datagram of an unconnected UDP socket,
 * and for each connection that waits at a socket which is shut down. One copy per listener; all
 * listeners of an app read the same policy, of which it writes the counts of clients alone. */
#include <linux/bpf.h>

#include <linux/if_ether.h>
#include <linux/in.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "policy.h"

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct SteeringPolicy);
} policy_map SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
  __uint(max_entries, kMaxSlots);
  __type(key, __u32);
  __type(value, __u64);
} slots_map SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, kCounterRows);
  __type(key, __u32);
  __type(value, struct SteeringCounters);
} counters_map SEC(".maps");

enum { kIpv4SourceOffset = 12, kIpv6SourceOffset = 8 };

static __always_inline struct SteeringCounters* counters_of(__u32 slot) {
  __u32 row = slot < kMaxSlots ? slot : kMaxSlots;
  return bpf_map_lookup_elem(&counters_map, &row);
}

#define COUNT(slot, what)                                 \
  do {                                                    \
    struct SteeringCounters* row_ = counters_of(slot);    \
    if (row_) row_->what++;                               \
  } while (0)

/* True when the socket of this slot is there and is now the selected one. */
static __always_inline int take(struct sk_reuseport_md* md, __u32 slot) {
  if (slot >= kMaxSlots) return 0;
  return bpf_sk_select_reuseport(md, &slots_map, &slot, 0) == 0;
}

/* The address as in SteeringProbe.source. Works for IPv4 on a dual-stack socket too. */
static __always_inline int read_source(struct sk_reuseport_md* md, __u32 source[4]) {
  if (md->eth_protocol == bpf_htons(ETH_P_IPV6))
    return bpf_skb_load_bytes_relative(md, kIpv6SourceOffset, source, 16, BPF_HDR_START_NET) == 0;
  source[0] = 0;
  source[1] = 0;
  source[2] = bpf_htonl(0xFFFF);
  return bpf_skb_load_bytes_relative(md, kIpv4SourceOffset, &source[3], 4, BPF_HDR_START_NET) == 0;
}

static __always_inline int read_client(struct sk_reuseport_md* md, __u64* client) {
  __u32 v4 = 0;
  if (md->eth_protocol == bpf_htons(ETH_P_IPV6))
    return bpf_skb_load_bytes_relative(md, kIpv6SourceOffset, client, 8, BPF_HDR_START_NET) == 0;
  if (bpf_skb_load_bytes_relative(md, kIpv4SourceOffset, &v4, 4, BPF_HDR_START_NET) != 0) return 0;
  *client = v4;
  return 1;
}

static __always_inline int is_from(const struct SteeringProbe* probe, const __u32 source[4]) {
  return probe->source[0] == source[0] && probe->source[1] == source[1] &&
         probe->source[2] == source[2] && probe->source[3] == source[3];
}

static __always_inline __u32 source_port(struct sk_reuseport_md* md) {
  __be16* header = md->data; /* TCP and UDP both begin with the source port */
  if ((void*)(header + 1) > md->data_end) return 0;
  return bpf_ntohs(*header);
}

/* The slot that a probe from here asked for, or kNoSlot. */
static __always_inline __u32 probed_slot(struct sk_reuseport_md* md, struct SteeringPolicy* policy) {
  __u32 source[4];
  __u32 entered = *(volatile __u32*)&policy->probes_entered;
  __u32 port;
  int i;
  int known = 0;
  if (entered == 0) return kNoSlot;
  port = source_port(md);
  if (port == 0) return kNoSlot;
  for (i = 0; i < kMaxProbes; i++) {
    struct SteeringProbe* probe = &policy->probes[i];
    __u32 match = *(volatile __u32*)&probe->match;
    if (!(entered & (1U << i)) || match >> kProbePortShift != port) continue;
    if (!known) known = read_source(md, source);
    if (!known || !is_from(probe, source)) continue;
    if (bpf_ktime_get_ns() >= *(volatile __u64*)&probe->expires_ns) continue;
    /* the entry may have been given to another probe while we compared it */
    if (*(volatile __u32*)&probe->match != match) continue;
    return (match >> kProbeSlotShift) & kSlotMask;
  }
  return kNoSlot;
}

static __always_inline __u32 slot_at(__u64 word, __u32 shift) {
  return (word >> shift) & kSlotMask;
}

static __always_inline int candidate_wins(struct sk_reuseport_md* md, struct SteeringPolicy* policy,
                                          __u64 word, __u64 expires_ns) {
  __u32 weight = (word >> kWeightShift) & kWeightMask;
  __u64 client = 0;
  if (weight == 0 || slot_at(word, kCandidateShift) == kNoSlot) return 0;
  if (expires_ns != 0 && bpf_ktime_get_ns() >= expires_ns) return 0;
  if (weight >= kWeightAll) return 1;
  /* each datagram asks again, and a flow must not change sides in its middle: all or nothing */
  if (md->ip_protocol == IPPROTO_UDP) return 0;
  if ((word >> kFlagsShift) & kFlagClientAffinity) {
    if (!read_client(md, &client)) return 0;
    __sync_fetch_and_add(&policy->clients[client_bucket(client, policy->salt)], 1);
    return client_share(client, policy->salt) < weight;
  }
  return (((__u64)bpf_get_prandom_u32() * kWeightAll) >> 32) < weight;
}

/* A connection that waited at a socket which is being shut down (that socket has left its slot
 * already). The packet may be missing here, so nothing of it is read. */
static __always_inline int migrate(struct sk_reuseport_md* md, __u64 word) {
  __u32 active = slot_at(word, kActiveShift);
  __u32 standby = slot_at(word, kStandbyShift);
  if (take(md, active)) {
    COUNT(active, migrated);
  } else if (take(md, standby)) {
    COUNT(standby, migrated);
  } else {
    COUNT(active, critical);
  }
  return SK_PASS;
}

static __always_inline int fall_back(struct sk_reuseport_md* md, __u64 word, __u32 wanted) {
  __u32 active = slot_at(word, kActiveShift);
  __u32 standby = slot_at(word, kStandbyShift);
  if (wanted != active && take(md, active)) {
    COUNT(active, fallback);
  } else if (take(md, standby)) {
    COUNT(standby, fallback);
  } else {
    COUNT(wanted, critical);
  }
  return SK_PASS; /* with nothing selected the kernel's hash chooses: better than a refusal */
}

SEC("sk_reuseport/migrate")
int updagent_steer(struct sk_reuseport_md* md) {
  __u32 zero = 0;
  struct SteeringPolicy* policy = bpf_map_lookup_elem(&policy_map, &zero);
  __u64 expires_ns;
  __u64 word;
  __u32 wanted;
  if (!policy) return SK_PASS;
  /* In this order: the supervisor sets the weight to 0, then a new expiry, then a new weight. So
   * who sees a new expiry never sees the weight that an older one had ended. */
  expires_ns = *(volatile __u64*)&policy->expires_ns;
  word = *(volatile __u64*)&policy->word;
  if (md->migrating_sk) return migrate(md, word);

  wanted = probed_slot(md, policy);
  if (wanted != kNoSlot) {
    /* another generation's answer would be a lie: a probe of one that is gone is refused */
    if (!take(md, wanted)) return SK_DROP;
    COUNT(wanted, probes);
    return SK_PASS;
  }
  wanted = slot_at(word, kActiveShift);
  if (candidate_wins(md, policy, word, expires_ns)) wanted = slot_at(word, kCandidateShift);
  if (!take(md, wanted)) return fall_back(md, word, wanted);
  COUNT(wanted, selected);
  return SK_PASS;
}

/* the kernel asks for a licence only where a helper is bound to the GPL: none of ours is */
char steer_license[] SEC("license") = "updagent";
