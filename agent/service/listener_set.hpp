// Every address of the app with its sockets, over all generations.
//
// Steered tcp and udp listeners give each generation a socket at its slot; a unix path gives it a
// path, and the public name says who serves; where neither can be had (abstract unix names, and all
// of tcp and udp in the shared mechanism) there is one socket that every generation gets.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/strict_json.hpp"
#include "agent/listen/diag.hpp"
#include "agent/listen/mechanism.hpp"
#include "agent/listen/steering.hpp"
#include "agent/release/resolved_service.hpp"
#include "agent/service/generation.hpp"

namespace updagent::service {

class ListenerSet {
 public:
  // `policy` is null in the shared mechanism, else it outlives the set.
  explicit ListenerSet(listen::Policy* policy) : policy_(policy) {}

  // Fresh sockets for a generation, in the order of its listeners. On error nothing is left of it.
  base::Result<std::vector<OwnSocket>> open(const release::ResolvedService& run,
                                            std::uint64_t generation, listen::Slot slot);
  // Unix paths: the public names are this generation's from now on. One that fails holds up none.
  base::Status publish(const Generation& generation);
  // The generation has stopped accepting: what waits in its queues goes to the active one, its
  // addresses go when nobody else has them.
  void retire(const Generation& generation);
  // Whether new connections can reach it at all its addresses: a service may have shut a listener
  // down, and then they go to another generation, whose good answers would be taken for its own.
  base::Status reachable(const Generation& generation) const;
  // Of the active generation, and before another start: a tcp socket that its process has shut down
  // listens again, at its slot. Without this everybody would be refused for ever. Returns where.
  base::Result<std::vector<std::string>> listen_again(const Generation& generation);
  // A unix path that the generation has shut down can't listen again: an error that says so, and
  // before another start a fresh socket in its place (true; its names are to be published again).
  base::Status check_paths(const Generation& generation) const;
  base::Result<bool> open_again(Generation& generation);
  // Connections that wait at the generation's sockets, and how many may.
  listen::AcceptQueue queues(const Generation& generation) const;
  unsigned waiting(const Generation& generation) const { return queues(generation).waiting; }
  // A server's own socket becomes a member (`updagent adopt`).
  base::Status take_over(const listen::ListenerSpec& spec, int fd, listen::Slot slot,
                         std::uint64_t generation);

  // One of its sockets is everybody's: it gets new connections for as long as it accepts.
  bool shares(const Generation& generation) const;

  // The socket of its listener is another generation's as well.
  bool is_shared_with_others(const Generation& generation, std::size_t listener) const;

  // The program must be there; where somebody detached it, it is attached again. Returns the
  // listeners that had lost it, and whether they have it now.
  std::vector<std::pair<std::string, base::Status>> check();

  // Sockets at our tcp and udp addresses that are not among `own` and that the kernel takes for
  // members of our groups: they get connections, steered when the program does not choose, shared
  // always. A walk through /proc when there are any.
  std::vector<listen::PortHolder> strangers(const listen::InodeSet& own) const;
  // An error when the generation's processes listen at its addresses with sockets of their own
  // beside those that all were given (`given`): no connection is ever steered to those.
  base::Status check_own_sockets(const Generation& generation, const listen::InodeSet& given) const;

  // The addresses where this generation can be reached.
  std::vector<listen::Address> addresses(const Generation& generation) const;
  // What its sockets are bound to, for connections_of(): of a unix path not always the same.
  std::vector<listen::Address> bound_addresses(const Generation& generation) const;
  // The same by name, for whoever wants to ask this generation: name, address, proxy_protocol.
  base::Json described(const Generation& generation) const;
  // What new connections chose, by slot, over all listeners.
  listen::SlotCounters counters() const;

  base::Json to_json() const;
  // In a successor: listeners by their ids; `sockets` are the generations' by their names. What
  // can't be found again is made anew and reattached with what is left.
  base::Status adopt(const base::Json& state, const std::vector<const Generation*>& generations,
                     std::map<std::string, base::UniqueFd>& held);
  // Names under which the holder has the sockets that no single generation owns.
  std::map<std::string, int> shared_sockets() const;
  // Of those, the names at this generation's addresses that nobody uses any more: the holder is to
  // let go of them, or the addresses would stay taken.
  std::vector<std::string> no_longer_shared(const Generation& generation) const;

 private:
  struct Entry {
    listen::ListenerSpec spec;
    std::optional<listen::SteeredListener> steered;
    base::UniqueFd shared;  // the one socket of all
    std::set<std::uint64_t> users;
  };
  static base::Result<listen::ListenerSpec> spec_of(const release::Listener& listener,
                                                    const release::ResolvedService& run);
  static std::string key_of(const listen::ListenerSpec& spec);
  base::Result<base::UniqueFd> open_one(Entry& entry, const listen::ListenerSpec& spec,
                                        std::uint64_t generation, listen::Slot slot);
  listen::InodeSet shared_inodes() const;
  static bool is_in_place(const Entry& entry, listen::Slot slot);
  void forget_unused();
  static void empty_other_slots(listen::SteeredListener& listener,
                                const std::vector<const Generation*>& generations);
  std::vector<listen::Member> members_of(const Entry& entry,
                                         const std::vector<const Generation*>& generations) const;
  Entry* entry_of(const Generation& generation, std::size_t index);
  const Entry* entry_of(const Generation& generation, std::size_t index) const;

  listen::Policy* policy_;
  std::map<std::string, Entry> entries_;  // by address
};

}  // namespace updagent::service
