// What happens to a deployment whose driver is gone: the restart column of the state table, with
// the stored row where the database can be read, and with the links alone where it can't.
#include "agent/deploy/recovery.hpp"

#include <algorithm>

#include "agent/base/failpoints.hpp"
#include "agent/base/files.hpp"
#include "agent/deploy/engine.hpp"
#include "agent/deploy/node.hpp"

namespace updagent::deploy {

using base::Code;
using base::Error;

namespace {

base::Result<DeployResult> end_open(const Context& context, journal::Journal* journal,
                                    journal::DeploymentRow row) {
  Plan plan;
  plan.settings = settings_or_defaults(context, row.app);
  plan.node_name = plan.settings.node_name;
  plan.locked = true;
  plan.request.source = "";
  auto store = store::AppStore::open(context.layout.app(row.app), row.app, false);
  // Only an app that isn't there needs no way back; with any other error nothing was decided.
  if (!store && store.error().code() != Code::not_found) return std::move(store).error();
  if (store) plan.store.emplace(std::move(*store));
  Engine engine(context, journal, std::move(plan), std::move(row));
  return engine.run_recovery();
}

// Without a row: current and committed differ, so somebody died between switch and commit.
journal::DeploymentRow row_from_links(const std::string& app, const store::AppStore& store,
                                      const store::Links& links) {
  journal::DeploymentRow row;
  row.trace_id = journal::new_trace_id();
  row.root_span_id = journal::new_span_id();
  row.app = app;
  row.kind = "apply";
  row.source = "found on disk";
  row.from_version = links.committed.value_or("");
  row.committed_before = row.from_version;
  row.to_version = links.current.value_or("");
  if (const auto digest = store.manifest_digest(row.to_version)) row.to_digest = digest->hex();
  row.state = state_name(State::watch);
  row.started_us = base::wall_now_us();
  row.boot_id = base::boot_id();
  return row;
}

// Nothing: the links agree, or there is no such app.
base::Result<std::optional<journal::DeploymentRow>> left_on_disk(const Context& context,
                                                                 const std::string& app) {
  const auto store = store::AppStore::open(context.layout.app(app), app, false);
  if (!store && store.error().code() == Code::not_found)
    return std::optional<journal::DeploymentRow>();
  if (!store) return store.error();
  UPD_ASSIGN(const store::Links links, store->links());
  if (links.current == links.committed) return std::optional<journal::DeploymentRow>();
  return std::optional(row_from_links(app, *store, links));
}

// Closed with exit 8: a person decides, a restart must not.
bool waits_for_a_person(journal::Journal* journal, const std::string& app) {
  if (journal == nullptr) return false;
  const auto last = journal->last_switching_deployment(app);
  return last && *last && (*last)->outcome == outcome_name(Outcome::rollback_failed);
}

Error person_needed(const Context& context, const std::string& app) {
  store::Links links;
  if (const auto store = store::AppStore::open(context.layout.app(app), app, false); store)
    if (auto known = store->links()) links = std::move(*known);
  const std::string current = links.current.value_or("nothing");
  const std::string committed = links.committed.value_or("nothing");
  const std::string hint =
      "updagent log shows why; apply a good release, or: updagent rollback " + app + " --to " +
      (current == committed ? "VERSION" : committed + " (past a rollback_floor with --force)");
  return Error(Code::rollback_failed, "'" + app + "' waits for a person: current is " + current +
                                          ", committed is " + committed)
      .hint(hint);
}

RecoverReport recover_one(const Context& context, journal::Journal* journal, const std::string& app,
                          base::Milliseconds wait) {
  RecoverReport report;
  report.app = app;
  const auto failed = [&report](Error error) {
    report.what = error.line();
    report.error = std::move(error);
    return report;
  };
  auto lock = base::FileLock::take(context.layout.driver_lock(app), wait, context.interrupt);
  if (!lock) {
    const bool busy = lock.error().code() == Code::busy;
    return failed(busy ? Error(Code::busy, "a deployment of '" + app + "' is running")
                             .hint("nothing to recover while its driver lives")
                       : std::move(lock).error());
  }
  base::Result<DeployResult> ended = DeployResult();
  std::optional<journal::DeploymentRow> row;
  if (journal != nullptr) {
    auto found = journal->open_deployment(app);
    if (found) {
      row = std::move(*found);
    } else {
      context.observer->warning(found.error().line() + ": going on without the database");
      journal = nullptr;
    }
  }
  if (!row) {
    if (waits_for_a_person(journal, app)) return failed(person_needed(context, app));
    auto left = left_on_disk(context, app);
    if (!left) return failed(std::move(left).error());
    if (!*left) {
      report.what = "nothing to recover";
      return report;
    }
    row = std::move(**left);
  }
  ended = end_open(context, journal, std::move(*row));
  if (!ended) return failed(std::move(ended).error());
  report.acted = true;
  report.what = "deployment " + ended->trace_id + " of " + ended->to + " ended as " +
                std::string(outcome_name(ended->outcome)) + " (" + ended->reason + ")";
  if (ended->outcome == Outcome::rollback_failed) report.error = ended->error;
  report.result = std::move(*ended);
  return report;
}

}  // namespace

DeployResult Engine::run_recovery() {
  journal::DeploymentRow& row = recorder_.row();
  const bool rebooted = !row.boot_id.empty() && row.boot_id != base::boot_id();
  const State found = state_from_name(row.state).value_or(State::watch);
  if (row.reason.empty()) row.reason = rebooted ? "reboot" : "driver_died";
  plan_.reason = row.reason;
  plan_.outcome = outcome_from_name(row.outcome);
  recorder_.reopen();
  recorder_.set_actor(context_.actor);
  recorder_.stop_waiting_for_the_journal();
  recorder_.event(
      "recover.started", "started",
      {{"found_in", row.state}, {"reason", row.reason}, {"driver_pid", row.driver_pid}});
  base::failpoint::hit("deploy.recover.begin");
  // From the switch on the journal is not waited for, so the row may be older than the links. One
  // that `committed` named before says nothing, unless the judgement was over.
  const bool committed_link = plan_.store && [&] {
    const auto links = plan_.store->links();
    return links && links->committed == row.to_version && links->current == row.to_version &&
           (found == State::commit || committed_before() != row.to_version);
  }();
  find_service();
  State first = State::closed;
  switch (row_of(found).restarted) {
    case Restart::nothing:
      break;
    case Restart::abandon:
      first = State::abandon;
      break;
    case Restart::roll_back:
      first = State::rollback;
      break;
    case Restart::ask_committed_link:
      first = committed_link ? State::cleanup : State::rollback;
      break;
    case Restart::again:
      first = State::cleanup;
      break;
  }
  // The release was judged good and the link says so: finish forward.
  if (first == State::cleanup && committed_link && row.kind == "apply" &&
      (!plan_.outcome || plan_.outcome == Outcome::committed)) {
    plan_.committed = true;
    plan_.reason = "healthy";
    row.reason.clear();
    if (auto manifest = plan_.store->description(row.to_version))
      plan_.manifest = std::move(*manifest);
    if (plan_.manifest)
      if (auto user = user_of(*plan_.manifest)) plan_.user = std::move(*user);
    commit_service();
    settle_boot();
    const base::Status recorded = record_commit();
    if (!recorded) observer().warning(recorded.error().line());
  }
  if (!plan_.store && first != State::closed) first = State::cleanup;
  return run(first);
}

base::Result<std::optional<DeployResult>> recover_locked(const Context& context,
                                                         journal::Journal* journal,
                                                         const std::string& app) {
  UPD_ASSIGN(std::optional<journal::DeploymentRow> row, journal->open_deployment(app));
  if (!row && !waits_for_a_person(journal, app)) {
    UPD_ASSIGN(row, left_on_disk(context, app));
  }
  if (!row) return std::optional<DeployResult>();
  context.observer->note("ending the deployment " + row->trace_id +
                         " that its driver left open in " + row->state);
  UPD_ASSIGN(DeployResult ended, end_open(context, journal, std::move(*row)));
  return std::optional<DeployResult>(std::move(ended));
}

base::Result<std::vector<RecoverReport>> recover(const Context& context, const std::string& app,
                                                 base::Milliseconds wait) {
  UPD_TRY(prepare_root(context.layout));
  const config::Settings settings = settings_or_defaults(context, "");
  std::optional<journal::Journal> journal = open_journal_or_warn(context, settings);
  std::vector<std::string> apps = {app};
  if (app.empty()) {
    UPD_ASSIGN(apps, apps_on_disk(context));
    if (journal) {
      const auto open = journal->apps_with_open_deployment();
      if (!open) {
        context.observer->warning(open.error().line() + ": going on without the database");
        journal.reset();
      } else {
        for (const std::string& name : *open)
          if (std::find(apps.begin(), apps.end(), name) == apps.end()) apps.push_back(name);
      }
    }
  }
  std::vector<RecoverReport> reports;
  reports.reserve(apps.size());
  for (const std::string& name : apps)
    reports.push_back(recover_one(context, journal ? &*journal : nullptr, name, wait));
  if (journal) show_warnings(context, *journal);
  return reports;
}

}  // namespace updagent::deploy
