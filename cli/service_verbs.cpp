// supervise, start, stop, restart: the service of an app, outside of deployments.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

#include "agent/base/file_lock.hpp"
#include "agent/deploy/driver_lock.hpp"
#include "agent/deploy/node.hpp"
#include "agent/deploy/order.hpp"
#include "agent/deploy/supervise.hpp"
#include "agent/deploy/unit.hpp"
#include "agent/store/store.hpp"
#include "cli/journal_access.hpp"
#include "cli/session.hpp"
#include "cli/verbs.hpp"

namespace updagent::cli {
namespace {

using base::Code;
using base::Error;
using base::Exit;

// The supervisor's connection is gone: it has ended, or died before all had.
base::Status ended(const Session& session, const std::string& app) {
  if (!deploy::has_living_generations(session.layout(), app)) return base::ok();
  return Error(Code::io_error,
               "the supervisor of '" + app + "' died before its service had stopped")
      .hint("updagent stop " + app + " again ends what is left");
}

// Services stop within their own time; past it the operator gets his prompt back.
base::Status stop_and_wait(const Session& session, service::Client& client, const std::string& app,
                           bool by_init) {
  UPD_ASSIGN(const Json answer, client.ask("stop", {{"by_init", by_init}}));
  const base::Deadline end =
      base::Deadline::in(base::Milliseconds(answer.value("patience_ms", std::int64_t{0})));
  while (!end.passed())
    if (!client.next_news(end.left(), nullptr)) return ended(session, app);
  return Error(Code::timed_out, "the service of '" + app + "' has not stopped yet")
      .hint("updagent status " + app);
}

// Whether the app is to be stopped, also after a boot. Nothing is recorded that is so already.
base::Status wish_stopped(Session& session, const std::string& app, bool stopped) {
  UPD_ASSIGN(VerbJournal journal, open_to_write(session));
  UPD_ASSIGN(const auto known, journal.app(app));
  journal::AppRow row = known.value_or(journal::AppRow());
  if (row.stopped == stopped) return base::ok();
  row.app = app;
  row.stopped = stopped;
  row.stopped_by = stopped ? actor_of_this_process() : "";
  row.stopped_us = stopped ? base::wall_now_us() : 0;
  return journal.wish_stopped(
      node_event(stopped ? "app.stopped" : "app.started", app, journal::Json::object()), row);
}

// systemd knows nothing of a supervisor that somebody started beside its unit, and would start a
// second one.
base::Status refuse_beside_unit(const Session& session, const std::string& app) {
  if (!deploy::runs_as_unit(session.layout()) || deploy::in_own_unit(app)) return base::ok();
  return Error(Code::usage, "where systemd runs the node, supervisors run as its units only")
      .expected("to be started as " + deploy::unit_name(app))
      .got("by hand")
      .hint("systemctl start " + deploy::unit_name(app) + ", or updagent start " + app);
}

base::Status become_supervisor(Session& session, const std::string& app,
                               const deploy::Order& order) {
  base::UniqueFd service;
  if (!order.service.empty()) {
    UPD_ASSIGN(service, service::text_descriptor(order.service));
    // the descriptor goes with the program that we become
    if (::fcntl(service.get(), F_SETFD, 0) != 0)
      return base::system_error(errno, "cannot keep a descriptor");
  }
  UPD_ASSIGN(std::vector<std::string> command,
             deploy::supervisor_command(session.layout(), app, service ? service.get() : -1));
  if (order.duty == deploy::Duty::end) command.insert(command.end(), {"--end", "1"});
  std::vector<char*> argv;
  argv.reserve(command.size() + 1);
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  // nothing of ours but the socket at which systemd waits for READY=1
  const char* socket = deploy::in_own_unit(app) ? std::getenv("NOTIFY_SOCKET") : nullptr;
  std::string notify = socket != nullptr ? std::string("NOTIFY_SOCKET=") + socket : "";
  char* environment[] = {notify.empty() ? nullptr : notify.data(), nullptr};
  ::execve(argv[0], argv.data(), environment);
  return base::system_error(errno, "cannot execute '" + command.front() + "'");
}

// Returns only when there is nothing to supervise.
base::Status supervise(Session& session, const std::string& app) {
  UPD_TRY(refuse_beside_unit(session, app));
  UPD_ASSIGN(const deploy::Order order, deploy::order_for(session.layout(), app));
  for (const std::string& line : order.warnings) session.warning(line);
  if (order.duty == deploy::Duty::nothing) return base::ok();
  return become_supervisor(session, app, order);
}

// Only a stop job ends the services. Told to stop by anything else, or not told by whom, they serve
// on: what serves against a wish can be stopped again, what was stopped by mistake is missed.
base::Status stop_for_systemd(Session& session, const std::string& app) {
  UPD_ASSIGN(const std::string job, deploy::unit_job(app));
  if (job != "stop") {
    session.note("systemd wants " + (job.empty() ? "nothing" : "'" + job + "'") + " of " +
                 deploy::unit_name(app) + ": the services serve on");
    return base::ok();
  }
  auto client = deploy::connect_supervisor(session.layout(), app);
  if (!client && client.error().code() == Code::not_found) return base::ok();
  if (!client) return std::move(client).error();
  return stop_and_wait(session, *client, app, true);
}

// Of what the supervisor says: the generation's row, null when it is gone.
Json row_of(const Json& answer, std::uint64_t generation) {
  for (const Json& one : answer.value("generations", Json::array()))
    if (one.value("number", std::uint64_t{0}) == generation) return one;
  return nullptr;
}

// What the supervisor itself waits at most until a generation serves or has failed: for the end of
// the one before it (strategy restart), and for its start.
base::Milliseconds start_patience(const Session& session, const std::string& app) {
  const config::AppSettings limits = session.settings(app).value_or(config::defaults()).app;
  return limits.max_drain_timeout + limits.max_stop_timeout + limits.max_ready_timeout;
}

Error not_serving(const std::string& app, const Json& row, const Json& answer) {
  const std::string problem = answer.value("problem", std::string());
  return Error(Code::probe_failed, problem.empty() ? "it is gone" : problem)
      .with_context("'" + app + "' " +
                    (row.is_null() || row.value("role", std::string()) != "active"
                         ? "was not restarted, what ran goes on"
                         : "does not come up, it is started again and again"))
      .hint("updagent status " + app + "; its output: updagent log --app " + app +
            " --json, or journalctl -t " + app);
}

// Whoever starts a service wants to know whether it serves.
base::Status wait_until_it_serves(const Session& session, service::Client& client,
                                  const std::string& app, std::uint64_t generation) {
  constexpr base::Milliseconds kLookAgain{100};  // a look is one message to the supervisor
  const base::Deadline end = base::Deadline::in(start_patience(session, app));
  for (;;) {
    UPD_ASSIGN(const Json answer, client.ask("status"));
    const Json row = row_of(answer, generation);
    const std::string state = row.is_null() ? "down" : row.value("state", std::string());
    if (state == "ready" && row.value("role", std::string()) == "active") return base::ok();
    if (state == "down" || state == "stopping") return not_serving(app, row, answer);
    if (end.passed())
      return Error(Code::timed_out, "'" + app + "' does not serve yet")
          .hint("updagent status " + app);
    UPD_TRY(client.next_news(kLookAgain, nullptr));
  }
}

struct Started {
  std::uint64_t generation = 0;
  bool ran_already = false;
};

base::Result<Started> restart(Session& session, const std::string& app, bool running_is_fine) {
  UPD_ASSIGN(const std::string run, deploy::sound_service_to_start(session.layout(), app));
  if (const base::Status recorded = wish_stopped(session, app, false); !recorded)
    session.warning(recorded.error().line() + ": if it was to stay stopped, a boot leaves it so");
  UPD_ASSIGN(service::Client client, deploy::ensure_supervisor(session.layout(), app));
  UPD_ASSIGN(const base::UniqueFd service, service::text_descriptor(run));
  UPD_ASSIGN(const Json before, client.ask("status"));
  UPD_ASSIGN(const Json answer,
             client.ask("restart", {{"running_is_fine", running_is_fine}}, service.get()));
  const auto generation = answer.value("generation", std::uint64_t{0});
  UPD_TRY(wait_until_it_serves(session, client, app, generation));
  return Started{generation, !row_of(before, generation).is_null()};
}

// False: nothing of it ran.
base::Result<bool> stop_service(Session& session, const std::string& app) {
  auto client = deploy::connect_supervisor(session.layout(), app);
  if (!client && client.error().code() != Code::not_found) return std::move(client).error();
  if (!client) {
    if (!deploy::has_living_generations(session.layout(), app)) return false;
    // its supervisor died: the next one ends them
    UPD_ASSIGN(client, deploy::ensure_supervisor(session.layout(), app));
  }
  UPD_TRY(stop_and_wait(session, *client, app, false));
  deploy::remove_empty_cgroups(session.layout(), app);
  return true;
}

// What has no service can't be stopped, unless something is left of a release that had one.
base::Status check_has_service(const Session& session, const store::AppStore& store) {
  UPD_ASSIGN(const store::Links links, store.links());
  if (!links.committed || deploy::connect_supervisor(session.layout(), store.name()))
    return base::ok();
  const auto manifest = store.description(*links.committed);
  if (!manifest || manifest->service) return base::ok();
  return Error(Code::strategy_unsupported,
               "'" + store.name() + "' " + *links.committed + " has no service to stop");
}

// Stopped whatever the journal says; what a boot does then is another matter, and told.
base::Result<bool> stop(Session& session, const std::string& app) {
  UPD_ASSIGN(const store::AppStore store,
             store::AppStore::open(session.layout().app(app), app, false));
  UPD_TRY(check_has_service(session, store));
  UPD_TRY(deploy::prepare_root(session.layout()));
  // no deployment begins meanwhile, and none that runs is cut short
  UPD_ASSIGN(const auto lock,
             deploy::take_driver_lock(session.layout(), app, base::Milliseconds(0), nullptr));
  const base::Status recorded = wish_stopped(session, app, true);
  UPD_ASSIGN(const bool ran, stop_service(session, app));
  if (recorded) return ran;
  return base::Error(recorded.error())
      .with_context("'" + app +
                    "' is stopped, but a boot starts it again: the wish could not be "
                    "recorded");
}

Exit run_supervise(Session& session, const std::string& app) {
  const base::Status done = supervise(session, app);
  if (!done) return session.fail(done.error());
  session.document({{"app", app}, {"supervised", false}});
  session.print(app + " is to be stopped: updagent start " + app);
  return Exit::done;
}

// ExecCondition=: 1 keeps the unit from being started, which is no failure of it.
Exit run_condition(Session& session, const std::string& app) {
  const auto duty = deploy::duty_of(session.layout(), app);
  const bool nothing = duty && *duty == deploy::Duty::nothing;
  session.document({{"app", app}, {"wanted", !nothing}});
  session.print(app + (nothing ? " is to be stopped" : " is to be supervised"));
  return nothing ? Exit::failed : Exit::done;
}

// The running supervisor becomes the program beside this one; nothing is interrupted.
base::Result<Json> upgrade(Session& session, const std::string& app) {
  UPD_ASSIGN(const std::vector<std::string> command,
             deploy::supervisor_command(session.layout(), app, -1));
  UPD_ASSIGN(service::Client client, deploy::connect_supervisor(session.layout(), app));
  UPD_ASSIGN(const Json answer, client.ask("upgrade", {{"program", command.front()}}));
  UPD_TRY(client.ask("status"));  // by the new program, on the same connection
  return Json{{"app", app}, {"pid", answer.value("pid", 0)}, {"program", command.front()}};
}

Exit run_upgrade(Session& session, const std::string& app) {
  const auto upgraded = upgrade(session, app);
  if (!upgraded) return session.fail(upgraded.error());
  session.document(*upgraded);
  session.print("upgraded  the supervisor of " + app + ", pid " +
                std::to_string((*upgraded)["pid"].get<int>()) + ", now " +
                (*upgraded)["program"].get<std::string>());
  return Exit::done;
}

Exit run_stopping(Session& session, const std::string& app) {
  const base::Status stopped = stop_for_systemd(session, app);
  return stopped ? Exit::done : session.fail(stopped.error());
}

Exit run_start(Session& session, const std::string& app, bool running_is_fine) {
  const auto started = restart(session, app, running_is_fine);
  if (!started) return session.fail(started.error());
  session.document({{"app", app}, {"generation", started->generation}});
  const std::string generation = ", generation " + std::to_string(started->generation);
  if (started->ran_already)
    session.print(app + " runs already" + generation);
  else
    session.print(std::string(running_is_fine ? "started" : "restarted") + "  " + app + generation);
  return Exit::done;
}

Exit run_stop(Session& session, const std::string& app) {
  const auto ran = stop(session, app);
  if (!ran) return session.fail(ran.error());
  session.document({{"app", app}, {"stopped", true}});
  session.print((*ran ? "stopped  " + app : app + " was not running") +
                "; a boot leaves it so until updagent start " + app);
  return Exit::done;
}

std::shared_ptr<std::string> app_option(CLI::App& command) {
  const auto app = std::make_shared<std::string>();
  command.add_option("APP", *app, "the app")->required();
  return app;
}

}  // namespace

Run setup_supervise(CLI::App& command) {
  struct Options {
    std::string app;
    bool condition = false;
    bool stopping = false;
    bool upgrade = false;
  };
  const auto options = std::make_shared<Options>();
  command.add_option("APP", options->app, "the app")->required();
  auto* condition = command.add_flag("--condition", options->condition,
                                     "for units: 1 when the app is to be stopped, and it is");
  command
      .add_flag("--stopping", options->stopping,
                "for units: end the service if systemd stops the unit, not if it restarts it")
      ->excludes(condition);
  command.add_flag(
      "--upgrade", options->upgrade,
      "the supervisor that runs becomes the installed program; nothing is interrupted");
  return [options](Session& session) {
    if (options->condition) return run_condition(session, options->app);
    if (options->stopping) return run_stopping(session, options->app);
    if (options->upgrade) return run_upgrade(session, options->app);
    return run_supervise(session, options->app);
  };
}

Run setup_start(CLI::App& command) {
  const auto app = app_option(command);
  return [app](Session& session) { return run_start(session, *app, true); };
}

Run setup_restart(CLI::App& command) {
  const auto app = app_option(command);
  return [app](Session& session) { return run_start(session, *app, false); };
}

Run setup_stop(CLI::App& command) {
  const auto app = app_option(command);
  return [app](Session& session) { return run_stop(session, *app); };
}

}  // namespace updagent::cli
