// The processes without a listener ([[worker]]) of the committed release. Of two releases never
// both run: the old ones get their stop signal, and when no process of theirs is left the new ones
// start. A successor finds the same rule in the state, whatever had been done of it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/strict_json.hpp"
#include "agent/launch/output_bound.hpp"
#include "agent/service/crashes.hpp"
#include "agent/service/generation.hpp"

namespace updagent::service {

// Past its stop_timeout, which ends with SIGKILL: whoever lives then hangs in the kernel, or has
// asked for more time. That others wait for it is said.
inline constexpr base::Milliseconds kUnkillable{5'000};

// What a set of workers needs of its supervisor. None of them may call back into the set, but
// `gone`.
struct WorkerHost {
  std::function<std::uint64_t()> next_number;  // of the same row as generations have
  std::function<void()> save;                  // the state, with to_json() in it
  std::function<void(std::string_view name, std::string_view status, const Generation*, base::Json)>
      event;
  std::function<void(const Generation&, const base::Error&)> failed;
  std::function<void(const Generation&, int crashes)> crash_loop;
  std::function<void(const Generation&, const std::string&)> complaint;
  std::function<void(const std::vector<std::uint64_t>& numbers)> gone;  // out of the set
};

// The service of a release with a worker of it in the place of the main process: the same user,
// groups, limits and environment, but nothing of sockets.
release::ResolvedService worker_run(const release::ResolvedService& run,
                                    const release::Worker& worker);

class WorkerSet {
 public:
  // All of them outlive the set; `cgroups` may be null.
  WorkerSet(Loop& loop, const Places& places, launch::CgroupTree* cgroups,
            launch::OutputBound& outputs, WorkerHost host);
  WorkerSet(const WorkerSet&) = delete;
  WorkerSet& operator=(const WorkerSet&) = delete;
  // Leaves the processes alone: they outlive their supervisor.
  ~WorkerSet();

  // Those of this release, and of this start of it, from now on: also when it is the same one.
  void switch_to(const release::ResolvedService& run);
  // The same, unless they are wanted already.
  void keep(const release::ResolvedService& run);
  void stop_all();

  bool empty() const { return members_.empty(); }
  // The longest that a stop_all() takes unless something asks for more time.
  base::Milliseconds patience() const;
  // Nothing is half done that execve(2) would lose.
  bool can_be_kept() const;
  // [{"name","version","pid","state","starts","since_us"}]
  base::Json status() const;

  // succession
  base::Json to_json() const;
  // Whether this program can take over what to_json() of another one wrote.
  static base::Status check(const base::Json& state);
  // Those that still live go on. What follows from the rest is done from the loop.
  // `notify_socket` gives the one that was kept of a number, or an empty one.
  base::Status take_over(const base::Json& state,
                         const std::function<base::UniqueFd(std::uint64_t)>& notify_socket);
  std::set<std::uint64_t> numbers() const;
  std::map<std::uint64_t, int> notify_sockets() const;

 private:
  using Release = std::shared_ptr<const release::ResolvedService>;
  struct Member {
    Release release;
    std::unique_ptr<Generation> process;
    Crashes crashes;
    Watch timer;  // its restart
  };

  Member& make(const Release& release, const release::Worker& worker, std::uint64_t number);
  base::Status take_over_one(const base::Json& state, const Release& release,
                             base::UniqueFd notify_socket);
  static void settle(Generation& process, bool known, const base::Status& adopted);
  GenerationEvents events();
  void want(Release release);
  void reconcile();
  void end(Member& member);
  bool waits_for_old() const;
  void say_who_hangs();
  bool has(const std::string& worker) const;
  void start(Member& member);
  base::Status try_start(Generation& process);
  void restart_later(std::uint64_t number);
  void on_gone(Generation& process);
  void sweep();

  Loop& loop_;
  Places places_;
  launch::CgroupTree* cgroups_;
  launch::OutputBound& outputs_;
  WorkerHost host_;
  Release wanted_;  // null: none are to run
  std::int64_t wanted_since_us_ = 0;
  std::map<std::uint64_t, Member> members_;  // by number
  Watch sweep_;
  Watch hanging_;  // armed while old ones are waited for, once
};

}  // namespace updagent::service
