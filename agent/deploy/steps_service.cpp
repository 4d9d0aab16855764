// start, preflight, shift, and what the other steps do for releases with a service.
#include <poll.h>

#include <algorithm>

#include "agent/base/failpoints.hpp"
#include "agent/deploy/engine.hpp"
#include "agent/listen/mechanism.hpp"

namespace updagent::deploy {

using base::Code;
using base::Error;

namespace {

// What the supervisor adds to a service's own time: its start, and a loop that has other work.
constexpr base::Milliseconds kStartMargin{15'000};

Error not_steered(const std::string& reason) {
  return Error(Code::strategy_unsupported,
               "connections can't be steered here, and the release does not allow less")
      .expected("the mechanism 'steered', or [service] allow_shared = true in the release")
      .got("'shared': " + reason)
      .hint("updagent doctor tells what is missing");
}

}  // namespace

Strategy Engine::strategy() const {
  if (!plan_.manifest) return Strategy::files;
  return strategy_from_name(plan_.manifest->strategy).value_or(Strategy::files);
}

// Before anything is touched: what would run, whether it may, and whether this machine can do it.
base::Status Engine::resolve_candidate() {
  if (strategy() == Strategy::files) return base::ok();
  UPD_ASSIGN(config::ServiceResolution found,
             resolve(*plan_.manifest, context_.layout, plan_.settings.app, *plan_.user));
  for (const std::string& name : found.unused_listeners)
    observer().warning("this node sets the address of a listener '" + name +
                       "' that this release does not have");
  plan_.run = std::move(found.run);
  if (strategy() != Strategy::handoff || plan_.run->service.allow_shared) return base::ok();
  const listen::MechanismFound mechanism = listen::find_mechanism();
  if (mechanism.mechanism == listen::Mechanism::steered) return base::ok();
  return not_steered(mechanism.reason);
}

base::Status Engine::reach_supervisor() {
  if (!plan_.service) {
    UPD_TRY(place_for(*plan_.manifest, *plan_.user));
    UPD_ASSIGN(service::Client client, ensure_supervisor(context_.layout, plan_.manifest->app));
    UPD_ASSIGN(plan_.service,
               ServiceDriver::begin(std::move(client), recorder_.row().trace_id, reconnection()));
  }
  // of a driver that died: its deployment is over, or we would not be here
  if (plan_.service->candidate().number != 0)
    UPD_TRY(plan_.service->roll_back("left over from another deployment"));
  return base::ok();
}

ServiceDriver::Reconnect Engine::reconnection() const {
  return [layout = context_.layout, app = recorder_.row().app] {
    // one that was told to stop has left nothing, and must not be started again
    return find_supervisor(layout, app);
  };
}

base::Status Engine::start_candidate(base::Interrupt* interrupt) {
  UPD_TRY(reach_supervisor());
  // the node can, but not beside a service that was adopted and can't be joined
  if (strategy() == Strategy::handoff && plan_.service->mechanism() != "steered" &&
      !plan_.run->service.allow_shared)
    return not_steered(plan_.service->why_shared());
  say_what_is_missing();
  RoomWish room;
  room.end_oldest = plan_.request.end_oldest;
  room.interrupt = interrupt;
  room.waiting = [this](const std::string& why) {
    observer().warning("waiting for room: " + why + " (--end-oldest stops it now)");
  };
  UPD_TRY(plan_.service->start(*plan_.run, room));
  base::failpoint::hit("deploy.after_start");
  if (plan_.run->service.ready == release::Ready::probe) {
    UPD_TRY(prove_candidate(*plan_.manifest, *plan_.user, interrupt));
    UPD_TRY(plan_.service->mark_ready());
  }
  UPD_TRY(plan_.service->wait_ready(plan_.run->max_ready_timeout + kStartMargin, interrupt));
  add_stage_detail("generation", plan_.service->candidate().number);
  add_stage_detail("mechanism", plan_.service->mechanism());
  stage_summary_ = "generation " + std::to_string(plan_.service->candidate().number) + " is ready";
  return base::ok();
}

base::Status Engine::start() {
  return start_candidate(context_.interrupt);
}

// Through the production port, and to nobody but the candidate.
base::Status Engine::prove_candidate(const release::Manifest& manifest, const std::string& user,
                                     base::Interrupt* interrupt) {
  return prove(manifest, user, base::Milliseconds(0), interrupt, true);
}

base::Status Engine::shift() {
  recorder_.stop_waiting_for_the_journal();
  base::failpoint::hit("deploy.before_shift");
  if (strategy() == Strategy::restart) {
    UPD_TRY(start_candidate(context_.interrupt));
  } else {
    UPD_TRY(open_rollout());
    UPD_TRY(tell_of_rollout(plan_.rollout->take_steps()));
  }
  base::failpoint::hit("deploy.after_shift");
  return base::ok();
}

// The link is the truth; a supervisor that misses this reads it there.
void Engine::commit_service() {
  if (plan_.service) {
    const base::Status committed = plan_.service->commit();
    if (!committed) observer().warning("the supervisor: " + committed.error().line());
    return;
  }
  if (strategy() != Strategy::files) return;
  // a service of the release before has no successor
  auto client = connect_supervisor(context_.layout, recorder_.row().app);
  if (client) static_cast<void>(client->ask("stop"));
}

// Users are with the old one already; the supervisor starts it again where nothing of it is left.
void Engine::roll_back_service(const std::string& target) {
  if (!plan_.service) return;
  plan_.rollout.reset();
  plan_.doors.reset();
  const base::Status done = plan_.service->roll_back(plan_.reason, service_of(target));
  if (done) return;
  observer().warning("the supervisor: " + done.error().line() +
                     ", the lease of its traffic ends by itself");
  // until then the old release's probes would reach the candidate
  ::poll(nullptr, 0, static_cast<int>(plan_.service->lease_left().count()));
}

std::optional<release::ResolvedService> Engine::service_of(const std::string& version) {
  if (version.empty()) return std::nullopt;
  const auto manifest = plan_.store->description(version);
  if (manifest && !manifest->service) return std::nullopt;
  const auto user = manifest ? user_of(*manifest) : base::Result<std::string>(manifest.error());
  auto found = user ? resolve(*manifest, context_.layout, plan_.settings.app, *user)
                    : base::Result<config::ServiceResolution>(user.error());
  if (found) return std::move(found->run);
  observer().warning(found.error().line());
  return std::nullopt;
}

// It may have died while it was the standby: then it is being started again.
base::Status Engine::wait_for_the_old_one(const release::Manifest& manifest) {
  if (!plan_.service || !manifest.service) return base::ok();
  return plan_.service->wait_active(
      std::min(manifest.service->ready_timeout, plan_.settings.app.max_ready_timeout) +
      kStartMargin);
}

void Engine::end_service() {
  plan_.rollout.reset();
  plan_.doors.reset();
  if (!plan_.service) return;
  const base::Status ended = plan_.service->end();
  if (!ended) observer().warning("the supervisor: " + ended.error().line());
  plan_.service.reset();
}

// A recovery finds the supervisor as it is; where none runs, nothing of the app does.
void Engine::find_service() {
  if (!plan_.store) return;
  if (!plan_.manifest) {
    auto manifest = plan_.store->description(recorder_.row().to_version);
    if (!manifest) return;
    if (strategy_from_name(manifest->strategy).value_or(Strategy::files) == Strategy::files) return;
    plan_.manifest = std::move(*manifest);
  }
  auto client = find_supervisor(context_.layout, recorder_.row().app);
  if (!client) {
    if (client.error().code() != Code::not_found)
      observer().warning("the supervisor: " + client.error().line());
    return;
  }
  auto driver = ServiceDriver::begin(std::move(*client), recorder_.row().trace_id, reconnection());
  if (driver)
    plan_.service = std::move(*driver);
  else
    observer().warning("the supervisor: " + driver.error().line());
}

// `updagent rollback` of a service: the older release is proved like any candidate, and until it is
// good the present one serves.
base::Status Engine::serve_requested(const std::string& target) {
  UPD_ASSIGN(plan_.manifest, plan_.store->description(target));
  UPD_ASSIGN(plan_.user, user_of(*plan_.manifest));
  if (strategy() == Strategy::files) return base::ok();
  UPD_TRY(resolve_candidate());
  if (strategy() == Strategy::restart) return start_candidate(nullptr);
  UPD_TRY(start_candidate(nullptr));
  UPD_TRY(preflight(nullptr));
  return plan_.service->set_weight(kFullWeight);
}

}  // namespace updagent::deploy
