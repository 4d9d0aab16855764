// pre_upgrade, switch, watch, commit: the candidate goes into service and is judged.
#include <algorithm>
#include <future>

#include "agent/base/failpoints.hpp"
#include "agent/base/files.hpp"
#include "agent/deploy/engine.hpp"
#include "agent/deploy/probe_log.hpp"

namespace updagent::deploy {

using base::Code;
using base::Error;

namespace {

// Of those that are asked about the candidate again and again.
bool has_commands(const release::Manifest& manifest) {
  const auto is_command = [](const auto& one) { return one.type == decltype(one.type)::exec; };
  return std::any_of(manifest.probes.begin(), manifest.probes.end(), is_command) ||
         std::any_of(manifest.gates.begin(), manifest.gates.end(), is_command);
}

}  // namespace

base::Status Engine::pre_upgrade() {
  stage_summary_ = "no hook";
  if (plan_.manifest->hooks.pre_upgrade) {
    // Intent first: a crash from here on runs the old release's post_rollback.
    recorder_.row().pre_upgrade_ran = true;
    UPD_TRY(run_hook("pre_upgrade", plan_.manifest->hooks.pre_upgrade, *plan_.manifest, *plan_.user,
                     context_.interrupt));
    stage_summary_ = "hook passed";
  }
  return still_wanted();
}

// The last look before anything is touched: getting the artifact may have taken hours.
base::Status Engine::still_wanted() {
  if (context_.interrupt != nullptr && context_.interrupt->requested())
    return Error(Code::interrupted, "stopped before the switch");
  if (journal_ == nullptr) return base::ok();
  UPD_ASSIGN(const auto app, journal_->app(recorder_.row().app));
  return app ? check_held(*app) : base::ok();
}

base::Status Engine::switch_over() {
  recorder_.stop_waiting_for_the_journal();
  base::failpoint::hit("deploy.before_switch");
  UPD_TRY(plan_.store->set_current(recorder_.row().to_version));
  base::failpoint::hit("deploy.after_switch");
  const std::string& from = recorder_.row().from_version;
  stage_summary_ = (from.empty() ? "current -> " : from + " -> ") + recorder_.row().to_version;
  return run_hook("post_switch", plan_.manifest->hooks.post_switch, *plan_.manifest, *plan_.user,
                  context_.interrupt);
}

base::Status Engine::watch() {
  const base::Milliseconds watch_time =
      std::min(plan_.manifest->rollout.watch, plan_.settings.app.max_watch);
  if (!plan_.rollout && !plan_.service && plan_.manifest->gates.empty())
    return prove_and_watch(*plan_.manifest, *plan_.user, watch_time, context_.interrupt);
  // its probes have passed before it had a user, but for those that had no such time
  if (!plan_.rollout) {
    UPD_TRY(
        prove_and_watch(*plan_.manifest, *plan_.user, base::Milliseconds(0), context_.interrupt));
    UPD_TRY(open_rollout());
  }
  return tell_of_rollout(plan_.rollout->watch(watch_time));
}

base::Status Engine::open_rollout() {
  Rollout::Parts parts;
  parts.manifest = &*plan_.manifest;
  parts.settings = &plan_.settings.app;
  parts.service = plan_.service ? &*plan_.service : nullptr;
  parts.first = recorder_.row().from_version.empty();
  parts.recorder = &recorder_;
  parts.observer = context_.observer;
  parts.interrupt = context_.interrupt;
  const bool steered = plan_.service && plan_.service->mechanism() == "steered";
  UPD_ASSIGN(parts.context,
             probe_context(*plan_.manifest, *plan_.user, context_.interrupt, steered));
  if (steered && has_commands(*plan_.manifest))
    UPD_TRY(open_doors(plan_.service->candidate().number, parts.context, plan_.doors));
  plan_.rollout = std::make_unique<Rollout>(std::move(parts));
  return plan_.rollout->open();
}

base::Status Engine::tell_of_rollout(base::Status done) {
  for (const auto& [name, value] : plan_.rollout->detail().items()) add_stage_detail(name, value);
  stage_summary_ = plan_.rollout->summary();
  plan_.unproven_steps = plan_.rollout->unproven_steps();
  return done;
}

base::Status Engine::prove_and_watch(const release::Manifest& manifest, const std::string& user,
                                     base::Milliseconds watch_time, base::Interrupt* interrupt) {
  return prove(manifest, user, watch_time, interrupt, false);
}

base::Status Engine::prove(const release::Manifest& manifest, const std::string& user,
                           base::Milliseconds watch_time, base::Interrupt* interrupt,
                           bool steered) {
  if (manifest.probes.empty() && watch_time.count() == 0) {
    stage_summary_ = "no probes";
    return base::ok();
  }
  UPD_ASSIGN(health::ProbeContext context, probe_context(manifest, user, interrupt, steered));
  std::optional<Error> told;  // by the supervisor, or an operator through it
  if (plan_.service)
    context.on_tick = [this, &told] {
      base::Status alive = plan_.service->tick();
      if (!alive) told = alive.error();
      return alive;
    };
  std::optional<ProbeDoors> doors;
  if (steered && has_commands(manifest))
    UPD_TRY(open_doors(plan_.service->candidate().number, context, doors));
  ProbeLog log(recorder_, manifest.probes);
  const auto on_result = [&log](const health::ProbeResult& result) {
    log.hear(result);
    log.flush();
  };
  UPD_ASSIGN(health::Verdict verdict, health::prove(manifest.probes, context, on_result));
  base::failpoint::hit("deploy.after_probes");
  if (verdict.healthy && watch_time.count() > 0) {
    UPD_ASSIGN(verdict, health::watch(manifest.probes, watch_time, context, on_result,
                                      [&](base::Milliseconds left) {
                                        observer().watching(left, watch_time);
                                      }));
  }
  if (log.changes() > kMaxProbeEvents) add_stage_detail("probe_changes", log.changes());
  if (verdict.interrupted) return Error(Code::interrupted, "stopped while the release was watched");
  if (told && told->code() == Code::aborted) return *told;
  if (!verdict.healthy) {
    if (!verdict.output.empty()) add_stage_detail("output", verdict.output);
    add_stage_detail("probe", verdict.probe);
    return Error(Code::probe_failed, verdict.reason)
        .hint("updagent log show " + recorder_.row().trace_id + " has its output");
  }
  stage_summary_ = std::to_string(manifest.probes.size()) +
                   (manifest.probes.size() == 1 ? " probe passed" : " probes passed");
  if (watch_time.count() > 0) stage_summary_ += ", held for " + base::format_duration(watch_time);
  return base::ok();
}

// A large tree takes longer than the lease of the candidate's share holds: it is renewed meanwhile.
base::Result<store::TreeReport> Engine::verify_awake(const std::string& version) {
  auto looking = std::async(std::launch::async, [&] {
    return store::verify_tree(plan_.store->path(version), *plan_.manifest, context_.interrupt);
  });
  base::Status alive = base::ok();
  while (looking.wait_for(kRenewEvery / 2) != std::future_status::ready)
    if (alive && plan_.service) alive = plan_.service->tick();
  auto report = looking.get();
  UPD_TRY(alive);
  return report;
}

base::Status Engine::commit() {
  // One last look at all of it: a hook, a disk or a stranger may have changed a file since.
  const std::string& version = recorder_.row().to_version;
  UPD_ASSIGN(const store::TreeReport report, verify_awake(version));
  recorder_.event("release.verified", report.problems.empty() ? "success" : "failure",
                  {{"entries", report.entries}, {"problems", report.problems}});
  if (!report.problems.empty())
    return Error(Code::damaged, "the tree of " + version +
                                    " changed after it was verified: " + report.problems.front());
  if (context_.interrupt != nullptr && context_.interrupt->requested())
    return Error(Code::interrupted, "stopped before the commit");
  base::failpoint::hit("deploy.before_commit_link");
  // a driver that was stopped until its lease ran out, or whose candidate just died, learns it here
  if (plan_.service) UPD_TRY(plan_.service->confirm());
  UPD_TRY(plan_.store->set_committed(version));
  plan_.committed = true;
  plan_.reason = plan_.manifest->probes.empty() ? "no_probes" : "healthy";
  base::failpoint::hit("deploy.after_commit_link");
  commit_service();
  base::failpoint::hit("deploy.after_commit_service");
  settle_boot();
  stage_summary_ = version + " is committed";
  return record_commit();
}

// The release is good; the app's mark for downgrades and its way back move.
base::Status Engine::record_commit() {
  const journal::DeploymentRow& row = recorder_.row();
  std::vector<journal::ReleaseRow> releases;
  journal::AppRow app;
  app.app = row.app;
  if (journal_ != nullptr) {
    if (auto known = journal_->releases(row.app)) releases = std::move(*known);
    if (auto known = journal_->app(row.app); known && *known) app = std::move(**known);
  }
  journal::ReleaseRow release;
  for (const journal::ReleaseRow& known : releases)
    if (known.version == row.to_version) release = known;
  if (release.version.empty()) {
    release.app = row.app;
    release.version = row.to_version;
    release.digest = row.to_digest;
    release.installed_us = base::wall_now_us();
    if (const auto size = base::disk_usage(plan_.store->path(row.to_version)))
      release.size_bytes = *size;
  }
  release.state = journal::ReleaseState::good;
  release.removed = false;
  release.trace_id = row.trace_id;
  const auto version = release::parse_semver(row.to_version);
  const auto mark = release::parse_semver(app.high_water);
  const bool moves_back = row.kind == "rollback" || row.allows_downgrade;
  if (moves_back || !version || !mark || release::precedence(*version, *mark) > 0)
    app.high_water = row.to_version;
  if (row.kind == "rollback") {
    app.previous = previous_release(releases, row.to_version, std::nullopt).value_or("");
  } else if (!row.from_version.empty() && row.from_version != row.to_version) {
    app.previous = row.from_version;
  }
  add_stage_detail("high_water", app.high_water);
  return recorder_.flush(&release, &app);
}

}  // namespace updagent::deploy
