// apply, rollback, recover: the verbs that drive a deployment.
#include <syslog.h>

#include <memory>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/deploy/notify.hpp"
#include "cli/journal_access.hpp"
#include "cli/progress.hpp"
#include "cli/verbs.hpp"

namespace updagent::cli {
namespace {

Json result_json(const deploy::DeployResult& result) {
  Json stages = Json::array();
  for (const deploy::StageRecord& stage : result.stages)
    stages.push_back({{"stage", stage.stage},
                      {"phase", stage.phase},
                      {"status", stage.status},
                      {"started_at", base::format_rfc3339(stage.started_us)},
                      {"duration_ms", static_cast<double>(stage.duration_us) / 1000.0}});
  Json document = {{"trace_id", result.trace_id},
                   {"app", result.app},
                   {"from", result.from.empty() ? Json(nullptr) : Json(result.from)},
                   {"to", result.to.empty() ? Json(nullptr) : Json(result.to)},
                   {"outcome", deploy::outcome_name(result.outcome)},
                   {"reason", result.reason},
                   {"bytes_downloaded", result.bytes_downloaded},
                   {"bytes_reused", result.bytes_reused},
                   {"stages", stages},
                   {"unproven_steps", result.unproven_steps}};
  if (result.dry_run) {
    document["dry_run"] = true;
    document["plan"] = result.plan;
  }
  return document;
}

// What an artifact said may stand in it, and need not be UTF-8.
std::string compact(const Json& document) {
  return document.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Nobody has judged it: ^C, SIGTERM, deployment abort.
bool was_stopped(const deploy::DeployResult& result) {
  return result.reason == base::info(base::Code::interrupted).name ||
         result.reason == base::info(base::Code::aborted).name;
}

std::string headline(Session& session, const deploy::DeployResult& result) {
  std::string what = result.app + " " + result.to;
  const std::string trace = session.dim("   trace " + result.trace_id);
  switch (result.outcome) {
    case deploy::Outcome::committed:
      return session.good("committed") + "    " + what +
             (result.from.empty() ? "" : " (was " + result.from + ")") + trace;
    case deploy::Outcome::unchanged:
      if (result.dry_run) return session.good("would apply") + "  " + what;
      return session.good("unchanged") + "    " + what + " is current already" + trace;
    case deploy::Outcome::rolled_back:
      if (result.requested_rollback)
        return session.good("rolled back") + "  " + result.app + " to " + result.to + " (was " +
               result.from + ")" + trace;
      return session.bad("ROLLED BACK") + "  " + what +
             (was_stopped(result) ? " was stopped: " : " was not good: ") +
             (result.from.empty() ? "nothing is current" : result.from + " is current again") +
             trace;
    case deploy::Outcome::rollback_failed:
      return session.bad("A PERSON IS NEEDED") + "  " + what + trace;
    case deploy::Outcome::refused:
      return session.bad("refused") + "      " + (result.to.empty() ? "" : what) + trace;
    case deploy::Outcome::aborted:
      return session.bad("aborted") + "      " + (result.to.empty() ? "" : what + ": ") +
             "nothing was changed" + trace;
  }
  return what;
}

// Nothing: of a first release nobody expects users.
std::string what_is_unproven(const deploy::DeployResult& result) {
  if (result.unproven_steps.empty() || result.from.empty()) return {};
  std::string percents;
  for (const int percent : result.unproven_steps)
    percents += (percents.empty() ? "" : ", ") + std::to_string(percent);
  return "the steps of " + percents + " % prove nothing: no new connection was " + result.to + "'s";
}

// Tells those whom the node's configuration names, then whoever asked: of these two only the second
// may wait for a reader.
base::Exit conclude(Session& session, const deploy::Context& context,
                    const deploy::DeployResult& result) {
  const base::Exit exit = result.exit();
  Json document = result_json(result);
  if (result.error) document["error"] = error_json(*result.error);
  if (exit == base::Exit::rollback_failed) {
    const std::string line = "updagent: " + result.app + ": a person is needed: " +
                             (result.error ? result.error->line() : result.reason);
    ::syslog(LOG_CRIT, "%s", line.c_str());
  }
  if (!result.dry_run) {
    deploy::notify(context, result, compact(document));
    session.deployment_ended();
  }
  if (result.error)
    static_cast<void>(session.fail(*result.error, result_json(result)));
  else
    session.document(document);
  session.print(headline(session, result));
  if (exit == base::Exit::rolled_back && was_stopped(result))
    session.print("  it counts as failed: updagent apply --retry tries it again");
  for (const std::string& line : result.plan) session.print("  " + base::printable(line));
  if (const std::string line = what_is_unproven(result); !line.empty()) session.print("  " + line);
  return exit;
}

struct ApplyOptions {
  std::string source;
  std::string app;
  std::string wait = "0s";
  std::string sha256;
  bool dry_run = false;
  bool allow_downgrade = false;
  bool retry = false;
  bool end_oldest = false;
};

base::Exit run_apply(Session& session, const ApplyOptions& options) {
  deploy::ApplyRequest request;
  request.source = options.source;
  request.permissions = {options.app, options.allow_downgrade, options.retry};
  request.dry_run = options.dry_run;
  request.end_oldest = options.end_oldest;
  request.wait = duration_of(options.wait);
  if (!options.sha256.empty()) {
    request.expect_sha256 = base::Digest::from_hex(options.sha256);
    if (!request.expect_sha256)
      return session.fail(base::Error(base::Code::usage, "--expect-sha256 is not a SHA-256")
                              .expected("64 lower-case hex digits, as sha256sum prints them")
                              .got("'" + options.sha256 + "'"));
  }
  ProgressObserver observer(session);
  const deploy::Context context = session.deploy_context(observer);
  const auto result = deploy::apply(context, request);
  if (!result) return session.fail(result.error());
  return conclude(session, context, *result);
}

struct RollbackOptions {
  std::string app;
  std::string actor;
  std::string to;
  std::string wait = "0s";
  bool force = false;
};

base::Exit run_rollback(Session& session, const RollbackOptions& options) {
  deploy::RollbackRequest request;
  request.app = options.app;
  if (!options.to.empty()) request.to = options.to;
  request.force = options.force;
  request.wait = duration_of(options.wait);
  ProgressObserver observer(session);
  const deploy::Context context = session.deploy_context(observer, options.actor);
  const auto result = deploy::rollback(context, request);
  if (!result) return session.fail(result.error());
  return conclude(session, context, *result);
}

struct RecoverOptions {
  std::string app;
  std::string actor;
  std::string wait = "0s";
  bool rebuild = false;
};

// The guardian and the boot unit have no terminal: what they could not mend must be seen somewhere.
void report_unattended(const std::string& actor, const deploy::RecoverReport& report) {
  if (actor.empty() || (!report.acted && !report.error)) return;
  ::syslog(report.error ? LOG_CRIT : LOG_NOTICE, "updagent recover (%s): %s: %s", actor.c_str(),
           report.app.c_str(), report.what.c_str());
}

base::Exit run_rebuild(Session& session, const deploy::Context& context) {
  const auto lines = deploy::rebuild(context);
  if (!lines) return session.fail(lines.error());
  session.document({{"rebuilt", *lines}});
  for (const std::string& line : *lines) session.print(line);
  session.print("the database was rebuilt from the trees; the log begins anew");
  return base::Exit::done;
}

// A slip of the fingers, unless something says that there was such an app. What can't be read can't
// say no.
bool is_unknown(Session& session, const std::string& app) {
  const config::Layout& layout = session.layout();
  if (base::exists(layout.app(app))) return false;
  if (!base::exists(layout.database())) return !events_wait(layout);
  auto journal = open_with_news(session);
  if (!journal || events_wait(layout)) return false;
  const auto row = journal->app(app);
  const auto deployment = journal->last_deployment(app);
  const auto open = journal->open_deployment(app);
  return row && !*row && deployment && !*deployment && open && !*open;
}

base::Exit run_recover(Session& session, const RecoverOptions& options) {
  ProgressObserver observer(session);
  const deploy::Context context = session.deploy_context(observer, options.actor);
  if (options.rebuild) return run_rebuild(session, context);
  if (!options.app.empty() && options.actor.empty() && is_unknown(session, options.app))
    return session.fail(
        base::Error(base::Code::not_found, "no app '" + options.app + "' was ever deployed here")
            .hint("updagent status lists the apps"));
  // the guardian waits for a driver that is being reaped; nobody waits for the guardian
  const base::Milliseconds wait =
      options.actor == "guardian" ? base::Milliseconds(10'000) : duration_of(options.wait);
  const auto reports = deploy::recover(context, options.app, wait);
  if (!reports) return session.fail(reports.error());
  base::Exit exit = base::Exit::done;
  Json apps = Json::array();
  for (const deploy::RecoverReport& report : *reports) {
    report_unattended(options.actor, report);
    Json entry = {{"app", report.app}, {"acted", report.acted}, {"what", report.what}};
    if (report.result) {
      entry["result"] = result_json(*report.result);
      deploy::notify(context, *report.result, compact(entry["result"]));
      session.deployment_ended();
    }
    if (report.error) {
      entry["error"] = error_json(*report.error);
      // a running deployment of one app among several is no failure of the others
      const bool just_busy = report.error->code() == base::Code::busy && options.app.empty();
      if (!just_busy && exit != base::Exit::rollback_failed) exit = report.error->exit();
    }
    apps.push_back(std::move(entry));
  }
  for (const deploy::RecoverReport& report : *reports) {
    session.print(report.app + ": " + base::printable(report.what));
    if (report.error && !report.error->hint().empty())
      session.print("  -> " + base::printable(report.error->hint()));
  }
  session.document({{"apps", apps}});
  if (reports->empty()) session.print("no app is known here");
  return exit;
}

}  // namespace

Run setup_apply(CLI::App& command) {
  const auto options = std::make_shared<ApplyOptions>();
  command
      .add_option("SOURCE", options->source,
                  "artifact: a file, an http(s) or file URL, or - for standard input")
      ->required();
  command.add_option("--app", options->app, "refuse a release of any other app")->type_name("NAME");
  command.add_flag("--dry-run", options->dry_run,
                   "fetch, verify and unpack into a throw-away place, say what would happen");
  command.add_flag("--allow-downgrade", options->allow_downgrade,
                   "accept a version below the highest committed one");
  command.add_flag("--retry", options->retry, "try a release again that was rolled back here");
  command.add_flag("--end-oldest", options->end_oldest,
                   "when too many old generations still drain, stop the oldest instead of waiting");
  command.add_option("--wait", options->wait, "wait for a running deployment of the same app")
      ->type_name("DURATION")
      ->capture_default_str()
      ->check(kDurationText);
  command
      .add_option("--expect-sha256", options->sha256,
                  "refuse any other file (digest of the artifact as a file)")
      ->type_name("HEX");
  return [options](Session& session) { return run_apply(session, *options); };
}

Run setup_rollback(CLI::App& command) {
  const auto options = std::make_shared<RollbackOptions>();
  command.add_option("APP", options->app, "the app")->required();
  command
      .add_option("--to", options->to, "a kept release (default: the good one before the current)")
      ->type_name("VERSION");
  command.add_option("--as", options->actor, "who asks, for the log")
      ->type_name("NAME")
      ->check(CLI::IsMember({"supervisor"}));
  command.add_flag("--force", options->force,
                   "also past a rollback_floor, or to a release that was never committed");
  command.add_option("--wait", options->wait, "wait for a running deployment of the same app")
      ->type_name("DURATION")
      ->capture_default_str()
      ->check(kDurationText);
  return [options](Session& session) { return run_rollback(session, *options); };
}

Run setup_recover(CLI::App& command) {
  const auto options = std::make_shared<RecoverOptions>();
  command.add_option("APP", options->app, "only this app");
  command.add_option("--as", options->actor, "who asks, for the log")
      ->type_name("NAME")
      ->check(CLI::IsMember({"guardian", "boot", "supervisor"}));
  command.add_option("--wait", options->wait, "wait for a running deployment")
      ->type_name("DURATION")
      ->capture_default_str()
      ->check(kDurationText);
  command.add_flag("--rebuild", options->rebuild,
                   "make a new database from the trees; the damaged one is kept aside");
  return [options](Session& session) { return run_recover(session, *options); };
}

}  // namespace updagent::cli
