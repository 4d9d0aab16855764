// The commands of a release: when, as whom, with what; their end goes into the log.
#include <unistd.h>

#include <algorithm>

#include "agent/base/child_process.hpp"
#include "agent/base/failpoints.hpp"
#include "agent/base/text.hpp"
#include "agent/deploy/engine.hpp"
#include "agent/health/served_command.hpp"

namespace updagent::deploy {

using base::Code;
using base::Error;

namespace {

std::string name_in_messages(std::string_view hook, const base::ChildSpec& spec) {
  if (hook != kSmoke) return "hook " + std::string(hook);
  return "smoke command " + base::printable(spec.argv.front());
}

}  // namespace

base::Status Engine::reload_settings(const std::string& app) {
  UPD_ASSIGN(plan_.settings, config::load(context_.layout, context_.config_file, app));
  return base::ok();
}

CommandContext Engine::command_context(std::string_view hook) const {
  const journal::DeploymentRow& row = recorder_.row();
  CommandContext context;
  context.trace_id = row.trace_id;
  context.span_id = recorder_.span();
  context.app = row.app;
  context.from = row.from_version;
  context.to = row.to_version;
  const auto state = state_from_name(row.state);
  context.phase = state ? row_of(*state).phase : "";
  context.hook = hook;
  return context;
}

base::Result<std::string> Engine::user_of(const release::Manifest& manifest) const {
  return user_for(manifest, plan_.settings.app, ::geteuid() == 0, base::own_identity().user,
                  context_.layout.etc + "/apps.d/" + manifest.app + ".toml");
}

base::Result<RuntimePlace> Engine::place_for(const release::Manifest& manifest,
                                             const std::string& user) {
  return prepare_place(*plan_.store, context_.layout, manifest.version.text(), user);
}

base::Status Engine::run_hook(std::string_view name, const std::optional<release::Command>& command,
                              const release::Manifest& manifest, const std::string& user,
                              base::Interrupt* interrupt) {
  if (!command) return base::ok();
  UPD_ASSIGN(const RuntimePlace place, place_for(manifest, user));
  base::ChildSpec spec;
  spec.argv = command->argv;
  UPD_ASSIGN(spec.environment,
             command_environment(command_context(name), place, manifest, plan_.settings.app));
  spec.working_directory = place.release_directory;
  spec.identity = place.identity;
  spec.time_limit = std::min(command->timeout, plan_.settings.app.max_hook_timeout);
  // the candidate's share holds only as long as somebody says so
  health::ProbeContext awake;
  awake.interrupt = interrupt;
  if (plan_.service) awake.on_tick = [this] { return plan_.service->tick(); };
  return run_logged(name, spec, manifest, user, [&awake](const base::ChildSpec& what) {
    return awake.on_tick ? health::run_served(what, awake) : base::run_child(what, awake.interrupt);
  });
}

base::Status Engine::run_logged(std::string_view hook, const base::ChildSpec& spec,
                                const release::Manifest& manifest, const std::string& user,
                                const RunCommand& run) {
  const std::string called = name_in_messages(hook, spec);
  recorder_.event("hook.started", "started",
                  {{"hook", hook}, {"command", spec.argv}, {"user", user}});
  UPD_TRY(recorder_.flush());
  base::failpoint::hit("deploy.before_hook." + std::string(hook));
  const auto ran = run(spec);
  base::failpoint::hit("deploy.after_hook." + std::string(hook));
  if (!ran) {
    recorder_.event("hook.finished", "failure", {{"hook", hook}, {"problem", ran.error().line()}});
    // not of the command: who looks after the deployment meanwhile has ended it
    if (ran.error().code() == Code::aborted) return ran.error();
    return Error(Code::hook_failed, ran.error().message())
        .hint(ran.error().hint())
        .with_context(called);
  }
  recorder_.event("hook.finished", ran->success() ? "success" : "failure",
                  {{"hook", hook},
                   {"result", ran->describe(spec.time_limit)},
                   {"output", ran->output},
                   {"output_truncated", ran->output_truncated}},
                  ran->duration_us);
  if (ran->success()) return base::ok();
  if (ran->interrupted) return Error(Code::interrupted, "stopped during the " + called);
  std::string last_line = ran->output;
  while (!last_line.empty() && last_line.back() == '\n') last_line.pop_back();
  last_line = last_line.substr(last_line.find_last_of('\n') + 1);
  return Error(Code::hook_failed, "the " + called + " of " + manifest.version.text() + " failed")
      .expected("exit status 0")
      .got(ran->describe(spec.time_limit) + (last_line.empty() ? "" : ", saying: " + last_line))
      .hint("updagent log show " + recorder_.row().trace_id + " has its output");
}

}  // namespace updagent::deploy
