#include "agent/deploy/engine.hpp"

#include "agent/base/failpoints.hpp"
#include "agent/deploy/node.hpp"

namespace updagent::deploy {

using base::Code;
using base::Error;

Engine::Engine(const Context& context, journal::Journal* journal, Plan plan,
               journal::DeploymentRow row)
    : context_(context),
      journal_(journal),
      plan_(std::move(plan)),
      recorder_(journal, context.journal_paths(), plan_.node_name, std::move(row),
                *context.observer) {}

// The life of a deployment: the table decides, the steps act.
DeployResult Engine::run(State first) {
  State state = first;
  for (int steps = 0; state != State::closed && !plan_.settled; ++steps) {
    const Event event = steps < kMaxSteps
                            ? step(state)
                            : fail(Error(Code::internal, "the deployment went in circles"));
    state = steps < kMaxSteps ? next_state(state, event, strategy()) : State::closed;
  }
  return finish();
}

Event Engine::step(State state) {
  // Decided but not closed: a restart in cleanup still knows how it ended.
  if (plan_.outcome) recorder_.row().outcome = outcome_name(*plan_.outcome);
  if (plan_.committed && !plan_.outcome) recorder_.row().outcome = outcome_name(Outcome::committed);
  stage_detail_ = journal::Json::object();
  stage_summary_.clear();
  base::Status status = recorder_.begin(state);
  base::failpoint::hit("deploy.begin." + std::string(state_name(state)));
  if (status) {
    switch (state) {
      case State::fetch:
        status = fetch();
        break;
      case State::verify:
        status = verify();
        break;
      case State::stage:
        status = stage();
        break;
      case State::pre_upgrade:
        status = pre_upgrade();
        break;
      case State::switching:
        status = switch_over();
        break;
      case State::watch:
        status = watch();
        break;
      case State::commit:
        status = commit();
        break;
      case State::abandon:
        status = abandon();
        break;
      case State::rollback:
        status = roll_back();
        break;
      case State::cleanup:
        status = cleanup();
        break;
      case State::start:
        status = start();
        break;
      case State::preflight:
        status = preflight(context_.interrupt);
        break;
      case State::shift:
        status = shift();
        break;
      case State::closed:
        status = Error(Code::internal, "a closed deployment has no step");
        break;
    }
  }
  if (!status && plan_.reader && !plan_.end_is_certain && plan_.reader->ended_too_early())
    status = fetch::cut_download(plan_.request.source, status.error());
  if (status) {
    recorder_.end("success", std::move(stage_detail_), stage_summary_);
    base::failpoint::hit("deploy.end." + std::string(state_name(state)));
    return Event::done;
  }
  stage_detail_["error"] = status.error().code_name();
  stage_detail_["message"] = status.error().line();
  recorder_.end("failure", std::move(stage_detail_), status.error().line());
  base::failpoint::hit("deploy.end." + std::string(state_name(state)));
  return fail(std::move(status).error());
}

Event Engine::fail(Error error) {
  const bool interrupted = error.code() == Code::interrupted;
  if (!plan_.error) {
    plan_.reason = error.code_name();
    plan_.error = std::move(error);
  }
  // kept in the row, so that a recovery of this deployment still knows why
  if (recorder_.row().reason.empty()) recorder_.row().reason = plan_.reason;
  return interrupted ? Event::interrupted : Event::failed;
}

void Engine::add_stage_detail(std::string_view name, journal::Json value) {
  stage_detail_[std::string(name)] = std::move(value);
}

// What hindered the journal may be over: whoever opens it imports what waits. If not, the next
// does. Where a service was not good its supervisor has said there why, and that is asked for now.
void Engine::import_spool() {
  const bool explained = strategy() != Strategy::files && plan_.outcome != Outcome::committed;
  if (!recorder_.spooled() && !explained) return;
  constexpr base::Milliseconds kBriefly{500};
  static_cast<void>(journal::Journal::open(context_.journal_paths(), plan_.node_name,
                                           journal::Journal::Mode::read_write,
                                           plan_.settings.audit_group, kBriefly));
}

DeployResult Engine::finish() {
  const journal::DeploymentRow& row = recorder_.row();
  DeployResult result;
  if (!plan_.outcome) {
    const bool refused = plan_.error && (plan_.error->exit() == base::Exit::refused ||
                                         plan_.error->exit() == base::Exit::damaged ||
                                         plan_.error->code() == Code::held);
    plan_.outcome = plan_.committed ? Outcome::committed
                    : refused       ? Outcome::refused
                                    : Outcome::aborted;
  }
  result.outcome = *plan_.outcome;
  result.reason = plan_.reason;
  if (plan_.settled) forget_download(false);
  if (plan_.request.dry_run) {
    plan_.staging.reset();
    remove_unused_app_folder();
  } else {
    base::failpoint::hit("deploy.before_close");
    journal::Json detail = {{"bytes_downloaded", row.bytes_downloaded},
                            {"bytes_reused", row.bytes_reused}};
    if (plan_.error) detail["message"] = plan_.error->line();
    // decided: a database that fails now must not leave the row open
    recorder_.stop_waiting_for_the_journal();
    const base::Status closed = recorder_.close(result.outcome, result.reason, std::move(detail));
    if (!closed) observer().warning("the end could not be recorded: " + closed.error().line());
    base::failpoint::hit("deploy.after_close");
  }
  plan_.guardian.dismiss();
  import_spool();
  if (journal_ != nullptr) show_warnings(context_, *journal_);
  result.trace_id = row.trace_id;
  result.app = row.app;
  result.from = row.from_version;
  result.to = row.to_version;
  result.bytes_downloaded = static_cast<std::uint64_t>(row.bytes_downloaded);
  result.bytes_reused = static_cast<std::uint64_t>(row.bytes_reused);
  result.stages = recorder_.stages();
  result.unproven_steps = plan_.unproven_steps;
  const bool good = result.outcome == Outcome::committed || result.outcome == Outcome::unchanged;
  if (!good) result.error = std::move(plan_.error);
  result.requested_rollback = row.kind == "rollback";
  result.dry_run = plan_.request.dry_run;
  if (result.dry_run && plan_.manifest && good)
    result.plan = describe_plan(*plan_.manifest, row.from_version, plan_.user.value_or(""),
                                plan_.settings.app, plan_.run ? &*plan_.run : nullptr);
  return result;
}

}  // namespace updagent::deploy
