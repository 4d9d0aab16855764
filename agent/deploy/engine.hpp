// The engine behind apply(), rollback() and recover(): one object per deployment. Private to
// deploy/.
#pragma once

#include "agent/base/child_process.hpp"
#include "agent/deploy/plan.hpp"
#include "agent/deploy/probe_doors.hpp"
#include "agent/health/probes.hpp"

namespace updagent::deploy {

// What smoke commands are called in the log and in UPDAGENT_HOOK.
inline constexpr std::string_view kSmoke = "smoke";

class Engine {
 public:
  Engine(const Context& context, journal::Journal* journal, Plan plan, journal::DeploymentRow row);

  // Runs from `first` until closed and returns how it ended.
  DeployResult run(State first);
  // `rollback`: the target is looked at (stage verify), then State::rollback with it as the goal.
  DeployResult run_requested_rollback();
  // What a restart does with a row that was found open (column of the table).
  DeployResult run_recovery();

  Recorder& recorder() { return recorder_; }

 private:
  // What a step says: the event for the table. A failure has set plan_.error and plan_.reason.
  Event step(State state);

  // steps_artifact.cpp
  base::Status fetch();
  base::Status keep_pipe();
  base::Status verify();
  base::Status stage();
  base::Result<bool> admit_envelope(std::string_view envelope);
  base::Status refuse_other_app();
  base::Status take_lock_and_open();
  base::Status name_goal();
  base::Status decide();
  base::Status load_known();
  base::Result<bool> take_kept_tree();
  base::Status keep_new_signatures();
  base::Status verify_rollback_target();
  base::Status check_identity(const std::string& version);
  base::Status check_user();
  base::Status check_floor_of_current();

  // steps_switch.cpp
  base::Status pre_upgrade();
  base::Status still_wanted();
  base::Status switch_over();
  base::Status watch();
  base::Status commit();
  base::Result<store::TreeReport> verify_awake(const std::string& version);
  base::Status prove_and_watch(const release::Manifest& manifest, const std::string& user,
                               base::Milliseconds watch_time, base::Interrupt* interrupt);
  base::Status record_commit();

  base::Status prove(const release::Manifest& manifest, const std::string& user,
                     base::Milliseconds watch_time, base::Interrupt* interrupt, bool steered);
  base::Status open_rollout();
  base::Status tell_of_rollout(base::Status done);

  // steps_preflight.cpp
  base::Status preflight(base::Interrupt* interrupt);
  // For everything that asks the service: `steered` to the candidate, else as its users.
  base::Result<health::ProbeContext> probe_context(const release::Manifest& manifest,
                                                   const std::string& user,
                                                   base::Interrupt* interrupt, bool steered);
  // Of a context that is steered to `generation`: commands get doors to it, which the context
  // serves. The doors must outlive it.
  base::Status open_doors(std::uint64_t generation, health::ProbeContext& context,
                          std::optional<ProbeDoors>& doors);
  base::Status warm_up(const health::ProbeContext& context);
  base::Status run_smoke(health::ProbeContext context);
  base::Status check_questions();
  base::Status check_addresses();
  void say_what_is_missing();

  // steps_service.cpp
  Strategy strategy() const;
  base::Status resolve_candidate();
  base::Status reach_supervisor();
  ServiceDriver::Reconnect reconnection() const;
  base::Status start_candidate(base::Interrupt* interrupt);
  base::Status start();
  base::Status prove_candidate(const release::Manifest& manifest, const std::string& user,
                               base::Interrupt* interrupt);
  base::Status shift();
  void commit_service();
  void roll_back_service(const std::string& target);
  std::optional<release::ResolvedService> service_of(const std::string& version);
  base::Status wait_for_the_old_one(const release::Manifest& manifest);
  void end_service();
  void find_service();
  base::Status serve_requested(const std::string& target);

  // steps_boot.cpp
  void settle_boot();
  bool had_service_before() const;
  void take_off_stop_wish();

  // steps_end.cpp
  base::Status abandon();
  base::Status roll_back();
  bool old_one_never_stopped() const;
  base::Status check_way_back(const std::string& candidate, const std::string& target);
  base::Status take_back_commit();
  base::Status still_asked_for(const base::Status& proved);
  bool names_already(const std::string& target) const;
  std::string committed_before() const;
  std::string way_back() const;
  base::Status rollback_failed(base::Error error);
  base::Status prove_previous(const std::string& version);
  bool was_stopped_from_outside(const release::Manifest& manifest) const;
  void run_post_rollback(const std::string& version);
  void mark_candidate_failed();
  base::Status cleanup();
  void forget_download(bool resumable);
  void apply_retention();
  void remove_release(journal::ReleaseRow row);
  void remove_unused_app_folder();
  void prune_log();
  void import_spool();
  DeployResult finish();

  // steps_hooks.cpp
  base::Status run_hook(std::string_view name, const std::optional<release::Command>& command,
                        const release::Manifest& manifest, const std::string& user,
                        base::Interrupt* interrupt);
  using RunCommand = std::function<base::Result<base::ChildResult>(const base::ChildSpec&)>;
  base::Status run_logged(std::string_view hook, const base::ChildSpec& spec,
                          const release::Manifest& manifest, const std::string& user,
                          const RunCommand& run);
  base::Result<std::string> user_of(const release::Manifest& manifest) const;
  base::Result<RuntimePlace> place_for(const release::Manifest& manifest, const std::string& user);
  CommandContext command_context(std::string_view hook) const;
  base::Status reload_settings(const std::string& app);

  // Remembers the first error and its reason; returns the table's event for it.
  Event fail(base::Error error);
  void add_stage_detail(std::string_view name, journal::Json value);
  Observer& observer() { return *context_.observer; }

  const Context& context_;
  journal::Journal* journal_;
  Plan plan_;
  Recorder recorder_;
  journal::Json stage_detail_ = journal::Json::object();
  std::string stage_summary_;
};

}  // namespace updagent::deploy
