// abandon, rollback, cleanup: how a deployment ends. Nothing here waits for the journal, and no
// hook of any release can stop it.
#include <fcntl.h>

#include <algorithm>

#include "agent/base/failpoints.hpp"
#include "agent/base/files.hpp"
#include "agent/deploy/engine.hpp"
#include "agent/deploy/order.hpp"

namespace updagent::deploy {

using base::Code;
using base::Error;

// Before the switch: current was never touched.
base::Status Engine::abandon() {
  recorder_.stop_waiting_for_the_journal();
  end_service();
  if (plan_.staging) {
    const bool may_resume = plan_.error && (plan_.error->code() == Code::interrupted ||
                                            plan_.error->code() == Code::fetch_failed);
    if (!may_resume) plan_.staging->discard();
    plan_.staging.reset();
  }
  const std::string& from = recorder_.row().from_version;
  if (recorder_.row().pre_upgrade_ran && plan_.store && !from.empty()) run_post_rollback(from);
  base::failpoint::hit("deploy.after_abandon");
  return base::ok();
}

void Engine::run_post_rollback(const std::string& version) {
  const auto manifest = plan_.store->description(version);
  if (!manifest) {
    observer().warning("post_rollback of " + version + " was not run: " + manifest.error().line());
    return;
  }
  const auto user = user_of(*manifest);
  const base::Status ran =
      user ? run_hook("post_rollback", manifest->hooks.post_rollback, *manifest, *user, nullptr)
           : base::Status(user.error());
  if (ran || ran.error().code() == Code::aborted) return;  // of a rollback that was called off
  observer().warning(ran.error().line() + ", ignoring: the way back goes on");
}

base::Status Engine::roll_back() {
  // what users wait for comes before everything that is read, stored or asked for the way back
  if (plan_.service && recorder_.row().kind != "rollback") plan_.service->withdraw();
  base::failpoint::hit("deploy.after_withdraw");
  recorder_.stop_waiting_for_the_journal();
  // the ^C that led here must not cut the way back short
  if (context_.interrupt != nullptr) context_.interrupt->acknowledge();
  const journal::DeploymentRow& row = recorder_.row();
  const bool requested = row.kind == "rollback";
  const std::string target = requested ? row.to_version : way_back();
  if (!requested) {
    mark_candidate_failed();
    UPD_TRY(check_way_back(row.to_version, target));
  }
  recorder_.event("rollback.started", "started", {{"to", target}, {"reason", row.reason}});
  if (!requested) roll_back_service(target);
  base::failpoint::hit("deploy.before_rollback_link");
  if (requested) UPD_TRY(serve_requested(target));
  const base::Status moved =
      plan_.store->set_current(target.empty() ? std::nullopt : std::optional<std::string>(target));
  if (!moved && !names_already(target)) return rollback_failed(moved.error());
  base::failpoint::hit("deploy.after_rollback_link");
  if (!requested) UPD_TRY(take_back_commit());
  if (!requested && target != committed_before())
    return rollback_failed(Error(Code::rollback_failed, row.to_version +
                                                            ", which was committed before, failed "
                                                            "now: there is no good release"));
  plan_.outcome = Outcome::rolled_back;
  if (target.empty()) {
    plan_.reason = "no_previous";
    stage_summary_ = "there was no release before: current is gone";
    return base::ok();
  }
  run_post_rollback(target);
  base::failpoint::hit("deploy.after_post_rollback");
  const base::Status proved = prove_previous(target);
  if (requested) UPD_TRY(still_asked_for(proved));
  UPD_TRY(proved);
  stage_summary_ = "current -> " + target;
  if (!requested) return base::ok();
  const base::Status committed = plan_.store->set_committed(target);
  if (!committed) return rollback_failed(committed.error());
  base::failpoint::hit("deploy.after_rollback_committed_link");
  commit_service();
  settle_boot();
  plan_.reason = "requested";
  return record_commit();
}

// Until the commit an operator may call off what was asked for, and a driver that was stopped may
// have lost the share. Users are with the present release again then, and so were the probes.
base::Status Engine::still_asked_for(const base::Status& proved) {
  const bool undecided = proved || proved.error().code() == Code::aborted;
  base::Status held = plan_.service && undecided ? plan_.service->confirm() : base::ok();
  if (held) return base::ok();
  const std::string& from = recorder_.row().from_version;
  const base::Status moved =
      plan_.store->set_current(from.empty() ? std::nullopt : std::optional<std::string>(from));
  if (!moved) return rollback_failed(moved.error());
  plan_.outcome = Outcome::aborted;
  return held;
}

// After a switch that could not be made, for one: the full disk that it failed for fails the way
// back as well, which has nothing to do.
bool Engine::names_already(const std::string& target) const {
  const auto links = plan_.store->links();
  return links && links->current.value_or("") == target;
}

// Rows of an older version don't say it: then current and committed were the same.
std::string Engine::committed_before() const {
  const journal::DeploymentRow& row = recorder_.row();
  return row.committed_before.empty() ? row.from_version : row.committed_before;
}

// The release that was judged good, which need not be the one that was current. Should just that
// one have been the candidate and failed, only the one that was current is left.
std::string Engine::way_back() const {
  const journal::DeploymentRow& row = recorder_.row();
  return plan_.error && committed_before() == row.to_version ? row.from_version
                                                             : committed_before();
}

// A commit whose rename went through but whose fsync failed: the link names a release that was not
// committed.
base::Status Engine::take_back_commit() {
  const std::string& candidate = recorder_.row().to_version;
  const std::string before = committed_before();
  const auto links = plan_.store->links();
  if (!links || links->committed != candidate || candidate == before) return base::ok();
  const base::Status moved = plan_.store->set_committed(
      before.empty() ? std::nullopt : std::optional<std::string>(before));
  return moved ? base::ok() : rollback_failed(moved.error());
}

void Engine::mark_candidate_failed() {
  const journal::DeploymentRow& row = recorder_.row();
  if (row.to_version.empty() || row.to_version == committed_before()) return;
  journal::ReleaseRow failed;
  if (journal_ != nullptr)
    if (auto known = journal_->releases(row.app))
      for (const journal::ReleaseRow& release : *known)
        if (release.version == row.to_version) failed = release;
  failed.app = row.app;
  failed.version = row.to_version;
  failed.digest = row.to_digest;
  failed.state = journal::ReleaseState::failed;
  failed.trace_id = row.trace_id;
  static_cast<void>(recorder_.flush(&failed));  // best effort from here on, says so itself
}

// Of a handoff: it has run beside the candidate, on the same data, and no floor can keep it from
// that. (Where no supervisor is left nothing runs, and what is started next is what is committed.)
bool Engine::old_one_never_stopped() const {
  const bool had_none = plan_.service && plan_.service->active().number == 0;
  return strategy() == Strategy::handoff && !had_none;
}

// The floor of the release that has touched the data.
base::Status Engine::check_way_back(const std::string& candidate, const std::string& target) {
  if (target.empty()) return base::ok();
  if (!plan_.manifest) {
    auto manifest = plan_.store->description(candidate);
    // unreadable: the way back matters more than a floor that nobody can tell
    if (!manifest) return base::ok();
    plan_.manifest = std::move(*manifest);
  }
  base::Status floor = check_floor(*plan_.manifest, target);
  if (floor || old_one_never_stopped()) return base::ok();
  // at the deployment's end the supervisor would start the old one
  if (plan_.service) commit_service();
  plan_.outcome = Outcome::rollback_failed;
  plan_.reason = floor.error().code_name();
  plan_.error = Error(Code::rollback_failed, "not rolled back: " + floor.error().line())
                    .hint("current stays at " + candidate +
                          ": publish a fixed newer version, or updagent rollback " +
                          recorder_.row().app + " --to " + target + " --force");
  return *plan_.error;
}

base::Status Engine::rollback_failed(Error error) {
  plan_.outcome = Outcome::rollback_failed;
  plan_.reason = error.code_name();
  plan_.error = Error(Code::rollback_failed, error.line())
                    .hint("a person is needed: apply a good release, or: updagent rollback " +
                          recorder_.row().app + " --to VERSION (updagent releases lists them)");
  return error;
}

base::Status Engine::prove_previous(const std::string& version) {
  const auto manifest = plan_.store->description(version);
  if (!manifest) return rollback_failed(manifest.error());
  const auto user = user_of(*manifest);
  if (!user) return rollback_failed(user.error());
  if (context_.actor == kBootActor) {
    // nothing of the app runs this early: what boots afterwards is the release that was good before
    recorder_.event("probe.passed", "skipped", {{"reason", "not probed during boot"}});
    return base::ok();
  }
  if (was_stopped_from_outside(*manifest)) {
    recorder_.event("probe.passed", "skipped", {{"reason", "the service was stopped meanwhile"}});
    return base::ok();
  }
  // (asked for, it is the candidate, and what is active is what shall go)
  base::Status proved = base::ok();
  if (recorder_.row().kind != "rollback") proved = wait_for_the_old_one(*manifest);
  if (proved) proved = prove_and_watch(*manifest, *user, base::Milliseconds(0), nullptr);
  if (proved || proved.error().code() == Code::aborted) return proved;
  return rollback_failed(
      Error(Code::probe_failed, "after the way back to " + version + ": " + proved.error().line()));
}

// By init, which does not ask the driver: nothing of it is left that could be proved, and it starts
// what the links name when it is told to.
bool Engine::was_stopped_from_outside(const release::Manifest& manifest) const {
  if (strategy_from_name(manifest.strategy).value_or(Strategy::files) == Strategy::files)
    return false;
  const std::string& app = recorder_.row().app;
  auto client = connect_supervisor(context_.layout, app);
  if (!client) return !has_living_generations(context_.layout, app);
  const auto status = client->ask("status");
  return status && status->value("stopping", false);
}

base::Status Engine::cleanup() {
  recorder_.stop_waiting_for_the_journal();
  end_service();
  const journal::DeploymentRow& row = recorder_.row();
  if (plan_.committed && plan_.manifest && row.kind == "apply") {
    const base::Status hook = plan_.user
                                  ? run_hook("post_commit", plan_.manifest->hooks.post_commit,
                                             *plan_.manifest, *plan_.user, nullptr)
                                  : base::Status(Error(Code::privilege,
                                                       "the hook post_commit was not run: as whom "
                                                       "could not be decided"));
    if (!hook) observer().warning(hook.error().line() + ", ignoring: the release is committed");
  }
  const bool resumable =
      plan_.error &&
      (plan_.error->code() == Code::fetch_failed || plan_.error->code() == Code::interrupted ||
       plan_.error->code() == Code::no_space || plan_.error->code() == Code::busy);
  forget_download(resumable);
  remove_unused_app_folder();
  if (plan_.store && plan_.locked && !plan_.request.dry_run) {
    apply_retention();
    const base::Status swept =
        plan_.store->sweep(plan_.settings.incoming_keep, plan_.settings.incoming_max_bytes,
                           resumable ? row.to_digest : std::string());
    if (!swept) observer().note(swept.error().line() + ", ignoring");
    prune_log();
  }
  return base::ok();
}

void Engine::forget_download(bool resumable) {
  const std::string downloads = context_.layout.downloads();
  if (fetch::is_url(plan_.request.source) && !resumable)
    fetch::forget(downloads, plan_.request.source);
  const base::Status swept =
      fetch::sweep(downloads, plan_.settings.incoming_keep, plan_.settings.incoming_max_bytes);
  if (!swept) observer().note(swept.error().line() + ", ignoring");
}

// A refused first release leaves nothing behind.
void Engine::remove_unused_app_folder() {
  if (!plan_.made_app_folder || !plan_.store || plan_.staged || !plan_.locked) return;
  const auto versions = plan_.store->versions();
  if (!versions || !versions->empty()) return;
  const auto apps = base::open_directory(context_.layout.apps());
  if (!apps) return;
  const base::Status removed = base::remove_tree(apps->get(), plan_.store->name());
  if (!removed) observer().note(removed.error().line() + ", ignoring");
  plan_.store.reset();
}

void Engine::apply_retention() {
  if (journal_ == nullptr) return;
  const journal::DeploymentRow& row = recorder_.row();
  const auto rows = journal_->releases(row.app);
  const auto trees = plan_.store->versions();
  const auto links = plan_.store->links();
  const auto app = journal_->app(row.app);
  if (!rows || !trees || !links || !app) return;
  std::vector<std::string> protect = {row.to_version, row.from_version};
  for (const auto& version : {links->current, links->committed})
    if (version) protect.push_back(*version);
  if (*app) protect.push_back((*app)->previous);
  std::vector<store::Candidate> candidates;
  std::vector<journal::ReleaseRow> known;
  for (const std::string& version : *trees) {
    journal::ReleaseRow release;
    release.app = row.app;
    release.version = version;
    const auto stored = std::find_if(rows->begin(), rows->end(),
                                     [&](const auto& one) { return one.version == version; });
    if (stored != rows->end()) {
      release = *stored;
    } else if (const auto goal = journal_->was_a_goal(row.app, version); !goal || !*goal) {
      // Not one that was killed between rename and record: the database has forgotten it, and it
      // may be the only way back.
      observer().warning("the database does not know the release " + version + " of '" + row.app +
                         "', it is kept: updagent recover --rebuild reads the trees");
      continue;
    }
    candidates.push_back(
        {version, std::string(journal::release_state_name(release.state)), release.installed_us});
    known.push_back(release);
  }
  const int keep = plan_.settings.app.keep.value_or(plan_.manifest ? plan_.manifest->keep : 3);
  for (const std::string& version : store::plan_retention(candidates, keep, protect)) {
    const auto found = std::find_if(known.begin(), known.end(), [&](const auto& release) {
      return release.version == version;
    });
    if (found != known.end()) remove_release(*found);
  }
}

void Engine::remove_release(journal::ReleaseRow row) {
  const std::string path = plan_.store->path(row.version);
  const auto used = store::in_use(path);
  if (!used || *used) {
    observer().note("keeping " + row.version + ": a process still uses it");
    return;
  }
  const base::Status removed = plan_.store->remove(row.version);
  if (!removed) {
    observer().note(removed.error().line() + ", ignoring");
    return;
  }
  base::failpoint::hit("deploy.after_remove");
  recorder_.event("release.removed", "success",
                  {{"version", row.version}, {"state", journal::release_state_name(row.state)}});
  row.removed = true;
  // a tree that never had a row needs none now that it is gone
  static_cast<void>(recorder_.flush(row.digest.empty() ? nullptr : &row));
}

void Engine::prune_log() {
  if (journal_ == nullptr) return;
  const std::int64_t before = base::wall_now_us() - plan_.settings.audit_keep.count() * 1000;
  const auto pruned = journal_->prune(before, "retention",
                                      static_cast<std::int64_t>(plan_.settings.audit_max_events));
  if (!pruned) observer().note(pruned.error().line() + ", ignoring");
}

}  // namespace updagent::deploy
