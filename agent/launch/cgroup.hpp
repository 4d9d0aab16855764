// One cgroup (version 2) for each generation of an app: who is in it is the kernel's knowledge, so
// that daemons which fork twice are found, and cgroup.kill ends all of them at once.
//
//   BASE/                 the unit's own cgroup under systemd (Delegate=yes), else a folder of ours
//   BASE/supervisor       the supervisor itself
//   BASE/generation-7     everything that generation 7 started
//
// What this can't hold: a service with root's powers can move itself out, or make cgroups of its
// own below (those are ended and removed with it).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/launch/cgroup_support.hpp"

namespace updagent::launch {

// Cgroups of its own that a service may have made below its generation's: deeper or more is left.
inline constexpr int kMaxCgroupDepth = 32;
inline constexpr std::size_t kMaxSubCgroups = 4096;

struct CgroupUsage {                          // each only where the kernel or a controller gives it
  std::optional<std::uint64_t> memory_bytes;  // memory.current without what can be dropped
  std::optional<std::uint64_t> memory_peak_bytes;  // memory.peak, Linux 5.19
  std::optional<std::uint64_t> cpu_us;             // cpu.stat, needs no controller
  std::optional<std::uint64_t> oom_kills;          // memory.events
};

class GenerationCgroup {
 public:
  const std::string& folder() const { return folder_; }
  int directory_fd() const { return directory_.get(); }  // for ServiceSpec::cgroup_fd

  // Readable (also in a nested epoll) when the cgroup became empty or stopped being so.
  int event_fd() const { return events_.get(); }
  // Takes the event; true while a living process is in it or below.
  base::Result<bool> on_event() { return populated(); }
  base::Result<bool> populated() const;

  // SIGKILL to everything in it and below, also to what is being forked just now. Non-blocking: the
  // event tells when they are gone. Before Linux 5.14 by kill_each().
  base::Status kill();
  // Without cgroup.kill: frozen, so that nobody forks meanwhile, then killed one by one.
  base::Status kill_each();
  // Living and dead-but-unreaped processes in it and below, as this pid namespace numbers them.
  base::Result<std::vector<pid_t>> processes() const;
  bool contains(pid_t pid) const;
  // By the number that the kernel gives cgroups (pidfd_info, SO_PASSPIDFD's senders): it or one
  // below that still exists.
  bool is_or_holds(std::uint64_t cgroup_id) const;
  CgroupUsage usage() const;

  // rmdir(2), with all that is below. False: a process is still in it, wait for the event and call
  // again. Gone already is true.
  base::Result<bool> remove();
  // kill() and remove(), waiting for the event at most `patience` in all. False: it would not die.
  base::Result<bool> end(base::Milliseconds patience);

 private:
  friend class CgroupTree;
  GenerationCgroup(std::string folder, CgroupMount mount, base::UniqueFd directory,
                   base::UniqueFd events_file, base::UniqueFd events);

  std::string folder_;
  CgroupMount mount_;
  base::UniqueFd directory_;
  base::UniqueFd events_file_;  // cgroup.events
  base::UniqueFd events_;       // an epoll over it: a plain descriptor that gets readable
};

struct CgroupSweep {
  std::vector<std::string> removed;  // names
  std::vector<std::string> left;     // would not die within the patience, or not be removed
};

class CgroupTree {
 public:
  // `base_folder` (absolute, no '/' at its end) is made when it is not there.
  static base::Result<CgroupTree> open(const std::string& base_folder);

  const std::string& folder() const { return folder_; }

  // This process into BASE/supervisor, so that BASE has no process of its own.
  base::Status move_in_supervisor();
  // memory.current and memory.events for generations: turns the memory controller on for the
  // children of BASE, and of the folder that BASE is in. False: it is not there. Never in a unit's
  // own cgroup: systemd could not put the next supervisor into it while a generation lives (EBUSY,
  // status 219/CGROUP), and Restart=always would be void.
  base::Result<bool> enable_memory_figures();

  base::Result<GenerationCgroup> make(std::uint64_t generation);  // one that is there is taken
  base::Result<GenerationCgroup> find(std::uint64_t generation);  // Code::not_found
  // Ends what is left of generations that are not in `living`; at most `patience` in all.
  base::Result<CgroupSweep> sweep(const std::set<std::uint64_t>& living,
                                  base::Milliseconds patience);

 private:
  CgroupTree(std::string folder, CgroupMount mount)
      : folder_(std::move(folder)), mount_(std::move(mount)) {}
  base::Result<GenerationCgroup> open_generation(const std::string& name);

  std::string folder_;
  CgroupMount mount_;
};

}  // namespace updagent::launch
