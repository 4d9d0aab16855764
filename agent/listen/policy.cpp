#include <bpf/bpf.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <type_traits>

#include "agent/listen/bpf_maps.hpp"
#include "agent/listen/steer_program.hpp"
#include "agent/listen/steering.hpp"

namespace updagent::listen {
namespace {

using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

// Of what enter_probe() returns: the place, and which use of it.
constexpr unsigned kProbeSerialShift = 8;
constexpr unsigned kProbeIndexMask = 0xFF;
constexpr std::uint64_t kNsPerSecond = 1'000'000'000;
// Of SteeringPolicy.expires_ns.
constexpr std::uint64_t kNever = 0;
constexpr std::uint64_t kLongAgo = 1;
// A supervisor renews every other second: past a few it is not a supervisor who writes there.
constexpr int kMaxRenewalsInTheWay = 1000;

// The kernel's program reads this memory at any time; a store is whole and in order.
template <class Word>
void store(Word& place, std::type_identity_t<Word> value) {
  std::atomic_ref<Word>(place).store(value, std::memory_order_seq_cst);
}
template <class Word>
Word load(Word& place) {
  return std::atomic_ref<Word>(place).load(std::memory_order_seq_cst);
}

Slot slot_at(std::uint64_t word, int shift) {
  return static_cast<Slot>((word >> shift) & kSlotMask);
}

bool is_slot(Slot slot) {
  return slot < kMaxSlots;
}

Status check(const Roles& roles) {
  for (const Slot slot : {roles.active, roles.candidate, roles.standby})
    if (!is_slot(slot) && slot != kNoSlot)
      return Error(base::Code::internal, "there is no slot " + std::to_string(slot));
  if (roles.weight > kWeightAll)
    return Error(base::Code::internal, "a weight past all connections")
        .expected("at most " + std::to_string(kWeightAll))
        .got(std::to_string(roles.weight));
  if (roles.weight > 0 && roles.candidate == kNoSlot)
    return Error(base::Code::internal, "a weight without a candidate");
  return base::ok();
}

bool is_over(std::uint64_t expires_ns) {
  return expires_ns != kNever && steering_now_ns() >= expires_ns;
}

Error lease_over() {
  return Error(base::Code::timed_out, "the lease of this weight has run out")
      .hint("that is a verdict: set weight 0");
}

// As SteeringProbe.source has it.
std::array<std::uint8_t, 16> wire_source(const Address& address) {
  if (address.family == AF_INET6) return address.ip;
  std::array<std::uint8_t, 16> mapped{};
  mapped[10] = 0xFF;
  mapped[11] = 0xFF;
  std::copy_n(address.ip.begin(), 4, mapped.begin() + 12);
  return mapped;
}

}  // namespace

std::uint64_t steering_now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * kNsPerSecond +
         static_cast<std::uint64_t>(now.tv_nsec);
}

std::uint64_t to_word(const Roles& roles) {
  const std::uint64_t flags = roles.affinity == Affinity::client ? kFlagClientAffinity : 0;
  return std::uint64_t{roles.active} << kActiveShift |
         std::uint64_t{roles.candidate} << kCandidateShift |
         std::uint64_t{roles.standby} << kStandbyShift | flags << kFlagsShift |
         std::uint64_t{roles.weight} << kWeightShift;
}

Roles from_word(std::uint64_t word) {
  Roles roles;
  roles.active = slot_at(word, kActiveShift);
  roles.candidate = slot_at(word, kCandidateShift);
  roles.standby = slot_at(word, kStandbyShift);
  roles.weight = static_cast<std::uint16_t>((word >> kWeightShift) & kWeightMask);
  const bool client = (((word >> kFlagsShift) & kFlagsMask) & kFlagClientAffinity) != 0;
  roles.affinity = client ? Affinity::client : Affinity::connection;
  return roles;
}

Policy::Policy(Policy&& other) noexcept
    : map_(std::move(other.map_)), shared_(std::exchange(other.shared_, nullptr)) {}

Policy& Policy::operator=(Policy&& other) noexcept {
  std::swap(map_, other.map_);
  std::swap(shared_, other.shared_);
  return *this;
}

Policy::~Policy() {
  if (shared_ != nullptr) ::munmap(shared_, sizeof(SteeringPolicy));
}

Result<Policy> Policy::map_memory(UniqueFd map) {
  void* memory =
      ::mmap(nullptr, sizeof(SteeringPolicy), PROT_READ | PROT_WRITE, MAP_SHARED, map.get(), 0);
  if (memory == MAP_FAILED) return base::system_error(errno, "cannot map the steering policy");
  return Policy(std::move(map), static_cast<SteeringPolicy*>(memory));
}

Result<Policy> Policy::create() {
  UPD_ASSIGN(UniqueFd map, create_map(policy_shape()));
  UPD_ASSIGN(Policy policy, map_memory(std::move(map)));
  std::uint64_t tag = 0;
  if (::getrandom(&tag, sizeof tag, 0) != static_cast<ssize_t>(sizeof tag))
    return base::system_error(errno, "cannot get random bytes");
  // complete before any program reads it: none is loaded yet
  store(policy.shared_->word, to_word(Roles{}));
  store(policy.shared_->tag, tag);
  store(policy.shared_->abi, kPolicyAbi);
  return policy;
}

Result<Policy> Policy::from_fd(UniqueFd map, std::uint64_t tag) {
  UPD_TRY(check_map(map.get(), policy_shape()));
  UPD_ASSIGN(Policy policy, map_memory(std::move(map)));
  if (load(policy.shared_->abi) == kPolicyAbi && load(policy.shared_->tag) == tag) return policy;
  return Error(base::Code::damaged, "that steering policy is another one than was recorded")
      .expected("layout " + std::to_string(kPolicyAbi) + ", tag " + std::to_string(tag))
      .got("layout " + std::to_string(load(policy.shared_->abi)) + ", tag " +
           std::to_string(load(policy.shared_->tag)));
}

Result<Policy> Policy::reopen(const PolicyIds& ids) {
  UPD_ASSIGN(UniqueFd map, map_by_id(ids.map, policy_shape()));
  return from_fd(std::move(map), ids.tag);
}

Result<PolicyIds> Policy::ids() const {
  UPD_ASSIGN(const std::uint32_t id, map_id(map_.get()));
  return PolicyIds{id, load(shared_->tag)};
}

Status Policy::set(const Roles& roles, std::uint64_t expires_ns) {
  UPD_TRY(check(roles));
  const Roles before = this->roles();
  if (roles.weight == 0) {
    // first who, so that no reader sees a weight that had ended under an expiry that is new
    store(shared_->word, to_word(roles));
    store(shared_->expires_ns, expires_ns);
    return base::ok();
  }
  const std::uint64_t runs_until = this->expires_ns();
  if (before.weight > 0 && is_over(runs_until)) return lease_over();
  if (before.weight > 0 && before.candidate == roles.candidate) {
    UPD_TRY(extend(runs_until, expires_ns));
  } else {
    if (before.weight > 0) {
      // the new expiry is not for the candidate that was
      Roles between = roles;
      between.weight = 0;
      store(shared_->word, to_word(between));
    }
    store(shared_->expires_ns, expires_ns);
  }
  store(shared_->word, to_word(roles));
  return base::ok();
}

Status Policy::renew(std::uint64_t expires_ns) {
  std::uint64_t before = this->expires_ns();
  if (roles().weight > 0 && is_over(before)) return lease_over();
  return extend(before, expires_ns);
}

// Whoever ended it meanwhile has the last word.
Status Policy::extend(std::uint64_t before, std::uint64_t expires_ns) {
  __u64 seen = before;
  if (std::atomic_ref<__u64>(shared_->expires_ns).compare_exchange_strong(seen, expires_ns))
    return base::ok();
  return lease_over();
}

void Policy::end_lease(std::uint64_t salt) {
  const std::atomic_ref<__u64> end(shared_->expires_ns);
  for (int i = 0; i < kMaxRenewalsInTheWay; ++i) {
    // In this order: while the salt is ours, so is the end that was read before. The next
    // deployment sets another one before its salt, and then the exchange fails.
    __u64 before = end.load();
    if (before == kNever || this->salt() != salt) return;
    if (end.compare_exchange_strong(before, kLongAgo)) return;
  }
}

Status Policy::set_salt(std::uint64_t salt) {
  if (roles().weight > 0)
    return Error(base::Code::internal, "the salt can't change while a candidate has a weight");
  store(shared_->salt, salt);
  for (__u32& bucket : shared_->clients) store(bucket, 0);
  return base::ok();
}

ClientSpread Policy::clients() const {
  std::array<std::uint32_t, kClientBuckets> counts{};
  ClientSpread spread;
  for (std::size_t i = 0; i < counts.size(); ++i)
    spread.connections += counts[i] = load(shared_->clients[i]);
  std::partial_sort(counts.begin(), counts.begin() + kBusiest, counts.end(), std::greater<>());
  for (std::size_t i = 0; i < kBusiest; ++i) spread.of_the_busiest += counts[i];
  return spread;
}

Roles Policy::roles() const {
  return from_word(load(shared_->word));
}

std::uint64_t Policy::expires_ns() const {
  return load(shared_->expires_ns);
}

std::uint64_t Policy::salt() const {
  return load(shared_->salt);
}

bool Policy::lease_is_over() const {
  return is_over(expires_ns());
}

std::uint16_t Policy::effective_weight() const {
  return lease_is_over() ? std::uint16_t{0} : roles().weight;
}

Result<unsigned> Policy::enter_probe(const Address& source, Slot slot, std::uint64_t expires_ns) {
  if (!source.is_inet() || source.is_wildcard() || source.port == 0 || !is_slot(slot))
    return Error(base::Code::internal, "a probe needs an address, a port and a slot")
        .got(source.text() + " to slot " + std::to_string(slot));
  const __u32 entered = load(shared_->probes_entered);
  for (unsigned i = 0; i < kMaxProbes; ++i) {
    SteeringProbe& probe = shared_->probes[i];
    // whoever entered it may have died: past its time it steers nobody
    const bool over = load(probe.expires_ns) <= steering_now_ns();
    if ((entered & 1U << i) != 0 && !over) continue;
    const auto bytes = wire_source(source);
    static_assert(sizeof probe.source == sizeof bytes);
    std::memcpy(probe.source, bytes.data(), bytes.size());
    store(probe.expires_ns, expires_ns);
    probe.serial = (probe.serial + 1) & kSlotMask;
    store(probe.match, std::uint32_t{source.port} << kProbePortShift |
                           std::uint32_t{slot} << kProbeSlotShift | probe.serial);
    store(shared_->probes_entered, entered | 1U << i);
    return i | probe.serial << kProbeSerialShift;
  }
  return Error(base::Code::busy,
               "all " + std::to_string(kMaxProbes) + " places for probes are taken");
}

// One that comes late finds its place given to somebody else.
void Policy::clear_probe(unsigned entry) {
  const unsigned index = entry & kProbeIndexMask;
  if (index >= kMaxProbes || shared_->probes[index].serial != entry >> kProbeSerialShift) return;
  free_probe(index);
}

void Policy::free_probe(unsigned index) {
  store(shared_->probes_entered, load(shared_->probes_entered) & ~(1U << index));
  store(shared_->probes[index].match, 0);
}

}  // namespace updagent::listen
