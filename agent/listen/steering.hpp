// Who gets new connections.
//
// A Policy is one page of memory that the kernel's program reads for every new connection to any
// listener of the app: shifting traffic and rolling back are stores to it. A SteeredListener is one
// address of the app with the sockets of all generations, each at the slot of its generation.
//
// Both live in the kernel as long as one socket of the app does, whoever made them: when the
// supervisor dies the steering goes on, and the next one takes both back by their recorded ids.
// There is no member of the socket group that only the supervisor holds: it would have to listen
// without ever accepting, and were the program gone, the kernel's hash would lose connections in
// it. New sockets inherit the group's program; should someone have detached it, a passing member
// attaches it again and whatever came to that member meanwhile migrates when it goes.
//
// One writer (the supervisor), but for end_lease(). Nothing here blocks but add() and reattach(),
// see there.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/listen/listener.hpp"
#include "agent/listen/policy.h"

namespace updagent::listen {

using Slot = std::uint8_t;  // 0..kMaxSlots-1, or kNoSlot

// CLOCK_MONOTONIC in nanoseconds: the clock of leases, because the program has no other. (Not
// base::monotonic_now_us, which counts sleep.)
std::uint64_t steering_now_ns();

enum class Affinity { connection, client };

struct Roles {
  Slot active = kNoSlot;
  Slot candidate = kNoSlot;
  Slot standby = kNoSlot;
  std::uint16_t weight = 0;  // of kWeightAll new connections, to the candidate
  Affinity affinity = Affinity::connection;

  bool operator==(const Roles&) const = default;
};
std::uint64_t to_word(const Roles& roles);
Roles from_word(std::uint64_t word);

// What finds a policy again in this boot. The tag is random: an id alone can name another's map.
struct PolicyIds {
  std::uint32_t map = 0;
  std::uint64_t tag = 0;
};

// Whether a few addresses carry most connections: then shares by client can't follow the weight.
// Since set_salt(), and only while affinity is by client. Addresses that hash alike count as one.
struct ClientSpread {
  std::uint64_t connections = 0;
  std::uint64_t of_the_busiest = 0;  // of the kBusiest addresses with most
};
inline constexpr std::size_t kBusiest = 10;

class Policy {
 public:
  static base::Result<Policy> create();
  // Code::not_found when it is gone (the last socket was closed), Code::damaged when the map is not
  // what was recorded: then nothing was mapped or changed.
  static base::Result<Policy> reopen(const PolicyIds& ids);
  static base::Result<Policy> from_fd(base::UniqueFd map, std::uint64_t tag);
  Policy(Policy&& other) noexcept;
  Policy& operator=(Policy&& other) noexcept;
  ~Policy();  // unmaps; the map itself lives on with the listeners

  base::Result<PolicyIds> ids() const;
  int map_fd() const { return map_.get(); }

  // Takes effect in all listeners at once. `expires_ns` on steering_now_ns(): from then on the
  // weight counts as 0; 0 is never. A weight whose lease has run out is not given a new one
  // (Code::timed_out): the way on leads over weight 0.
  base::Status set(const Roles& roles, std::uint64_t expires_ns);
  // A later end for the lease that runs; Code::timed_out when it has run out.
  base::Status renew(std::uint64_t expires_ns);
  // The weight counts as 0 from the next connection on, as if its lease had run out: nobody has to
  // be scheduled for that, so whoever judges a candidate does it at the verdict and tells the
  // supervisor then. Any process that has the map may. Only of the deployment that was given this
  // salt (a driver that slept must not end the lease of the next one); else, and where no lease
  // runs, nothing happens.
  void end_lease(std::uint64_t salt);
  // Per deployment; refused while a weight is set, as it would move clients. Clients are counted
  // anew from then on.
  base::Status set_salt(std::uint64_t salt);

  Roles roles() const;
  std::uint64_t expires_ns() const;
  std::uint64_t salt() const;
  ClientSpread clients() const;
  // The weight in force: 0 once the lease has run out.
  std::uint16_t effective_weight() const;

  // Connections from exactly `source` (what the probe's socket is bound to: one address and port)
  // go to `slot`, until the entry is cleared or expires; while that slot has no socket they are
  // refused. Code::busy when kMaxProbes are entered that have not expired.
  base::Result<unsigned> enter_probe(const Address& source, Slot slot, std::uint64_t expires_ns);
  void clear_probe(unsigned entry);

 private:
  Policy(base::UniqueFd map, SteeringPolicy* shared) : map_(std::move(map)), shared_(shared) {}
  static base::Result<Policy> map_memory(base::UniqueFd map);
  bool lease_is_over() const;
  base::Status extend(std::uint64_t before, std::uint64_t expires_ns);
  void free_probe(unsigned index);
  base::UniqueFd map_;
  SteeringPolicy* shared_ = nullptr;
};

// What a successor needs, together with PolicyIds; valid for this boot.
struct SteeredIds {
  std::uint32_t program = 0;
  std::uint32_t slots = 0;
  std::uint32_t counters = 0;
};

struct Member {
  Slot slot = kNoSlot;
  int fd = -1;
};

using SlotCounters = std::array<SteeringCounters, kCounterRows>;

class SteeredListener {
 public:
  // No socket yet; tcp or udp.
  static base::Result<SteeredListener> create(const Policy& policy);
  // The same listener in another process. Code::not_found when its program or a map of it is gone:
  // then create() anew and reattach() with every socket that is left.
  static base::Result<SteeredListener> reopen(const Policy& policy, const SteeredIds& ids);

  base::Result<SteeredIds> ids()
      const;  // the program changes with the first open() and with reattach()

  // A fresh socket for the generation in `slot`, steered and locked. The first one of a listener
  // founds the group and is refused when anybody else is at the address, our own user included. The
  // later ones need the port that it got, if it asked for port 0.
  base::Result<base::UniqueFd> open(const ListenerSpec& spec, Slot slot);
  // A member of the group gets the slot, and is locked. Waits up to two seconds while the maps of a
  // detached program that had it are not gone yet.
  base::Status add(Slot slot, int fd);
  // The slot is empty afterwards; empty before is fine. The socket stays as it is.
  base::Status remove(Slot slot);
  // SO_COOKIE of the socket in the slot.
  base::Result<std::optional<std::uint64_t>> cookie(Slot slot) const;
  base::Result<bool> any_member() const;

  // Whether the kernel still runs the program: nobody but the group holds it, so it exists as long
  // as it is attached. (While a BPF tool looks at it, it exists a little longer; so it does after
  // the last socket was closed.)
  base::Result<bool> attached() const;
  // Gives the sockets at the address our program; replaces what else is attached. `members` have no
  // slot here yet: an adopted socket (with SO_REUSEPORT set; name its slot active before), or all
  // that are left after the maps were lost. Connections that came while there was no program may
  // have gone to any generation. Takes kSettleTime.
  base::Status reattach(const ListenerSpec& spec, const std::vector<Member>& members = {});

  base::Result<SlotCounters> counters() const;

 private:
  SteeredListener() = default;
  base::Result<base::UniqueFd> load() const;
  base::Status attach(int socket_fd, const base::UniqueFd& program);
  base::UniqueFd policy_;
  base::UniqueFd slots_;
  base::UniqueFd counters_;
  std::uint32_t program_ = 0;
};

// Between a change of roles and shut_down(): handshakes that began before are over then, but for
// those of distant clients.
inline constexpr base::Milliseconds kSettleTime{20};

// Ends a tcp socket for all who hold it, and empties its slot: what waits in its accept queue and
// what is half open goes to the active generation. A handshake whose last packet is being handled
// in that very instant is reset by the kernel (14 times in 12,000 handoffs under full load without
// a pause before, never with one of 0.1 ms): so give the roles to others first and let kSettleTime
// pass. (Of udp: remove() the slot and close.)
base::Status shut_down(int fd);

}  // namespace updagent::listen
