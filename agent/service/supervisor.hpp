// The supervisor of one app. Start here for agent/service/: it owns the app's listening sockets,
// the steering policy and the end of generations, in one epoll loop. It decides nothing about
// releases: a driver (agent/deploy) tells it what to start and how much traffic to move, and it
// says what became of that. When the driver is gone it goes back by itself; when it is gone itself,
// the generations serve on, and its successor takes them over.
//
//   supervisor.hpp   roles, deployments, what follows from what
//   lives.cpp        its generations come and go; traffic.cpp   who gets connections
//   generation.hpp   one process tree        listener_set.hpp   the sockets of all
//   workers.hpp      the committed release's processes without a listener
//   drain.hpp        when nothing is under way any more
//   control.hpp      what drivers and operators may ask, and the answers
//   holder.hpp, state_file.hpp, succession.cpp   how a successor finds everything again
//   upgrade.hpp      becoming a newer program
//   loop.hpp, messages.hpp, event_spool.hpp      the ground
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "agent/base/file_lock.hpp"
#include "agent/launch/output_bound.hpp"
#include "agent/listen/adopt.hpp"
#include "agent/listen/steering.hpp"
#include "agent/service/control.hpp"
#include "agent/service/drain.hpp"
#include "agent/service/event_spool.hpp"
#include "agent/service/holder.hpp"
#include "agent/service/listener_set.hpp"
#include "agent/service/listening_check.hpp"
#include "agent/service/loop.hpp"
#include "agent/service/upgrade.hpp"
#include "agent/service/workers.hpp"

namespace updagent::service {

// A driver that died has its guardian; where that died, too, the rule is applied here.
inline constexpr base::Milliseconds kOrphanPatience{60'000};
inline constexpr std::size_t kTailBytes = 4096;  // of a failed service's output, into the log
// Of one generation in an hour: what is wrong is said by then, and the journal takes them in at
// once.
inline constexpr int kMaxComplaints = 50;
inline constexpr base::Milliseconds kComplaintSpan{3'600'000};
inline constexpr base::Milliseconds kPromptMigration{100};  // for a candidate that is rolled back

struct SupervisorSetup {
  Places places;
  std::string app_folder;     // ROOT/apps/APP: where the link `committed` is
  std::string events_folder;  // ROOT/spool: what the journal imports
  std::string cgroup_folder;  // base of the generations' cgroups; "" = none can be had
  // A driver that goes back to the release before: for one that says on_crash_loop = "rollback".
  std::vector<std::string> rollback_command;
  // One that ends what a driver left open, in the journal too.
  std::vector<std::string> recover_command;
  base::Milliseconds orphan_patience = kOrphanPatience;  // shorter in tests
  std::vector<std::string> words;                        // this program's own, for its upgrade
};

// What a driver wants to run: the one descriptor of its request.
base::Result<release::ResolvedService> service_from(const Request& request);

// Of an operator, to whoever drives the deployment. Kept until the driver has taken it: also over
// the death of the supervisor that it was given to.
struct Order {
  std::uint64_t id = 0;
  std::string word;  // pause, resume, promote, abort
  std::string actor;
  ConnectionId asked_by = 0;  // told when the driver took it; 0: not here any more
};
inline constexpr std::size_t kMaxOrders = 16;  // not taken yet: nobody types that many

// The deployment that a driver has open here.
struct Deployment {
  std::uint64_t epoch = 0;
  std::string trace_id;
  ConnectionId driver = 0;      // 0: nobody drives
  std::uint64_t candidate = 0;  // generation; 0: none (any more)
  std::uint16_t weight = 0;     // as it was asked for last
  bool lease_lost = false;
  std::string aborted_by;  // an operator: the candidate gets no weight any more
  std::vector<Order> orders;
  base::Json progress;     // what the driver says of itself, for `status`
  bool automatic = false;  // a restart by the operator: nobody drives, ready is enough
  // Strategy restart: what ran before, for the way back. The candidate is the active one then.
  std::optional<release::ResolvedService> old_run;
  Watch lease_timer;
  Watch orphan_timer;
};

class Supervisor {
 public:
  // Takes over what a predecessor left, then listens at the control socket. Code::busy when another
  // supervisor of this app lives.
  // `kept`: of ourselves before an execve(2) (upgrade.hpp); else empty.
  static base::Result<std::unique_ptr<Supervisor>> create(const SupervisorSetup& setup, Kept kept);
  ~Supervisor();

  // Starts this release as the active one when nothing runs (the committed one, after a boot).
  base::Status start_committed(release::ResolvedService run);
  // Ends what it took over, and then itself: the app is to be stopped.
  void end_all();
  // Until it is told to stop, or nothing is left to supervise.
  base::Status run();

 private:
  // An entry of a store, as the holder has it.
  struct HeldStored {
    std::string name;
    std::uint64_t id = 0;
    bool operator==(const HeldStored&) const = default;
  };
  struct Complaints {
    int count = 0;
    std::int64_t since_us = 0;
  };

  Supervisor(SupervisorSetup setup, std::unique_ptr<Loop> loop, base::FileLock lock, Holder holder,
             launch::OutputBound outputs);
  base::Status choose_mechanism();
  void share_everything(const std::string& why);
  base::Status open_cgroups();
  base::Status listen_for_commands(Kept& kept);
  base::Status watch_holder();
  void renew_holder();
  void hear_earlier();

  // succession.cpp
  base::Status take_over(Kept& kept);
  base::Status take_over_generation(const base::Json& state,
                                    std::map<std::string, base::UniqueFd>& held);
  void drop_strangers(std::map<std::string, base::UniqueFd>& held);
  void drop_orphaned(const std::map<std::string, base::UniqueFd>& held);
  base::Result<std::vector<OwnSocket>> sockets_of(const base::Json& state,
                                                  std::map<std::string, base::UniqueFd>& held);
  void restore_roles(const base::Json& state);
  base::Milliseconds lease_left() const;
  void expect_driver();
  void finish_automatic();
  void save_state();
  base::Status save_known();
  base::Json describe_state() const;
  std::map<std::string, int> descriptors() const;
  void put(const std::string& name, int fd);
  void drop(const std::string& name);
  void hold(const Generation& generation);
  void hold_notify(const Generation& generation);
  void hold_stored(const Generation& generation);
  void hold_everything();
  void drop_held(const Generation& generation);

  // control: one function per operation
  base::Result<Answer> answer(const Request& request);
  base::Result<Answer> op_begin(const Request& request);
  base::Result<Answer> op_start(const Request& request);
  base::Result<Answer> op_ready(const Request& request);
  base::Result<Answer> op_probe(const Request& request);
  base::Result<Answer> op_probe_end(const Request& request);
  base::Result<Answer> op_weight(const Request& request);
  base::Result<Answer> op_renew(const Request& request);
  base::Result<Answer> op_commit(const Request& request);
  base::Result<Answer> op_rollback(const Request& request);
  base::Result<Answer> op_end(const Request& request);
  base::Result<Answer> op_status(const Request& request);
  base::Result<Answer> op_stop(const Request& request);
  base::Result<Answer> op_restart(const Request& request);
  Answer no_room(bool end_oldest);
  base::Json policy_described() const;
  base::Result<Answer> op_upgrade(const Request& request);
  // measure.cpp
  base::Result<Answer> op_measure(const Request& request);
  base::Result<Answer> op_output(const Request& request);
  base::Json figures_of(const Generation& generation, const listen::SlotCounters& counters,
                        bool thorough) const;
  // orders.cpp
  base::Result<Answer> op_order(const Request& request);
  base::Result<Answer> op_order_taken(const Request& request);
  base::Result<Answer> op_progress(const Request& request);
  void tell_orders();
  void withdraw_weight();
  base::Status check_weight_allowed() const;
  base::Status renew_salt();
  base::Result<Answer> op_adopt(const Request& request);
  void driver_gone(ConnectionId connection);
  base::Status check_not_stopping() const;
  base::Status check_epoch(const Request& request) const;
  base::Error ended_by_somebody_else(std::uint64_t epoch) const;

  // upgrade.cpp
  void become(const std::string& program);

  // what generations say
  GenerationEvents generation_events();
  void on_ready(Generation& generation);
  void on_failed(Generation& generation, const base::Error& failure);
  void on_gone(Generation& generation);
  void on_changed(Generation& generation);
  void report_failure(const Generation& generation, const base::Error& error);
  WorkerHost worker_host();
  bool nothing_lives() const { return generations_.empty() && workers_->empty(); }
  void complain(const Generation& generation, const std::string& what);
  bool readiness_is_ours(const Generation& generation) const;
  void look_whether_listening(std::uint64_t number);

  // what follows
  base::Result<Generation*> make_generation(release::ResolvedService run);
  base::Status start_generation(Generation& generation);
  void listen_anew(Generation& generation);
  base::Status join_adopted(const Generation& generation,
                            const std::vector<listen::Adopted>& listeners);
  void adopted_ended(Generation& generation);
  void check_steering();
  void check_listening();
  listen::InodeSet own_sockets() const;
  void look_for_strangers();
  void count_cut(const Generation& generation);
  base::Status check_room(const Generation* active, std::uint64_t reserve) const;
  base::Status apply_roles(std::uint16_t weight, std::uint64_t expires_ns);
  void steer_back();
  void lease_expired();
  void orphaned();
  void end_by_link(const std::string& why);
  // restarting.cpp
  base::Status replace_in_place(Generation& next, Generation& before);
  base::Status bring_old_back(const std::string& why);
  void start_waiting();
  void promote_candidate();
  void retire(std::uint64_t number, bool immediately);
  void retire_withdrawn(std::uint64_t number);
  void stop_drained(std::uint64_t number, const base::Result<std::size_t>& busy);
  void give_up_candidate(const std::string& why);
  void restart_later(std::uint64_t number);
  void start_again(std::uint64_t number);
  void give_traffic_roles(bool candidate_has_all);
  void crash_loop(const Generation& generation, int crashes);
  void start_command(const std::vector<std::string>& command);
  void finish_if_done();
  void tell(const Generation& generation, std::string_view what, const std::string& problem);
  std::string trace_of(const Generation* generation) const;
  void event(std::string_view name, std::string_view status, const Generation* generation,
             base::Json detail);
  void goes_on(const base::Status& done);
  void goes_on_once(const base::Status& done);
  std::optional<std::string> committed_version() const;

  Generation* find(std::uint64_t number);
  Generation* active() { return find(active_); }
  Generation* candidate() { return deployment_ ? find(deployment_->candidate) : nullptr; }
  listen::Slot free_slot() const;

  SupervisorSetup setup_;
  std::unique_ptr<Loop> loop_;
  base::FileLock lock_;
  Holder holder_;
  launch::OutputBound outputs_;
  EventSpool events_;
  std::string cgroup_reason_;  // why there is none
  std::optional<launch::CgroupTree> cgroups_;
  listen::MechanismFound mechanism_;
  std::optional<listen::Policy> policy_;
  std::unique_ptr<ListenerSet> listeners_;
  std::unique_ptr<WorkerSet> workers_;

  std::map<std::uint64_t, std::unique_ptr<Generation>> generations_;
  std::map<std::uint64_t, std::unique_ptr<Drain>> drains_;
  std::map<std::uint64_t, std::unique_ptr<ListeningCheck>> checks_;
  std::map<std::uint64_t, Crashes> crashes_;
  std::map<std::uint64_t, Complaints> complaints_;
  std::map<std::uint64_t, Watch> timers_;  // of a generation: restart, looking whether it listens
  std::map<std::uint64_t, std::vector<HeldStored>> held_stored_;  // by generation
  std::set<std::uint64_t> held_notify_;  // generations whose notify socket the holder has
  std::uint64_t next_number_ = 1;
  std::uint64_t active_ = 0;   // generation; 0: none
  std::uint64_t standby_ = 0;  // still there behind the active one
  std::uint64_t epoch_ = 0;
  std::uint64_t next_order_ = 1;
  std::optional<Deployment> deployment_;
  // Strategy restart: the generation that is started when these are gone; 0: none.
  std::uint64_t waiting_ = 0;
  std::set<std::uint64_t> waits_for_;
  std::optional<release::ResolvedService> after_stop_;  // somebody wants it again already
  bool stop_wanted_ = false;                            // `updagent stop`: nothing is to run
  std::string last_problem_;
  std::string saved_state_;  // what the state file has
  base::Status saved_;       // how its last writing went
  std::string strangers_;    // in our groups, as they were last reported

  std::unique_ptr<ControlServer> control_;
  Watch holder_watch_;
  Watch holder_retry_;
  Watch outputs_watch_;
  Watch upgrade_;  // after the answer is on its way
  Watch sweep_;    // generations that are gone, outside of their own callbacks
};

}  // namespace updagent::service
