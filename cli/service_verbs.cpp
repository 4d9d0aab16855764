// supervise, start, stop, restart: the service of an app, outside of deployments.
#include <fcntl.h>
#include <unistd.h>

#include <memory>

#include "agent/deploy/supervise.hpp"
#include "cli/session.hpp"
#include "cli/verbs.hpp"

namespace updagent::cli {
namespace {

using base::Code;
using base::Error;
using base::Exit;

// Services stop within their own time; past this the operator gets his prompt back.
constexpr base::Milliseconds kStopPatience{120'000};

base::Status supervise(Session& session, const std::string& app) {
  UPD_ASSIGN(const std::string run, deploy::committed_service(session.layout(), app));
  UPD_ASSIGN(const base::UniqueFd service, service::text_descriptor(run));
  UPD_ASSIGN(const std::vector<std::string> command,
             deploy::supervisor_command(session.layout(), app, service.get()));
  // the descriptor goes with the program that we become
  if (::fcntl(service.get(), F_SETFD, 0) != 0)
    return base::system_error(errno, "cannot keep a descriptor");
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  char* environment[] = {nullptr};
  ::execve(argv[0], argv.data(), environment);
  return base::system_error(errno, "cannot execute '" + command.front() + "'");
}

base::Result<std::uint64_t> start_or_restart(Session& session, const std::string& app) {
  UPD_ASSIGN(const std::string run, deploy::committed_service(session.layout(), app));
  UPD_ASSIGN(service::Client client, deploy::ensure_supervisor(session.layout(), app));
  UPD_ASSIGN(const base::UniqueFd service, service::text_descriptor(run));
  UPD_ASSIGN(const Json answer, client.ask("restart", Json::object(), service.get()));
  return answer.value("generation", std::uint64_t{0});
}

base::Status stop(Session& session, const std::string& app) {
  UPD_ASSIGN(service::Client client, deploy::connect_supervisor(session.layout(), app));
  UPD_TRY(client.ask("stop"));
  const base::Deadline end = base::Deadline::in(kStopPatience);
  while (!end.passed()) {
    const auto news = client.next_news(end.left(), nullptr);
    if (!news) return base::ok();  // it ended, and its connection with it
  }
  return Error(Code::timed_out, "the service of '" + app + "' has not stopped yet")
      .hint("updagent status " + app);
}

Exit run_supervise(Session& session, const std::string& app) {
  return session.fail(supervise(session, app).error());
}

Exit run_start(Session& session, const std::string& app, std::string_view done) {
  const auto generation = start_or_restart(session, app);
  if (!generation) return session.fail(generation.error());
  session.document({{"app", app}, {"generation", *generation}});
  session.print(std::string(done) + "  " + app + ", generation " + std::to_string(*generation));
  return Exit::done;
}

Exit run_stop(Session& session, const std::string& app) {
  const base::Status stopped = stop(session, app);
  if (!stopped && stopped.error().code() != Code::not_found) return session.fail(stopped.error());
  session.document({{"app", app}, {"stopped", true}});
  session.print(stopped ? "stopped  " + app : app + " was not running");
  return Exit::done;
}

std::shared_ptr<std::string> app_option(CLI::App& command) {
  const auto app = std::make_shared<std::string>();
  command.add_option("APP", *app, "the app")->required();
  return app;
}

}  // namespace

Run setup_supervise(CLI::App& command) {
  const auto app = app_option(command);
  return [app](Session& session) { return run_supervise(session, *app); };
}

Run setup_start(CLI::App& command) {
  const auto app = app_option(command);
  return [app](Session& session) { return run_start(session, *app, "started"); };
}

Run setup_restart(CLI::App& command) {
  const auto app = app_option(command);
  return [app](Session& session) { return run_start(session, *app, "restarting"); };
}

Run setup_stop(CLI::App& command) {
  const auto app = app_option(command);
  return [app](Session& session) { return run_stop(session, *app); };
}

}  // namespace updagent::cli
