// One generation: the process tree of one release, from its start to its last process. It knows
// nothing of traffic: which generation gets connections is the supervisor's business.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/identity.hpp"
#include "agent/base/strict_json.hpp"
#include "agent/launch/cgroup.hpp"
#include "agent/launch/fd_store.hpp"
#include "agent/launch/inject.hpp"
#include "agent/launch/notify_server.hpp"
#include "agent/launch/process_family.hpp"
#include "agent/launch/process_watch.hpp"
#include "agent/launch/service_start.hpp"
#include "agent/listen/listener.hpp"
#include "agent/listen/steering.hpp"
#include "agent/release/resolved_service.hpp"
#include "agent/service/loop.hpp"
#include "agent/service/places.hpp"

namespace updagent::service {

enum class Life {
  starting,  // until it is ready
  ready,
  stopping,  // told to stop
  down,      // its main process is gone; the supervisor decides what follows
  gone,      // no process of it is left
};
std::string_view life_name(Life life);

enum class Role { candidate, active, standby, draining };
std::string_view role_name(Role role);

// The candidate dies before the one that serves when memory ends.
inline constexpr int kCandidateOomScore = 200;

// A socket of the generation; the listener's order in the release. Empty only in a successor, of a
// generation that ends (succession.cpp).
struct OwnSocket {
  std::string listener;
  base::UniqueFd fd;
};

struct GenerationPlan {
  std::uint64_t number = 0;
  listen::Slot slot = 0;
  release::ResolvedService run;
  std::vector<OwnSocket> sockets;
  // A service that updagent did not start: nobody can start it again, and it knows nothing of us.
  bool adopted = false;
  // Of a process without listeners (workers.hpp): its name; it has no slot. "": a generation.
  std::string worker;
};

// What a predecessor kept for us; an empty one is lost or never was.
struct Inherited {
  base::UniqueFd notify_socket;  // with what waits in it; else it is bound again
  base::UniqueFd inject_notify;
  base::UniqueFd inject_journal;
};

class Generation;
// Called from the loop. None of them may destroy the generation it is called with.
struct GenerationEvents {
  std::function<void(Generation&)> ready;
  // It did not come up, hung (watchdog), or its main process ended though nobody asked.
  std::function<void(Generation&, const base::Error&)> failed;
  std::function<void(Generation&)> gone;
  std::function<void(Generation&)> changed;      // status text, main pid, store: worth persisting
  std::function<void(Generation&)> before_kill;  // what lives now won't in a moment
  std::function<void(Generation&, const std::string&)> complaint;  // for the log
};

class Generation {
 public:
  // `cgroups` may be null. What it says goes through `events`.
  Generation(Loop& loop, const Places& places, launch::CgroupTree* cgroups, GenerationPlan plan,
             GenerationEvents events);
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;
  // Leaves the processes alone: they outlive their supervisor.
  ~Generation();

  // Prepares folders, environment and filter and starts the command. An error: nothing was started.
  // `stored`: the FDSTORE of the generation before (may be null).
  base::Status start(const launch::FdStore* stored, int oom_score);
  // A process that a predecessor started, as the state file has it.
  base::Status adopt(const base::Json& state, launch::FdStore* stored, Inherited inherited);
  // A process that updagent did not start at all (`updagent adopt`).
  base::Status take_over(launch::ProcessWatch process);

  // What its processes said while no supervisor lived. After adopt(), before the loop runs: what is
  // heard so was in time.
  void hear_earlier(std::vector<launch::NotifyDatagram> earlier);

  // It could not be adopted: its main process died with nobody watching.
  void lost(const base::Error& why) { fail(why); }
  // For Ready::listening and Ready::probe: whoever looked says so.
  void mark_ready();
  // Where that is another one than its role file says, a service that is ready gets its
  // role_signal.
  void set_role(Role role);
  // Of the deployment that it belongs to: which brought it, then which replaced it.
  void set_trace(std::string trace_id) { trace_id_ = std::move(trace_id); }
  const std::string& trace_id() const { return trace_id_; }
  // From the first call on its drain_timeout runs, also over supervisors.
  void begin_drain();
  // The stop signal, then after stop_timeout and `more` SIGKILL to all. `immediately`: SIGKILL at
  // once.
  void stop(bool immediately, base::Milliseconds more = base::Milliseconds(0));

  const GenerationPlan& plan() const { return plan_; }
  std::uint64_t number() const { return plan_.number; }
  listen::Slot slot() const { return plan_.slot; }
  const std::string& version() const { return plan_.run.version; }
  Life life() const { return life_; }
  Role role() const { return role_; }
  pid_t main_pid() const { return process_ ? process_->pid() : 0; }
  const launch::ProcessWatch* process() const { return process_ ? &*process_ : nullptr; }
  const std::string& status_text() const { return status_text_; }
  std::int64_t since_us() const { return since_us_; }
  std::int64_t drain_due_us() const { return drain_due_us_; }  // monotonic clock
  int starts() const { return starts_; }
  const launch::FdStore& store() const { return *store_; }
  launch::FdStore& store() { return *store_; }
  std::vector<OwnSocket>& sockets() { return plan_.sockets; }
  // Of the injector, for the holder; -1 without.
  int inject_notify_fd() const { return inject_notify_.get(); }
  int inject_journal_fd() const { return inject_journal_.get(); }
  int notify_socket_fd() const { return notify_ ? notify_->socket_fd() : -1; }
  // Nothing is half done that execve(2) would lose.
  bool can_be_kept() const {
    return !start_ && (!notify_ || notify_->idle()) && (!injector_ || injector_->idle());
  }
  std::vector<pid_t> processes() const;
  const launch::GenerationCgroup* cgroup() const { return cgroup_ ? &*cgroup_ : nullptr; }
  base::Json to_json() const;
  std::string output_file() const { return places_.output(plan_.number); }
  bool output_in_journal() const { return output_in_journal_; }

 private:
  std::string run_name() const;
  std::vector<std::string> listener_names() const;
  void move_oom_score(int score);
  void signal_role();
  base::Milliseconds time_given() const;
  base::Milliseconds time_left() const;
  void adopt_surroundings(const base::Json& state, base::UniqueFd notify_socket);
  base::Status adopt_process(const base::Json& state, Inherited inherited);
  base::Status find_identity();
  base::Status prepare_folders();
  base::Status prepare_notify(base::UniqueFd inherited = {});
  base::Status prepare_cgroup();
  base::Status set_socket_flags() const;
  base::Result<launch::ServiceSpec> service_spec(const launch::FdStore* stored);
  void on_start_event();
  void on_notify(launch::NotifyEvent& event);
  void take_main_process(launch::NotifyEvent& event);
  void take_lifecycle(const launch::NotifyMessage& message);
  void store_descriptors(launch::NotifyEvent& event);
  void on_main_end();
  void on_cgroup_event();
  void look_for_rest();
  base::Status watch_process();
  base::Status watch_forked();
  void let_forked_go();
  base::Status watch_cgroup();
  base::Status watch_store();
  base::Status make_injector();
  void arm_watchdog();
  void arm_ready_timeout(base::Milliseconds span);
  void arm_stop_timeout(base::Milliseconds span);
  void extend_timeout(std::uint64_t usec);
  void enter(Life life);
  void become_ready();
  void restore_backlogs();
  void fail(const base::Error& error);
  void kill_all();
  void become_gone();
  bool belongs(pid_t pid) const;
  launch::Membership membership();
  launch::ProcessFamily family() const;

  Loop& loop_;
  Places places_;
  launch::CgroupTree* cgroups_;
  GenerationPlan plan_;
  GenerationEvents events_;
  base::Identity identity_;

  Life life_ = Life::starting;
  Role role_ = Role::candidate;
  std::string status_text_;
  std::int64_t since_us_ = 0;  // of its present life, wall clock: to be read
  // On the clock that nobody sets; it goes on over supervisors, but not over boots, as the state.
  std::int64_t begun_us_ = 0;  // of its present life
  std::int64_t due_us_ = 0;    // of `timeout_`
  std::string trace_id_;
  std::int64_t drain_due_us_ = 0;  // 0: it does not drain
  int starts_ = 0;
  bool extended_ = false;  // EXTEND_TIMEOUT_USEC came
  int oom_score_ = 0;
  bool output_in_journal_ = false;
  bool stops_itself_ = false;  // STOPPING=1 came: it can be said as often as one likes
  std::optional<std::uint64_t> watchdog_usec_;

  std::optional<launch::ServiceStart> start_;
  std::optional<launch::ProcessWatch> process_;
  std::optional<launch::ProcessWatch> forked_;  // by us, when MAINPID has named another one
  std::optional<launch::GenerationCgroup> cgroup_;
  std::unique_ptr<launch::FdStore> store_;
  std::unique_ptr<launch::NotifyServer> notify_;
  base::UniqueFd inject_notify_;
  base::UniqueFd inject_journal_;
  std::unique_ptr<launch::Injector> injector_;

  // after what they watch, so that they end first
  Watch start_watch_;
  Watch process_watch_;
  Watch forked_watch_;
  Watch cgroup_watch_;
  Watch store_watch_;
  Watch notify_watch_;
  Watch inject_watch_;
  Watch timeout_;  // ready_timeout or stop_timeout
  Watch watchdog_;
  Watch rest_timer_;  // without cgroups: is anything left?
};

}  // namespace updagent::service
