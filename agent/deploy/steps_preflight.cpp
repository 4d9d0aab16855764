// preflight: what a candidate must show through the production port before its first user.
#include <algorithm>

#include "agent/base/text.hpp"
#include "agent/deploy/engine.hpp"
#include "agent/deploy/production.hpp"
#include "agent/health/served_command.hpp"
#include "agent/health/warmup.hpp"

namespace updagent::deploy {

using base::Code;
using base::Error;

namespace {

// However short the node wants a watch to be, a service gets this long to come up.
constexpr base::Milliseconds kLeastProveLimit{600'000};

// By its name, or the first one that http can be asked of.
base::Result<release::Listener> warmup_listener(const release::Warmup& warmup,
                                                const std::vector<release::Listener>& listeners) {
  for (const release::Listener& listener : listeners) {
    const bool fits = warmup.listener.empty() || listener.name == warmup.listener;
    if (fits && listener.address.starts_with("tcp:")) return listener;
  }
  return Error(Code::manifest_invalid, "the service has no tcp listener to be warmed up through")
      .got(warmup.listener.empty() ? "none" : "'" + warmup.listener + "'");
}

base::Result<std::string> origin_of(const release::Listener& listener) {
  UPD_ASSIGN(
      const listen::Address address,
      listen::parse_address(listener.address, "listener '" + listener.name + "'", Code::internal));
  return "http://" + listen::reachable_address(address).text().substr(std::string("tcp:").size());
}

std::string count_text(std::size_t count, std::string_view what) {
  return std::to_string(count) + " " + std::string(what) + (count == 1 ? "" : "s");
}

}  // namespace

base::Result<health::ProbeContext> Engine::probe_context(const release::Manifest& manifest,
                                                         const std::string& user,
                                                         base::Interrupt* interrupt, bool steered) {
  UPD_ASSIGN(const RuntimePlace place, place_for(manifest, user));
  health::ProbeContext context;
  context.working_directory = place.release_directory;
  UPD_ASSIGN(context.environment,
             command_environment(command_context("probe"), place, manifest, plan_.settings.app));
  context.identity = place.identity;
  context.ca_file = plan_.settings.fetch.ca_file;
  context.interrupt = interrupt;
  context.prove_limit = std::max(plan_.settings.app.max_watch, kLeastProveLimit);
  if (!plan_.service) return context;
  context.on_tick = [this] { return plan_.service->tick(); };
  context.accepted = was_accepted;
  if (steered) context.steer = plan_.service->steer();
  if (!manifest.service) return context;
  // of the release that is asked, which a way back has not resolved
  const bool resolved = plan_.run && plan_.run->version == manifest.version.text();
  auto listeners = resolved ? plan_.run->service.listeners : manifest.service->listeners;
  if (!resolved)
    if (auto run = resolve(manifest, context_.layout, plan_.settings.app, user))
      listeners = std::move(run->run.service.listeners);
  context.wants_proxy_header = proxy_header_rule(listeners);
  return context;
}

base::Status Engine::open_doors(std::uint64_t generation, health::ProbeContext& context,
                                std::optional<ProbeDoors>& doors) {
  UPD_ASSIGN(doors, open_probe_doors(*plan_.service, generation, context.steer));
  auto& variables = context.environment;
  variables.insert(variables.end(), doors->environment.begin(), doors->environment.end());
  std::sort(variables.begin(), variables.end());
  context.served.push_back(doors->forwarder.served());
  return base::ok();
}

base::Status Engine::preflight(base::Interrupt* interrupt) {
  if (plan_.service->mechanism() != "steered") {
    stage_summary_ = "not possible: connections are shared";
    return base::ok();
  }
  const release::Manifest& manifest = *plan_.manifest;
  stage_summary_ = "no probes";
  if (!manifest.probes.empty()) UPD_TRY(prove_candidate(manifest, *plan_.user, interrupt));
  UPD_ASSIGN(health::ProbeContext context, probe_context(manifest, *plan_.user, interrupt, true));
  if (manifest.preflight.warmup) UPD_TRY(warm_up(context));
  if (!manifest.preflight.smoke.empty()) UPD_TRY(run_smoke(std::move(context)));
  // the last moment at which nothing has changed
  return plan_.service->confirm();
}

base::Status Engine::warm_up(const health::ProbeContext& context) {
  release::Warmup warmup = *plan_.manifest->preflight.warmup;
  warmup.timeout = std::min(warmup.timeout, plan_.settings.app.max_hook_timeout);
  UPD_ASSIGN(const release::Listener listener,
             warmup_listener(warmup, plan_.run->service.listeners));
  UPD_ASSIGN(const std::string origin, origin_of(listener));
  UPD_ASSIGN(const health::WarmupResult done,
             health::warm_up(warmup, origin, context, listener.proxy_protocol));
  add_stage_detail("warmup", {{"requests", done.wanted},
                              {"answered", done.answered},
                              {"timed_out", done.timed_out},
                              {"problem", done.problem}});
  if (done.interrupted) return Error(Code::interrupted, "stopped while the service warmed up");
  const std::string why = done.timed_out
                              ? "its time of " + base::format_duration(warmup.timeout) + " was over"
                              : done.problem;
  if (done.answered == 0)
    return Error(Code::probe_failed, "the warm-up got no answer at all from " + origin)
        .expected(count_text(static_cast<std::size_t>(done.wanted), "answer"))
        .got(why);
  stage_summary_ += ", warmed up with " + std::to_string(done.answered);
  if (done.answered < done.wanted) {
    stage_summary_ += " of " + std::to_string(done.wanted);
    observer().note("of the warm-up's requests " + std::to_string(done.wanted - done.answered) +
                    " had no answer: " + why);
  }
  stage_summary_ += done.wanted == 1 ? " request" : " requests";
  return base::ok();
}

base::Status Engine::run_smoke(health::ProbeContext context) {
  UPD_ASSIGN(const RuntimePlace place, place_for(*plan_.manifest, *plan_.user));
  UPD_ASSIGN(context.environment, command_environment(command_context(kSmoke), place,
                                                      *plan_.manifest, plan_.settings.app));
  std::optional<ProbeDoors> doors;
  UPD_TRY(open_doors(plan_.service->candidate().number, context, doors));
  const auto& commands = plan_.manifest->preflight.smoke;
  for (const release::Command& command : commands) {
    base::ChildSpec spec;
    spec.argv = command.argv;
    spec.environment = context.environment;
    spec.working_directory = context.working_directory;
    spec.identity = context.identity;
    spec.time_limit = std::min(command.timeout, plan_.settings.app.max_hook_timeout);
    const base::Status done = run_logged(
        kSmoke, spec, *plan_.manifest, *plan_.user,
        [&context](const base::ChildSpec& what) { return health::run_served(what, context); });
    if (!done && !doors->forwarder.problem().empty())
      observer().note("a smoke command's connection: " + doors->forwarder.problem());
    UPD_TRY(done);
  }
  stage_summary_ += ", " + count_text(commands.size(), "smoke command") + " passed";
  return base::ok();
}

// Before anything is touched: what a gate would wait for in vain after the switch.
base::Status Engine::check_questions() {
  if (strategy() == Strategy::files) return base::ok();
  std::optional<launch::CgroupSupport> cgroups;  // found out by trying
  for (const release::Gate& gate : plan_.manifest->gates) {
    if (gate.type != release::GateType::kernel) continue;
    if (!cgroups) cgroups = launch::find_cgroup_support();
    if (const std::string why = figure_nobody_knows(gate, *cgroups); !why.empty())
      return Error(Code::strategy_unsupported,
                   "the gate '" + gate.name + "' can't be judged on this node")
          .expected("cgroups that know '" + gate.condition + "'")
          .got(why)
          .hint("updagent doctor tells what this node has");
  }
  return strategy() == Strategy::handoff ? check_addresses() : base::ok();
}

// Two versions are told apart by the listeners alone.
base::Status Engine::check_addresses() {
  const auto& listeners = plan_.run->service.listeners;
  std::vector<std::string> tcp;
  for (const release::Listener& listener : listeners)
    if (listener.address.starts_with("tcp:")) tcp.push_back(listener.address);
  for (const AskedElsewhere& asked : asked_elsewhere(*plan_.manifest, listeners)) {
    if (asked.is_gate && !tcp.empty())
      return Error(Code::manifest_invalid,
                   "the " + asked.who + " would read one page for both versions")
          .expected("a url at one of the listeners, " + base::join(tcp, ", "))
          .got("'" + asked.where + "'")
          .hint(
              "serve the page through a listener; if this node moves one (run.listeners), the "
              "release must ask there");
    observer().warning(
        "the " + asked.who + " asks " + asked.where +
        ", where no listener of this release is: it proves nothing of the candidate");
  }
  return base::ok();
}

// Before the start: what this release asks for and will not get.
void Engine::say_what_is_missing() {
  if (plan_.service->mechanism() != "steered") {
    std::string text = "connections are shared and not steered: " + plan_.service->why_shared();
    if (strategy() == Strategy::handoff)
      text += "; so there is " + missing_when_shared(*plan_.manifest);
    observer().warning(text);
    return;
  }
  const std::string steps = steps_without_shares(*plan_.manifest, plan_.run->service.listeners);
  if (!steps.empty()) observer().warning(steps);
}

}  // namespace updagent::deploy
