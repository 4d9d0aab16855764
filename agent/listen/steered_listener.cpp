#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/listen/bpf_maps.hpp"
#include "agent/listen/steer_program.hpp"
#include "agent/listen/steering.hpp"

namespace updagent::listen {
namespace {

using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

// The kernel frees the maps of a detached program in the background, within milliseconds; until
// then their sockets can't be in other slots.
constexpr base::Milliseconds kOldMapsGone{2'000};
constexpr timespec kLookAgain = {0, 1'000'000};
constexpr timespec kSettle = {0, kSettleTime.count() * 1'000'000};

std::string name_of(Slot slot) {
  return "slot " + std::to_string(slot);
}

void sum_up(SteeringCounters& sum, const SteeringCounters& one) {
  sum.selected += one.selected;
  sum.probes += one.probes;
  sum.fallback += one.fallback;
  sum.migrated += one.migrated;
  sum.critical += one.critical;
}

bool has(const std::vector<std::uint32_t>& ids, std::uint32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Result<SteeredListener> SteeredListener::create(const Policy& policy) {
  SteeredListener listener;
  UPD_ASSIGN(listener.policy_, duplicate_fd(policy.map_fd()));
  UPD_ASSIGN(listener.slots_, create_map(slots_shape()));
  UPD_ASSIGN(listener.counters_, create_map(counters_shape()));
  return listener;
}

Result<SteeredListener> SteeredListener::reopen(const Policy& policy, const SteeredIds& ids) {
  SteeredListener listener;
  UPD_ASSIGN(listener.policy_, duplicate_fd(policy.map_fd()));
  UPD_ASSIGN(const std::uint32_t policy_id, map_id(policy.map_fd()));
  UPD_ASSIGN(const std::vector<std::uint32_t> used, maps_of_program(ids.program));
  if (used.empty())
    return Error(base::Code::not_found, "the recorded steering program is not loaded any more");
  if (!has(used, policy_id) || !has(used, ids.slots) || !has(used, ids.counters))
    return Error(base::Code::damaged, "the recorded program id names a program of someone else")
        .expected("one that uses the maps " + std::to_string(policy_id) + ", " +
                  std::to_string(ids.slots) + " and " + std::to_string(ids.counters));
  UPD_ASSIGN(listener.slots_, map_by_id(ids.slots, slots_shape()));
  UPD_ASSIGN(listener.counters_, map_by_id(ids.counters, counters_shape()));
  listener.program_ = ids.program;
  return listener;
}

Result<SteeredIds> SteeredListener::ids() const {
  SteeredIds ids;
  ids.program = program_;
  UPD_ASSIGN(ids.slots, map_id(slots_.get()));
  UPD_ASSIGN(ids.counters, map_id(counters_.get()));
  return ids;
}

Result<UniqueFd> SteeredListener::load() const {
  return load_steer_program({policy_.get(), slots_.get(), counters_.get()});
}

// The caller's descriptor of the program ends soon: from then on only the group holds it, see
// attached().
Status SteeredListener::attach(int socket_fd, const UniqueFd& program) {
  UPD_TRY(attach_steer_program(socket_fd, program.get()));
  UPD_ASSIGN(program_, program_id(program.get()));
  return base::ok();
}

Result<UniqueFd> SteeredListener::open(const ListenerSpec& spec, Slot slot) {
  UPD_ASSIGN(const bool joins, any_member());
  BeforeBind before_bind;
  UniqueFd program;
  if (joins) {
    UPD_ASSIGN(const bool has_program, attached());
    if (!has_program) UPD_TRY(reattach(spec));
  } else {
    // a socket with a program of its own can't join others: bind(2) refuses if there are any
    UPD_ASSIGN(program, load());
    before_bind = [&](int fd) { return attach(fd, program); };
  }
  UPD_ASSIGN(UniqueFd fd, open_socket(spec, before_bind));
  UPD_TRY_CONTEXT(add(slot, fd.get()), spec.name);
  return fd;
}

Status SteeredListener::add(Slot slot, int fd) {
  if (slot >= kMaxSlots) return Error(base::Code::internal, "there is no " + name_of(slot));
  UPD_TRY(lock_filter(fd));
  const std::uint32_t key = slot;
  const auto value = static_cast<std::uint64_t>(fd);
  const auto deadline = base::Deadline::in(kOldMapsGone);
  for (;;) {
    if (::bpf_map_update_elem(slots_.get(), &key, &value, BPF_NOEXIST) == 0) return base::ok();
    if (errno != EBUSY || deadline.passed()) break;
    ::nanosleep(&kLookAgain, nullptr);
  }
  Error error = base::system_error(errno, "cannot put a socket into " + name_of(slot));
  if (errno == EEXIST) error = std::move(error).hint("the generation before it still listens");
  if (errno == EBUSY) error = std::move(error).hint("the socket is in another listener's slots");
  return error;
}

Status SteeredListener::remove(Slot slot) {
  const std::uint32_t key = slot;
  if (::bpf_map_delete_elem(slots_.get(), &key) == 0 || errno == ENOENT) return base::ok();
  return base::system_error(errno, "cannot empty " + name_of(slot));
}

Result<std::optional<std::uint64_t>> SteeredListener::cookie(Slot slot) const {
  const std::uint32_t key = slot;
  std::uint64_t value = 0;
  if (::bpf_map_lookup_elem(slots_.get(), &key, &value) == 0) return std::optional(value);
  if (errno == ENOENT) return std::optional<std::uint64_t>();
  return base::system_error(errno, "cannot look into " + name_of(slot));
}

Result<bool> SteeredListener::any_member() const {
  for (Slot slot = 0; slot < kMaxSlots; ++slot) {
    UPD_ASSIGN(const auto socket, cookie(slot));
    if (socket) return true;
  }
  return false;
}

Result<bool> SteeredListener::attached() const {
  return program_exists(program_);
}

Status SteeredListener::reattach(const ListenerSpec& spec, const std::vector<Member>& members) {
  UPD_ASSIGN(const UniqueFd program, load());
  // listens for a moment; without a lock of its own it may attach
  UPD_ASSIGN(const UniqueFd passing, open_socket(spec));
  UPD_TRY_CONTEXT(attach(passing.get(), program), spec.name);
  for (const Member& member : members) UPD_TRY_CONTEXT(add(member.slot, member.fd), spec.name);
  // handshakes that began at it end first, see shut_down()
  if (spec.address.transport == Transport::tcp) ::nanosleep(&kSettle, nullptr);
  return base::ok();
}

Result<SlotCounters> SteeredListener::counters() const {
  const int cpus = ::libbpf_num_possible_cpus();
  if (cpus <= 0) return base::system_error(-cpus, "cannot count the processors");
  std::vector<SteeringCounters> per_cpu(static_cast<std::size_t>(cpus));
  SlotCounters sums{};
  for (std::uint32_t row = 0; row < sums.size(); ++row) {
    if (::bpf_map_lookup_elem(counters_.get(), &row, per_cpu.data()) != 0)
      return base::system_error(errno, "cannot read the counters of steering");
    for (const SteeringCounters& one : per_cpu) sum_up(sums[row], one);
  }
  return sums;
}

Status shut_down(int fd) {
  if (::shutdown(fd, SHUT_RDWR) == 0) return base::ok();
  return base::system_error(errno, "cannot shut a listening socket down");
}

}  // namespace updagent::listen
